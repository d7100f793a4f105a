/* Functions of vectors of float32 beside those of vectors.h. A NaN stays a NaN. */
#if VL == 16
#define SQRT(x) (V) _mm512_sqrt_ps((__m512)(x))
#elif VL == 8
#define SQRT(x) (V) _mm256_sqrt_ps((__m256)(x))
#elif defined(__SSE2__)
#define SQRT(x) (V) _mm_sqrt_ps((__m128)(x))
#else
#define SQRT(x) FN(roots)(x)
INLINE V FN(roots)(V x) {
  for (int i = 0; i < VL; i++) x[i] = sqrtf(x[i]);
  return x;
}
#endif
#define NUMBER(c) ((float)(c) - (V){0}) /* which is c, even for -0 */
#define ABS(x) ((V)((I)(x) & 0x7fffffff))
#define WITH_SIGN(x, sign) ((V)((I)(x) | ((I)(sign) & (int32_t)0x80000000)))

INLINE V FN(polynomial)(V x, const int degree, const float *c) {
  V sum = NUMBER(c[0]);
  UNROLL for (int i = 1; i <= degree; i++) sum = sum * x + c[i];
  return sum;
}

/* The logarithm of normal positive numbers and infinity, within 2e-7 of it or of its magnitude (Cephes). */
INLINE V FN(log)(V x) {
  static const float c[] = {7.0376836292e-2f,  -1.1514610310e-1f, 1.1676998740e-1f,
                            -1.2420140846e-1f, 1.4249322787e-1f,  -1.6668057665e-1f,
                            2.0000714765e-1f,  -2.4999993993e-1f, 3.3333331174e-1f};
  const I exponent = ((I)x >> 23) - 126, small = (V)(((I)x & 0x007fffff) | 0x3f000000) < NUMBER(0.707106781f);
  V m = (V)(((I)x & 0x007fffff) | 0x3f000000);
  m = PICK(small, m + m, m) - 1;
  const V e = __builtin_convertvector(exponent + small, V), z = m * m; /* a mask is -1 */
  const V tail = FN(polynomial)(m, 8, c) * m * z - 2.12194440e-4f * e - 0.5f * z;
  return PICK(x < NUMBER(__builtin_inff()), m + tail + 0.693359375f * e, x);
}

/* The exponential of numbers up to 80, within 2e-7, relatively (Cephes). */
INLINE V FN(exp)(V x) {
  static const float c[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                            4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
  const V y = PICK(x > NUMBER(-87), x, NUMBER(-87)), n = y * 1.44269504088896341f;
  const I whole = __builtin_convertvector(n + WITH_SIGN(NUMBER(0.5f), n), I);
  const V near = __builtin_convertvector(whole, V), r = y - 0.693359375f * near + 2.12194440e-4f * near;
  const V power = (V)((whole + 127) << 23);
  return PICK(x == x, (FN(polynomial)(r, 5, c) * r * r + r + 1) * power, x);
}

/* The inverse of the hyperbolic sine (Cephes). */
INLINE V FN(asinh)(V x) {
  static const float c[] = {2.0122003309e-2f, -4.2699340972e-2f, 7.4847586088e-2f, -1.6666288134e-1f};
  const V a = ABS(x), z = a * a, near = FN(polynomial)(z, 3, c) * z * a + a;
  const I large = a > NUMBER(1e8f); /* whose square may be none */
  const V far = FN(log)(PICK(large, a, a + SQRT(z + 1))) + PICK(large, NUMBER(0.693147181f), NUMBER(0));
  return WITH_SIGN(PICK(a < NUMBER(0.5f), near, far), x);
}
