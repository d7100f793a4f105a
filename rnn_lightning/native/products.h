/* The matrix products of one instruction set and number type, for a block of RB rows and for a single
   row.

   Set before inclusion, beside what vectors.h wants: UT (units of a tile of the block product), MJ and
   MK (a tile of the weight gradient), such that the accumulators fill the registers. */

/* ---- A block: out[j][RB] (+)= sum of w[j][k] in[k][RB], the weights packed in tiles [k][units]. ---- */

INLINE void FN(tile)(const int units, const int chains, int64_t K, const REAL *restrict w,
                     const REAL *restrict in, REAL *restrict out, int add) {
  V sum[4][UT][NV];
  EACH(c, chains)
    EACH(u, units)
      EACH(v, NV) sum[c][u][v] = add && c == 0 ? LD(out + u * RB + v * VL) : (V){0};
  int64_t k = 0;
  for (; k + chains <= K; k += chains)
    EACH(c, chains) {
      V x[NV];
      EACH(v, NV) x[v] = LD(in + v * VL);
      EACH(u, units)
        EACH(v, NV) sum[c][u][v] += w[u] * x[v];
      w += units, in += RB;
    }
  for (; chains > 1 && k < K; k++, w += units, in += RB)
    EACH(u, units)
      EACH(v, NV) sum[0][u][v] += w[u] * LD(in + v * VL);
  EACH(u, units)
    EACH(v, NV) {
      V total = sum[0][u][v];
      UNROLL for (int c = 1; c < chains; c++)
        total += sum[c][u][v];
      ST(out + u * RB + v * VL, total);
    }
}

/* J units in the fewest tiles of nearly one size. */
static void FN(block_product)(int64_t J, int64_t K, const REAL *w, const REAL *in, REAL *out, int add) {
  const int64_t tiles = (J + UT - 1) / UT;
  for (int64_t i = 0, j = 0; i < tiles; i++) {
    const int64_t units = (i + 1) * J / tiles - j;
    switch (units) {
#define CASE(u, chains)                                                                                      \
  case u: FN(tile)(u, chains, K, w, in, out, add); break
      CASE(1, 4 / NV); /* several sums of few units hide the latency of the addition */
      CASE(2, NV == 1 ? 2 : 1);
#if UT > 2
      CASE(3, 1);
      CASE(4, 1);
#endif
#if UT > 4
      CASE(5, 1);
      CASE(6, 1);
#endif
#if UT > 6
      CASE(7, 1);
      CASE(8, 1);
#endif
#undef CASE
    }
    j += units, w += units * K, out += units * RB;
  }
}

/* ---- A row: out[j] (+)= sum of w[j][k] in[k], the weights packed in strips [k][vectors]. ---- */

INLINE void FN(strip)(const int vectors, const int chains, int64_t K, const REAL *restrict w,
                      const REAL *restrict in, REAL *restrict out, int add) {
  V sum[4][8];
  EACH(c, chains)
    EACH(v, vectors) sum[c][v] = add && c == 0 ? LD(out + v * VL) : (V){0};
  int64_t k = 0;
  for (; k + chains <= K; k += chains)
    EACH(c, chains) {
      EACH(v, vectors) sum[c][v] += in[k + c] * LD(w + v * VL);
      w += vectors * VL;
    }
  for (; chains > 1 && k < K; k++, w += vectors * VL)
    EACH(v, vectors) sum[0][v] += in[k] * LD(w + v * VL);
  EACH(v, vectors) {
    V total = sum[0][v];
    UNROLL for (int c = 1; c < chains; c++)
      total += sum[c][v];
    ST(out + v * VL, total);
  }
}

/* Vectors of the next strip, of so many left. */
static int64_t FN(strip_of)(int64_t left) { return left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1; }

static void FN(row_product)(int64_t J, int64_t K, const REAL *w, const REAL *in, REAL *out, int add) {
  for (int64_t left = ROUND(J) / VL; left > 0;) {
    const int64_t vectors = FN(strip_of)(left);
    switch (vectors) {
    case 8: FN(strip)(8, 1, K, w, in, out, add); break;
    case 4: FN(strip)(4, 2, K, w, in, out, add); break;
    case 2: FN(strip)(2, 4, K, w, in, out, add); break;
    default: FN(strip)(1, 4, K, w, in, out, add);
    }
    left -= vectors, w += vectors * VL * K, out += vectors * VL;
  }
}

/* ---- Both: J outputs of K inputs, and the packing of their weights a[j * sj + k * sk]. ---- */

static const REAL *FN(product)(int64_t lanes, int64_t J, int64_t K, const REAL *w, const REAL *in, REAL *out,
                               int add) {
  if (lanes > 1) FN(block_product)(J, K, w, in, out, add);
  else FN(row_product)(J, K, w, in, out, add);
  return w + (lanes > 1 ? J : ROUND(J)) * K;
}

static REAL *FN(pack)(int64_t lanes, int64_t J, int64_t K, const REAL *a, int64_t sj, int64_t sk, REAL *to) {
  if (lanes == 1) {
    for (int64_t j = 0, end; j < ROUND(J); j = end) {
      end = j + FN(strip_of)((ROUND(J) - j) / VL) * VL;
      for (int64_t k = 0; k < K; k++)
        for (int64_t u = j; u < end; u++) *to++ = u < J ? a[u * sj + k * sk] : 0;
    }
    return to;
  }
  const int64_t tiles = (J + UT - 1) / UT;
  for (int64_t i = 0, j = 0; i < tiles; i++) {
    const int64_t end = (i + 1) * J / tiles;
    for (int64_t k = 0; k < K; k++)
      for (int64_t u = j; u < end; u++) *to++ = a[u * sj + k * sk];
    j = end;
  }
  return to;
}

/* ---- Weight gradients: dw[j][k] += sum over steps and rows of g[step][j] s[step][k]. ---- */

/* Lanes are kept apart over all steps and summed once a tile; a tile at the edge reads past J and K,
   within slack. */
static void FN(block_gradient)(int64_t J, int64_t K, int64_t steps, const REAL *g, int64_t g_step,
                               const REAL *s, int64_t s_step, REAL *dw, int64_t stride) {
  for (int64_t j = 0; j < J; j += MJ)
    for (int64_t k = 0; k < K; k += MK) {
      V sum[MJ * MK + VL];
      EACH(i, MJ * MK) sum[i] = (V){0};
      const REAL *gt = g + j * RB, *st = s + k * RB;
      for (int64_t t = 0; t < steps; t++, gt += g_step, st += s_step)
        EACH(v, NV) {
          V b[MK];
          EACH(i, MK) b[i] = LD(st + i * RB + v * VL);
          EACH(a, MJ) {
            const V x = LD(gt + a * RB + v * VL);
            EACH(i, MK) sum[a * MK + i] += x * b[i];
          }
        }
      REAL total[MJ * MK + VL];
      UNROLL for (int i = 0; i < MJ * MK; i += VL) {
        V m[VL];
        EACH(q, VL) m[q] = i + q < MJ * MK ? sum[i + q] : (V){0};
        ST(total + i, FN(sums)(m));
      }
      for (int a = 0; a < MJ && j + a < J; a++)
        for (int i = 0; i < MK && k + i < K; i++) dw[(j + a) * stride + k + i] += total[a * MK + i];
    }
}

INLINE void FN(outer)(const int units, const int vectors, int64_t steps, const REAL *g, int64_t g_step,
                      const REAL *s, int64_t s_step, REAL *dw, int64_t stride) {
  V sum[4][2];
  EACH(a, units)
    EACH(v, vectors) sum[a][v] = LD(dw + a * stride + v * VL);
  for (int64_t t = 0; t < steps; t++, g += g_step, s += s_step)
    EACH(a, units)
      EACH(v, vectors) sum[a][v] += g[a] * LD(s + v * VL);
  EACH(a, units)
    EACH(v, vectors) ST(dw + a * stride + v * VL, sum[a][v]);
}

static void FN(row_gradient)(int64_t J, int64_t K, int64_t steps, const REAL *g, int64_t g_step,
                             const REAL *s, int64_t s_step, REAL *dw, int64_t stride) {
  for (int64_t j = 0; j < J; j += J - j >= 4 ? 4 : 1)
    for (int64_t k = 0; k < K;) {
      REAL *to = dw + j * stride + k;
      const int pair = K - k > VL;
      if (J - j >= 4 && pair) FN(outer)(4, 2, steps, g + j, g_step, s + k, s_step, to, stride);
      else if (J - j >= 4) FN(outer)(4, 1, steps, g + j, g_step, s + k, s_step, to, stride);
      else if (pair) FN(outer)(1, 2, steps, g + j, g_step, s + k, s_step, to, stride);
      else FN(outer)(1, 1, steps, g + j, g_step, s + k, s_step, to, stride);
      k += pair ? 2 * VL : VL;
    }
}

static void FN(gradient)(int64_t lanes, int64_t J, int64_t K, int64_t steps, const REAL *g, int64_t g_step,
                         const REAL *s, int64_t s_step, REAL *dw, int64_t stride) {
  if (lanes > 1) FN(block_gradient)(J, K, steps, g, g_step, s, s_step, dw, stride);
  else FN(row_gradient)(J, K, steps, g, g_step, s, s_step, dw, stride);
}
