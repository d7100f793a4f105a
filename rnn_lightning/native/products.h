/* The matrix products of one instruction set and number type, for a block of RB rows and for a single
   row.

   Set before inclusion, beside what vectors.h wants: UT, units of a tile, such that the accumulators fill
   the registers. */

#if UT == 8
#define UNITS(M) M(1); M(2); M(3); M(4); M(5); M(6); M(7); M(8)
#elif UT == 6
#define UNITS(M) M(1); M(2); M(3); M(4); M(5); M(6)
#elif UT == 4
#define UNITS(M) M(1); M(2); M(3); M(4)
#else
#define UNITS(M) M(1); M(2)
#endif

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

/* J units in the fewest tiles of nearly one size; the blocks of a team one after another under each tile. */
static void FN(block_product)(int64_t J, int64_t K, const REAL *w, int64_t team, const REAL *const *in,
                              REAL *const *out, int add) {
  const int64_t tiles = (J + UT - 1) / UT;
  for (int64_t i = 0, j = 0; i < tiles; i++) {
    const int64_t units = (i + 1) * J / tiles - j;
    for (int64_t b = 0; b < team; b++)
      switch (units) {
/* Several sums of few units hide the latency of the addition. */
#define CHAINS(u) ((u) == 1 ? 4 / NV : (u) == 2 && NV == 1 ? 2 : 1)
#define CASE(u)                                                                                              \
  case u: FN(tile)(u, CHAINS(u), K, w, in[b], out[b] + j * RB, add); break
        UNITS(CASE);
#undef CASE
      }
    j += units, w += units * K;
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

static void FN(row_product)(int64_t J, int64_t K, const REAL *w, int64_t team, const REAL *const *in,
                            REAL *const *out, int add) {
  for (int64_t left = ROUND(J) / VL, j = 0; left > 0;) {
    const int64_t vectors = FN(strip_of)(left);
    for (int64_t b = 0; b < team; b++)
      switch (vectors) {
      case 8: FN(strip)(8, 1, K, w, in[b], out[b] + j, add); break;
      case 4: FN(strip)(4, 2, K, w, in[b], out[b] + j, add); break;
      case 2: FN(strip)(2, 4, K, w, in[b], out[b] + j, add); break;
      default: FN(strip)(1, 4, K, w, in[b], out[b] + j, add);
      }
    left -= vectors, w += vectors * VL * K, j += vectors * VL;
  }
}

/* ---- Both: J outputs of K inputs, and the packing of their weights a[j * sj + k * sk]. ---- */

/* For all units of a team; and for one. */
static const REAL *FN(products)(int64_t lanes, int64_t J, int64_t K, const REAL *w, int64_t team,
                                const REAL *const *in, REAL *const *out, int add) {
  if (lanes > 1) FN(block_product)(J, K, w, team, in, out, add);
  else FN(row_product)(J, K, w, team, in, out, add);
  return w + (lanes > 1 ? J : ROUND(J)) * K;
}

static const REAL *FN(product)(int64_t lanes, int64_t J, int64_t K, const REAL *w, const REAL *in, REAL *out,
                               int add) {
  return FN(products)(lanes, J, K, w, 1, &in, &out, add);
}

/* The units [j, end) of a strip, those from J on zero. */
static void FN(pack_strip)(int64_t j, int64_t end, int64_t J, int64_t K, const REAL *a, int64_t sj, int64_t sk,
                           REAL *to) {
  const int64_t width = end - j, whole = end <= J && sk == 1 ? K / VL * VL : 0;
  for (int64_t k = 0; k < whole; k += VL)
    for (int64_t u = 0; u < width; u += VL) {
      V m[VL];
      EACH(i, VL) m[i] = LD(a + (j + u + i) * sj + k);
      FN(transpose)(m);
      EACH(i, VL) ST(to + (k + i) * width + u, m[i]);
    }
  for (int64_t k = whole; k < K; k++)
    for (int64_t u = 0; u < width; u++) to[k * width + u] = j + u < J ? a[(j + u) * sj + k * sk] : 0;
}

static REAL *FN(pack)(int64_t lanes, int64_t J, int64_t K, const REAL *a, int64_t sj, int64_t sk, REAL *to) {
  if (lanes == 1) {
    for (int64_t j = 0, end; j < ROUND(J); to += (end - j) * K, j = end) {
      end = j + FN(strip_of)((ROUND(J) - j) / VL) * VL;
      FN(pack_strip)(j, end, J, K, a, sj, sk, to);
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

#define STRIP_STEPS 16 /* what is transposed at a time, RB numbers wide: a strip of panels */
#define STRIP_PANELS 4

/* Units by the columns of a panel [step][row][RB], `width` of them in so many vectors. */
INLINE void FN(gradient_tile)(const int units, const int vectors, int64_t width, int64_t steps,
                              const REAL *restrict g, int64_t g_step, const REAL *restrict panel, REAL *dw,
                              int64_t stride) {
  V sum[UT][NV];
  EACH(u, units)
    EACH(v, vectors) sum[u][v] = (V){0};
  for (; steps > 0; steps--, g += g_step)
    for (int64_t row = 0; row < RB; row++, panel += RB) {
      V x[NV];
      EACH(v, vectors) x[v] = LD(panel + v * VL);
      EACH(u, units)
        EACH(v, vectors) sum[u][v] += g[u * RB + row] * x[v];
    }
  EACH(u, units) {
    REAL part[RB] = {0}, *to = dw + u * stride;
    if (width == vectors * VL) {
      EACH(v, vectors) ST(to + v * VL, LD(to + v * VL) + sum[u][v]);
    } else {
      EACH(v, vectors) ST(part + v * VL, sum[u][v]);
      for (int64_t k = 0; k < width; k++) to[k] += part[k];
    }
  }
}

/* In strips of inputs, transposed once, that stay in the caches while all units read them. */
static void FN(block_gradient)(int64_t J, int64_t K, int64_t steps, const REAL *g, int64_t g_step,
                               const REAL *s, int64_t s_step, REAL *dw, int64_t stride) {
  REAL strip[STRIP_PANELS][STRIP_STEPS * RB * RB];
  for (int64_t t = 0; t < steps; t += STRIP_STEPS)
    for (int64_t k0 = 0; k0 < K; k0 += STRIP_PANELS * RB) {
      const int64_t count = steps - t < STRIP_STEPS ? steps - t : STRIP_STEPS;
      const int64_t end = k0 + STRIP_PANELS * RB < K ? k0 + STRIP_PANELS * RB : K;
      for (int64_t k = k0, p = 0; k < end; k += RB, p++) {
        const int64_t width = end - k < RB ? end - k : RB;
        if (width < RB) memset(strip[p], 0, count * RB * RB * sizeof(REAL));
        for (int64_t i = 0; i < count; i++)
          FN(store_block)(strip[p] + i * RB * RB, RB, RB, 1, width, s + (t + i) * s_step + k * RB, 0);
      }
      for (int64_t j = 0, units; j < J; j += units) {
        units = J - j >= UT ? UT : UT > 2 && J - j >= UT / 2 ? UT / 2 : 1;
        for (int64_t k = k0, p = 0; k < end; k += RB, p++) {
          const int64_t width = end - k < RB ? end - k : RB;
          const REAL *gt = g + t * g_step + j * RB;
          REAL *to = dw + j * stride + k;
          if (units == UT && width <= VL)
            FN(gradient_tile)(UT, 1, width, count, gt, g_step, strip[p], to, stride);
          else if (units == UT) FN(gradient_tile)(UT, NV, width, count, gt, g_step, strip[p], to, stride);
          else if (units > 1) FN(gradient_tile)(UT / 2, NV, width, count, gt, g_step, strip[p], to, stride);
          else FN(gradient_tile)(1, NV, width, count, gt, g_step, strip[p], to, stride);
        }
      }
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
