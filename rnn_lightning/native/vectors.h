/* Vectors of one instruction set and number type: arithmetic, activations, transposition.

   Set before inclusion: REAL (float or double), SIZE (its bytes), VBYTES (bytes of a vector), FN(name)
   (a suffix for the names of this instruction set and type). A cache line of 64 bytes holds RB numbers
   and NV vectors. */
#define VL (VBYTES / SIZE)
#define RB (64 / SIZE)
#define NV (64 / VBYTES)
typedef REAL FN(vec) __attribute__((vector_size(VBYTES), aligned(SIZE), may_alias));
#if SIZE == 4
typedef int32_t FN(ivec) __attribute__((vector_size(VBYTES), aligned(SIZE), may_alias));
#else
typedef int64_t FN(ivec) __attribute__((vector_size(VBYTES), aligned(SIZE), may_alias));
#endif
#define V FN(vec)
#define I FN(ivec)
#define LD(p) (*(const V *)(p))
#define ST(p, v) (*(V *)(p) = (v))
#define PICK(mask, a, b) ((V)(((I)(a) & (mask)) | ((I)(b) & ~(mask))))

#if VL == 16
#define LANES(M, s)                                                                                          \
  M(0, s), M(1, s), M(2, s), M(3, s), M(4, s), M(5, s), M(6, s), M(7, s), M(8, s), M(9, s), M(10, s),        \
      M(11, s), M(12, s), M(13, s), M(14, s), M(15, s)
#elif VL == 8
#define LANES(M, s) M(0, s), M(1, s), M(2, s), M(3, s), M(4, s), M(5, s), M(6, s), M(7, s)
#elif VL == 4
#define LANES(M, s) M(0, s), M(1, s), M(2, s), M(3, s)
#else
#define LANES(M, s) M(0, s), M(1, s)
#endif
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(a, b, M, s) __builtin_shufflevector(a, b, LANES(M, s))
#else
#define SHUFFLE(a, b, M, s) __builtin_shuffle(a, b, (I){LANES(M, s)})
#endif

INLINE V FN(relu)(V x) { return PICK(x < (V){0}, (V){0}, x); } /* a NaN stays a NaN, here and below */

#if SIZE == 8
INLINE V FN(tanh)(V x) {
  for (int i = 0; i < VL; i++) x[i] = tanh(x[i]);
  return x;
}
INLINE V FN(sigmoid)(V x) {
  for (int i = 0; i < VL; i++) x[i] = 1 / (1 + exp(-x[i]));
  return x;
}
#else
#if VL == 16
#define CLAMP(x, c) (V) _mm512_max_ps((__m512) - (c), _mm512_min_ps((__m512)(c), (__m512)(x)))
#elif VL == 8
#define CLAMP(x, c) (V) _mm256_max_ps((__m256) - (c), _mm256_min_ps((__m256)(c), (__m256)(x)))
#elif defined(__SSE2__)
#define CLAMP(x, c) (V) _mm_max_ps((__m128) - (c), _mm_min_ps((__m128)(c), (__m128)(x)))
#else
#define CLAMP(x, c) PICK((x) > (c), c, PICK((x) < -(c), -(c), x))
#endif
/* x P(x * x) / Q(x * x), of degrees 6 and 3, within the limits. */
INLINE V FN(rational)(V x, const float limit, const float *p, const float *q) {
  x = CLAMP(x, (V){0} + limit);
  const V y = x * x;
  V above = y * p[6] + p[5], below = y * q[3] + q[2];
  UNROLL for (int i = 4; i >= 0; i--)
    above = above * y + p[i];
  below = (below * y + q[1]) * y + q[0];
  return x * above / below;
}
/* Within 3e-7 of tanh, relatively; beyond the limit tanh is 1 in float32. */
INLINE V FN(tanh)(V x) {
  static const float p[] = {4.89352455891786e-03f, 6.37261928875436e-04f, 1.48572235717979e-05f, 5.12229709037114e-08f, -8.60467152213735e-11f, 2.00018790482477e-13f, -2.76076847742355e-16f},
                     q[] = {4.89352518554385e-03f, 2.26843463243900e-03f, 1.18534705686654e-04f, 1.19825839466702e-06f};
  return FN(rational)(x, 7.90531110763549805f, p, q);
}
/* (1 + tanh(x / 2)) / 2 by the same function, its coefficients scaled by powers of 2. */
INLINE V FN(sigmoid)(V x) {
  static const float p[] = {1.22338113972946e-03f, 3.98288705547147e-05f, 2.32144118309342e-07f, 2.00089730092623e-10f, -8.40299953333726e-14f, 4.88327125201360e-17f, -1.68503935389621e-20f},
                     q[] = {4.89352518554385e-03f, 5.67108658109750e-04f, 7.40841910541587e-06f, 1.87227874166722e-08f};
  return FN(rational)(x, 2 * 7.90531110763549805f, p, q) + 0.5f;
}
#undef CLAMP

UNUSED static void FN(activations)(int64_t n, const float *x, float *tanh, float *sigmoid) {
  for (int64_t i = 0; i < n; i += VL) {
    ST(tanh + i, FN(tanh)(LD(x + i)));
    ST(sigmoid + i, FN(sigmoid)(LD(x + i)));
  }
}
#endif

/* Transpose VL vectors: at stage s, lane pairs s apart change places. */
#define LOW(l, s) (((l) & (s)) ? VL + (l) - (s) : (l))
#define HIGH(l, s) (((l) & (s)) ? VL + (l) : ((l) + (s)) % VL)
#define STAGE(s)                                                                                             \
  EACH(i, VL)                                                                                                \
    if (!(i & s)) {                                                                                          \
      V a = m[i], b = m[i + s];                                                                              \
      m[i] = SHUFFLE(a, b, LOW, s);                                                                          \
      m[i + s] = SHUFFLE(a, b, HIGH, s);                                                                     \
    }
INLINE void FN(transpose)(V *m){STAGE(1)
#if VL > 2
                                    STAGE(2)
#endif
#if VL > 4
                                        STAGE(4)
#endif
#if VL > 8
                                            STAGE(8)
#endif
}

#undef LOW
#undef HIGH
#undef STAGE

/* Rows of `steps * width` numbers, `stride` apart in memory, to and from block[step][width][RB], steps
   `apart` apart. Tiles of VL rows by VL numbers are transposed in registers; one tile may reach over a
   step's end. */
UNUSED static void FN(load_block)(const REAL *rows, int64_t stride, int64_t num_rows, int64_t steps, int64_t width,
                           REAL *block, int64_t apart) {
  for (int g = 0; g < NV; g++) {
    REAL *to = block + g * VL;
    const int64_t valid = num_rows - g * VL, total = steps * width;
    const REAL *from = rows + g * VL * stride;
    int64_t j = 0;
    for (int64_t q = 0; q < total; q += VL) {
      const int64_t left = total - q < VL ? total - q : VL;
      V m[VL];
      if (valid >= VL && left == VL) {
        EACH(r, VL) m[r] = LD(from + r * stride + q);
      } else {
        REAL part[VL * VL] = {0};
        for (int64_t r = 0; r < valid && r < VL; r++)
          for (int64_t i = 0; i < left; i++) part[r * VL + i] = from[r * stride + q + i];
        EACH(r, VL) m[r] = LD(part + r * VL);
      }
      FN(transpose)(m);
      for (int64_t i = 0; i < left; i++) {
        ST(to + j * RB, m[i]);
        if (++j == width) j = 0, to += apart;
      }
    }
  }
}

UNUSED static void FN(store_block)(REAL *rows, int64_t stride, int64_t num_rows, int64_t steps, int64_t width,
                            const REAL *block, int64_t apart) {
  for (int g = 0; g < NV && g * VL < num_rows; g++) {
    const REAL *from = block + g * VL;
    const int64_t valid = num_rows - g * VL, total = steps * width;
    REAL *to = rows + g * VL * stride;
    int64_t j = 0;
    for (int64_t q = 0; q < total; q += VL) {
      const int64_t left = total - q < VL ? total - q : VL;
      V m[VL];
      for (int64_t i = 0; i < VL; i++) {
        m[i] = i < left ? LD(from + j * RB) : (V){0};
        if (i < left && ++j == width) j = 0, from += apart;
      }
      FN(transpose)(m);
      if (valid >= VL && left == VL) {
        EACH(r, VL) ST(to + r * stride + q, m[r]);
      } else {
        for (int64_t r = 0; r < valid && r < VL; r++)
          for (int64_t i = 0; i < left; i++) to[r * stride + q + i] = m[r][i];
      }
    }
  }
}
