/* The product of rows and of their negatives: sums over the differences, which change sign, over the even
   features, which do not, and over the hidden units of each, in one pass over the weights. */
#if VL == 16
#define MU 8 /* units of a tile: with two sums a vector they fill the registers */
#elif VL == 8
#define MU 3
#elif defined(__aarch64__)
#define MU 2
#else
#define MU 1
#endif

INLINE void FN(mirrored_tile)(const int units, int64_t D, int64_t E, int64_t H, const float *restrict w,
                              const float *restrict x, const float *restrict even,
                              const float *restrict h_rows, const float *restrict h_negatives,
                              float *restrict rows, float *restrict negatives) {
  V odd[MU][NV], sum[MU][NV];
  EACH(u, units)
  EACH(v, NV) odd[u][v] = sum[u][v] = (V){0};
  const int64_t both = D < E ? D : E;
  for (int64_t k = 0; k < both; k++, w += 2 * units) {
    V each[MU];
    EACH(u, units) each[u] = NUMBER(w[u]);
    EACH(v, NV) {
      const V a = LD(x + k * RB + v * VL);
      EACH(u, units) odd[u][v] += each[u] * a;
    }
    EACH(u, units) each[u] = NUMBER(w[units + u]);
    EACH(v, NV) {
      const V b = LD(even + k * RB + v * VL);
      EACH(u, units) sum[u][v] += each[u] * b;
    }
  }
  for (int64_t k = both; k < D; k++, w += units) EACH(v, NV)
  EACH(u, units) odd[u][v] += w[u] * LD(x + k * RB + v * VL);
  for (int64_t k = both; k < E; k++, w += units) EACH(v, NV)
  EACH(u, units) sum[u][v] += w[u] * LD(even + k * RB + v * VL);
  EACH(u, units)
  EACH(v, NV) {
    const V difference = odd[u][v];
    odd[u][v] = sum[u][v] - difference, sum[u][v] += difference;
  }
  for (int64_t k = 0; k < H; k++, w += units) {
    V each[MU];
    EACH(u, units) each[u] = NUMBER(w[u]);
    EACH(v, NV) {
      const V a = LD(h_rows + k * RB + v * VL);
      EACH(u, units) sum[u][v] += each[u] * a;
    }
    EACH(v, NV) {
      const V b = LD(h_negatives + k * RB + v * VL);
      EACH(u, units) odd[u][v] += each[u] * b;
    }
  }
  EACH(u, units)
  EACH(v, NV) ST(rows + u * RB + v * VL, sum[u][v]), ST(negatives + u * RB + v * VL, odd[u][v]);
}

static const float *FN(mirrored_product)(int64_t J, int64_t D, int64_t E, int64_t H, const float *w,
                                         const float *x, const float *even, const float *h_rows,
                                         const float *h_negatives, float *rows, float *negatives) {
  for (int64_t j = 0, units; j < J; j += units) {
    units = J - j >= MU ? MU : 1;
    if (units == MU)
      FN(mirrored_tile)(MU, D, E, H, w, x, even, h_rows, h_negatives, rows, negatives);
    else
      FN(mirrored_tile)(1, D, E, H, w, x, even, h_rows, h_negatives, rows, negatives);
    w += units * (D + E + H), rows += units * RB, negatives += units * RB;
  }
  return w;
}

/* Rows [h | differences | even] of a matrix, `length` apart, as that product reads them. */
static float *FN(pack_mirrored)(int64_t J, int64_t D, int64_t E, int64_t H, const float *a, int64_t length,
                                float *to) {
  const int64_t both = D < E ? D : E;
  for (int64_t j = 0, units; j < J; j += units, a += units * length) {
    units = J - j >= MU ? MU : 1;
#define COLUMN(k)                                                                                            \
  for (int64_t u = 0; u < units; u++) *to++ = a[u * length + (k)]
    for (int64_t k = 0; k < both; k++) {
      COLUMN(H + k);
      COLUMN(H + D + k);
    }
    for (int64_t k = both; k < D; k++) COLUMN(H + k);
    for (int64_t k = both; k < E; k++) COLUMN(H + D + k);
    for (int64_t k = 0; k < H; k++) COLUMN(k);
#undef COLUMN
  }
  return to;
}
