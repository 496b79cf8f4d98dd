/* Vectors of floats as wide as the instruction set that the file is compiled for has them.
 *
 * GCC's vector extension (which clang speaks, too) does the arithmetic, so one source serves every
 * instruction set; only the smaller and the larger of two vectors need a word of each.
 */
#ifndef DECISION_POLICIES_VECTOR_H
#define DECISION_POLICIES_VECTOR_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define LANES 16
#elif defined(__AVX2__)
#include <immintrin.h>
#define LANES 8
#else
#define LANES 4
#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif
#endif

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef float loose_vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));

#define EXPORT __attribute__((visibility("default")))
#define JOIN(a, b) a##_##b
#define NAMED(a, b) JOIN(a, b) /* a function's name, with that of the instruction set behind it */
#define INLINE static inline __attribute__((always_inline))

INLINE vec splat(float x) { return (vec){0} + x; }

/* The first `lanes` floats at p, and zeros behind them. Constant `lanes` cost nothing. */
INLINE vec load(const float *p, int lanes) {
    if (lanes == LANES) return (vec)*(const loose_vec *)p;
    vec v = {0};
    memcpy(&v, p, sizeof(float) * (size_t)lanes);
    return v;
}

INLINE void store(float *p, vec v, int lanes) {
    if (lanes == LANES)
        *(loose_vec *)p = (loose_vec)v;
    else
        memcpy(p, &v, sizeof(float) * (size_t)lanes);
}

INLINE float sum(vec v) {
    float x[LANES];
    memcpy(x, &v, sizeof v);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) x[i] += x[i + half];
    return x[0];
}

/* x within [low, high]; what is not a number stays so. */
INLINE vec clamp(vec x, float low, float high) {
#if defined(__AVX512F__)
    return (vec)_mm512_min_ps(_mm512_set1_ps(high), _mm512_max_ps(_mm512_set1_ps(low), (__m512)x));
#elif defined(__AVX2__)
    return (vec)_mm256_min_ps(_mm256_set1_ps(high), _mm256_max_ps(_mm256_set1_ps(low), (__m256)x));
#elif defined(__SSE2__)
    return (vec)_mm_min_ps(_mm_set1_ps(high), _mm_max_ps(_mm_set1_ps(low), (__m128)x));
#elif defined(__ARM_NEON)
    return (vec)vminq_f32(vdupq_n_f32(high), vmaxq_f32(vdupq_n_f32(low), (float32x4_t)x));
#else
    for (int i = 0; i < LANES; i++) x[i] = x[i] < low ? low : x[i] > high ? high : x[i];
    return x;
#endif
}

/* 2^x to 1e-7 of itself; 0 below 2^-127, about 2^127 above.
 *
 * Adding 1.5 * 2^23 rounds x to an integer n, which then stands in the low bits; the polynomial
 * (Cephes' exp2f) gives 2^(x - n), and n is added to its exponent. At the lower bound x - n is 0, so
 * that the exponent's bits come out as 0 and the result as a true zero.
 */
INLINE vec exp2v(vec x) {
    x = clamp(x, -127.0f, 127.0f);
    vec shifted = x + 12582912.0f;
    vec r = x - (shifted - 12582912.0f);
    vec p = splat(1.535336188319500e-4f);
    p = p * r + 1.339887440266574e-3f;
    p = p * r + 9.618437357674640e-3f;
    p = p * r + 5.550332471162809e-2f;
    p = p * r + 2.402264791363012e-1f;
    p = p * r + 6.931472028550421e-1f;
    p = p * r + 1.0f;
    return (vec)((ivec)p + (((ivec)shifted - 0x4B400000) << 23));
}

#define LOG2_E 1.4426950408889634f

INLINE vec larger(vec x, vec y) {
    ivec take = x < y;
    return (vec)((take & (ivec)y) | (~take & (ivec)x));
}

INLINE vec sigmoidv(vec x) { return 1.0f / (1.0f + exp2v(x * -LOG2_E)); }

INLINE vec tanhv(vec x) { return 2.0f * sigmoidv(2.0f * x) - 1.0f; }

/* log(1 + exp(x)), precise where it is small: log(1 + e) = 2 atanh(e / (2 + e)), a short series. */
INLINE vec softplusv(vec x) {
    const vec e = exp2v(larger(x, -x) * -LOG2_E), s = e / (2.0f + e), q = s * s;
    vec p = splat(1.0f / 15);
    for (int odd = 13; odd > 0; odd -= 2) p = p * q + 1.0f / odd;
    return larger(x, splat(0)) + 2.0f * s * p;
}

/* The error function to 1.5e-7: Abramowitz and Stegun, 7.1.26. */
INLINE vec erfv(vec x) {
    const vec a = larger(x, -x), t = 1.0f / (1.0f + 0.3275911f * a);
    vec p = splat(1.061405429f);
    p = p * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    const vec y = 1.0f - p * t * exp2v(a * a * -LOG2_E);
    ivec sign = (ivec)x & (int32_t)0x80000000;
    return (vec)((ivec)y | sign);
}

#endif
