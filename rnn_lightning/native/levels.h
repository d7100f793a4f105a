/* KERNELS, a header, once for each instruction set and, where DOUBLES is defined, for both number types;
   names in it end with FN. The headers say what the other macros are. */
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#define UNUSED __attribute__((unused)) /* what one of the libraries' parts does without */
#define UNROLL _Pragma("GCC unroll 16")
#define EACH(i, n) UNROLL for (int i = 0; i < (n); i++)
#define ROUND(n) round_up(n, RB)

/* clang ignores these pragmas: there, and on other processors, the vectors of 16 bytes that all have. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define LEVELS 3
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma,prefer-vector-width=512")
#define VBYTES 64
#define UT 8
#define REAL float
#define SIZE 4
#define FN(x) x##_avx512_32
#include KERNELS
#ifdef DOUBLES
#define REAL double
#define SIZE 8
#define FN(x) x##_avx512_64
#include KERNELS
#endif
#undef VBYTES
#undef UT
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define VBYTES 32
#define UT 6
#define REAL float
#define SIZE 4
#define FN(x) x##_avx2_32
#include KERNELS
#ifdef DOUBLES
#define REAL double
#define SIZE 8
#define FN(x) x##_avx2_64
#include KERNELS
#endif
#undef VBYTES
#undef UT
#pragma GCC pop_options
#else
#define LEVELS 1
#endif
#define VBYTES 16
#ifdef __aarch64__ /* 32 registers */
#define UT 4
#else
#define UT 2
#endif
#define REAL float
#define SIZE 4
#define FN(x) x##_base_32
#include KERNELS
#ifdef DOUBLES
#define REAL double
#define SIZE 8
#define FN(x) x##_base_64
#include KERNELS
#endif
