/* kernels_impl.h - the tile kernels, written once in C with GNU vector extensions and compiled per CPU level.
 *
 * A level file defines LEVEL (name suffix), LEVEL_NAME, VL (floats in a vector) and MR (keys that a block of registers
 * holds), then includes this file. A lane group is two vectors wide: a key's value is loaded once, spread over a vector,
 * and used twice. Registers: 2 MR accumulators + 2 query vectors + 1 spread value. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "half.h"
#include "kernels.h"

#ifdef __F16C__
#include <immintrin.h>
#endif
#ifdef __ARM_NEON
#include <arm_neon.h>
#endif

#define LANES (2 * VL)
#define CAT_(a, b) a##_##b
#define CAT(a, b) CAT_(a, b)
#define NAME(f) CAT(f, LEVEL)

typedef float vf __attribute__((vector_size(VL * 4)));
typedef float vf_u __attribute__((vector_size(VL * 4), aligned(4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));

#define INLINE static inline __attribute__((always_inline))

INLINE vf load(const float *p) { return *(const vf_u *)p; }
INLINE void store(float *p, vf x) { *(vf_u *)p = x; }
INLINE vf splat(float x) { return x - (vf){0}; }
INLINE vf select_f(vi mask, vf a, vf b) { return (vf)((mask & (vi)a) | (~mask & (vi)b)); }
INLINE vf max_f(vf a, vf b) { return select_f(a > b, a, b); }

/* 0, 1, 2, ... */
INLINE vi ramp(void)
{
    static const int32_t numbers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    vi at;
    memcpy(&at, numbers, sizeof at);
    return at;
}

INLINE int any(vi mask)
{
#ifdef __AVX512F__
    return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0;
#else
    uint64_t word[VL / 2], all = 0;
    memcpy(word, &mask, sizeof word);
    for (int i = 0; i < VL / 2; i++) all |= word[i];
    return all != 0;
#endif
}

/* 2^x for x <= 0, relative error below 2e-7: 2^x = 2^n * 2^f with n = round(x), f in [-1/2, 1/2], 2^f by its Taylor
 * polynomial of degree 6 (remainder (f ln 2)^7 / 5040 < 2e-7 at the ends). Far below 2^-126 the result is 0. */
INLINE vf exp2_poly(vf f)
{
    vf p = splat(1.5403530e-4f);
    p = p * f + splat(1.3333558e-3f);
    p = p * f + splat(9.6181291e-3f);
    p = p * f + splat(5.5504109e-2f);
    p = p * f + splat(2.4022651e-1f);
    p = p * f + splat(6.9314718e-1f);
    return p * f + splat(1.0f);
}
#ifdef __AVX512DQ__
INLINE vf exp2_neg(vf x)
{
    x = (vf)_mm512_max_ps((__m512)x, _mm512_set1_ps(-200.0f)); /* -inf - round(-inf) would not be a number */
    vf f = (vf)_mm512_reduce_ps((__m512)x, 0);
    return (vf)_mm512_scalef_ps((__m512)exp2_poly(f), (__m512)(x - f));
}
#else
INLINE vf exp2_neg(vf x)
{
    const vf magic = splat(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer in the low bits */
    vi tiny = x < splat(-126.0f);
    x = select_f(tiny, splat(-126.0f), x);
    vf shifted = x + magic;
    vi n = (vi)shifted - (vi)magic;
    vf r = (vf)((vi)exp2_poly(x - (shifted - magic)) + (n << 23));
    return select_f(tiny, (vf){0}, r);
}
#endif

/* Scores of R keys (constant) against the two query vectors. */
INLINE void dot_block(const float *qt, const float *k, int D, int R, vf acc[][2])
{
    for (int r = 0; r < R; r++) acc[r][0] = acc[r][1] = (vf){0};
    for (int d = 0; d < D; d++, k += REATTN__TILE) {
        vf q0 = load(qt + (int64_t)d * LANES), q1 = load(qt + (int64_t)d * LANES + VL);
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
            vf kk = splat(k[r]);
            acc[r][0] += kk * q0;
            acc[r][1] += kk * q1;
        }
    }
}

INLINE void scan_block(const float *qt, const float *k, int key, int D, int R, const float *thr, reattn__hit_fn hit,
                       void *ctx)
{
    vf acc[MR][2];
    dot_block(qt, k + key, D, R, acc);
    vf t0 = load(thr), t1 = load(thr + VL);
    vi over = acc[0][0] >= t0;
    over |= acc[0][1] >= t1;
#pragma GCC unroll 16
    for (int r = 1; r < R; r++) {
        over |= acc[r][0] >= t0;
        over |= acc[r][1] >= t1;
    }
    if (__builtin_expect(any(over), 0)) {
        float scores[MR * LANES];
        for (int r = 0; r < R; r++) {
            store(scores + r * LANES, acc[r][0]);
            store(scores + r * LANES + VL, acc[r][1]);
        }
        hit(ctx, key, R, LANES, scores, LANES, 1);
    }
}

static void NAME(scan)(const float *qt, const float *k, int n_key, int D, const float *thr, reattn__hit_fn hit, void *ctx)
{
    int key = 0;
    for (; key + MR <= n_key; key += MR) scan_block(qt, k, key, D, MR, thr, hit, ctx);
    for (; key + 4 <= n_key; key += 4) scan_block(qt, k, key, D, 4, thr, hit, ctx);
    for (; key < n_key; key++) scan_block(qt, k, key, D, 1, thr, hit, ctx);
}

/* Scores of 2 VL keys against R rows (constant): one dimension of the keys at a time. */
INLINE void dot_few(const float *q, const float *k, int D, int R, vf acc[][2])
{
    for (int r = 0; r < R; r++) acc[r][0] = acc[r][1] = (vf){0};
    for (int d = 0; d < D; d++, k += REATTN__TILE) {
        vf k0 = load(k), k1 = load(k + VL);
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {
            vf qq = splat(q[(int64_t)r * D + d]);
            acc[r][0] += qq * k0;
            acc[r][1] += qq * k1;
        }
    }
}

INLINE void scan_rows(const float *q, const float *k, int n_key, int D, int R, const float *thr, reattn__hit_fn hit,
                      void *ctx)
{
    for (int key = 0; key < n_key; key += LANES) {
        vf acc[REATTN__FEW][2];
        vi over = {0};
        dot_few(q, k + key, D, R, acc);
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {
            over |= acc[r][0] >= splat(thr[r]);
            over |= acc[r][1] >= splat(thr[r]);
        }
        if (__builtin_expect(any(over), 0)) {
            float scores[REATTN__FEW * LANES];
            for (int r = 0; r < R; r++) {
                store(scores + r * LANES, acc[r][0]);
                store(scores + r * LANES + VL, acc[r][1]);
            }
            hit(ctx, key, LANES, R, scores, 1, LANES);
        }
    }
}

static void NAME(scan_few)(const float *q, int n_row, const float *k, int n_key, int D, const float *thr,
                           reattn__hit_fn hit, void *ctx)
{
    switch (n_row) {
    case 1: scan_rows(q, k, n_key, D, 1, thr, hit, ctx); break;
    case 2: scan_rows(q, k, n_key, D, 2, thr, hit, ctx); break;
    case 3: scan_rows(q, k, n_key, D, 3, thr, hit, ctx); break;
    default: scan_rows(q, k, n_key, D, 4, thr, hit, ctx); break;
    }
}

INLINE void score_block(const reattn__tile *t, int key, int R)
{
    vf acc[MR][2];
    dot_block(t->q, t->k + key, t->D, R, acc);
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) {
        store(t->p + (int64_t)(key + r) * LANES, acc[r][0]);
        store(t->p + (int64_t)(key + r) * LANES + VL, acc[r][1]);
    }
}

/* o[dv .. dv + R) = o * alpha + sum over keys of v * p. */
INLINE void value_block(const reattn__tile *t, int dv, int R, vf alpha0, vf alpha1)
{
    vf acc[MR][2];
    float *o = t->o + (int64_t)dv * LANES;
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) {
        acc[r][0] = load(o + r * LANES) * alpha0;
        acc[r][1] = load(o + r * LANES + VL) * alpha1;
    }
    for (int key = 0; key < t->n_key; key++) {
        const float *v = t->v + (int64_t)key * t->Dv + dv;
        vf p0 = load(t->p + (int64_t)key * LANES), p1 = load(t->p + (int64_t)key * LANES + VL);
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
            vf vv = splat(v[r]);
            acc[r][0] += vv * p0;
            acc[r][1] += vv * p1;
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) {
        store(o + r * LANES, acc[r][0]);
        store(o + r * LANES + VL, acc[r][1]);
    }
}

static void NAME(attend)(const reattn__tile *t)
{
    const vf inf = splat(INFINITY);
    int key = 0, dv = 0;
    vf alpha[2];
    for (; key + MR <= t->n_key; key += MR) score_block(t, key, MR);
    for (; key + 4 <= t->n_key; key += 4) score_block(t, key, 4);
    for (; key < t->n_key; key++) score_block(t, key, 1);

    for (int half = 0; half < 2; half++) {
        float *p = t->p + half * VL;
        vf old = load(t->m + half * VL), top = old, sum = {0};
        if (t->lo) {
            vi lo, hi;
            memcpy(&lo, t->lo + half * VL, sizeof lo);
            memcpy(&hi, t->hi + half * VL, sizeof hi);
            for (int i = 0; i < t->n_key; i++) {
                vi at = i - (vi){0};
                vf s = select_f((at >= lo) & (at < hi), load(p + (int64_t)i * LANES), -inf);
                store(p + (int64_t)i * LANES, s);
            }
        }
        for (int i = 0; i < t->n_key; i++) top = max_f(load(p + (int64_t)i * LANES), top);
        /* A lane that has seen nothing yet keeps m = -inf; 0 in its place below avoids inf - inf. */
        vf base = select_f(top == -inf, (vf){0}, top);
        for (int i = 0; i < t->n_key; i++) {
            vf e = exp2_neg(load(p + (int64_t)i * LANES) - base);
            store(p + (int64_t)i * LANES, e);
            sum += e;
        }
        alpha[half] = exp2_neg(old - base);
        store(t->l + half * VL, load(t->l + half * VL) * alpha[half] + sum);
        store(t->m + half * VL, top);
    }
    for (; dv + MR <= t->Dv; dv += MR) value_block(t, dv, MR, alpha[0], alpha[1]);
    for (; dv + 4 <= t->Dv; dv += 4) value_block(t, dv, 4, alpha[0], alpha[1]);
    for (; dv < t->Dv; dv++) value_block(t, dv, 1, alpha[0], alpha[1]);
}

/* o[r][dv .. dv + W VL) = o * alpha + sum over keys of p v, for R rows. */
INLINE void value_few(const reattn__tile *t, int dv, int R, int W, const float *alpha)
{
    vf acc[REATTN__FEW][2];
#pragma GCC unroll 4
    for (int r = 0; r < R; r++)
        for (int w = 0; w < W; w++) acc[r][w] = load(t->o + (int64_t)r * t->Dv + dv + w * VL) * splat(alpha[r]);
    for (int key = 0; key < t->n_key; key++) {
        const float *v = t->v + (int64_t)key * t->Dv + dv;
        vf v0 = load(v), v1 = W > 1 ? load(v + VL) : v0;
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {
            vf p = splat(t->p[r * REATTN__TILE + key]);
            acc[r][0] += p * v0;
            if (W > 1) acc[r][1] += p * v1;
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; r++)
        for (int w = 0; w < W; w++) store(t->o + (int64_t)r * t->Dv + dv + w * VL, acc[r][w]);
}

INLINE float lanes_max(vf x)
{
#ifdef __AVX512F__
    return _mm512_reduce_max_ps((__m512)x);
#else
    float top = x[0];
    for (int i = 1; i < VL; i++) top = x[i] > top ? x[i] : top;
    return top;
#endif
}

INLINE float lanes_sum(vf x)
{
#ifdef __AVX512F__
    return _mm512_reduce_add_ps((__m512)x);
#else
    float sum = x[0];
    for (int i = 1; i < VL; i++) sum += x[i];
    return sum;
#endif
}

/* Softmax of p [R][REATTN__TILE], whose entries from n on or out of sight are -inf; alpha says how much of the state so
 * far remains. */
INLINE void soften(float *all, int n, int R, float *m, float *l, float *alpha)
{
    for (int r = 0; r < R; r++) {
        float *p = all + r * REATTN__TILE;
        vf best = splat(m[r]), total = {0};
        for (int key = 0; key < n; key += VL) best = max_f(load(p + key), best);
        float top = lanes_max(best);
        float base = top == -INFINITY ? 0 : top;
        for (int key = 0; key < n; key += VL) {
            vf e = exp2_neg(load(p + key) - splat(base));
            store(p + key, e);
            total += e;
        }
        alpha[r] = exp2_neg(splat(m[r] - base))[0];
        l[r] = l[r] * alpha[r] + lanes_sum(total);
        m[r] = top;
    }
}

INLINE void attend_rows(const reattn__tile *t, int R)
{
    float alpha[REATTN__FEW];
    int dv = 0;
    for (int key = 0; key < t->n_key; key += LANES) {
        vf acc[REATTN__FEW][2];
        dot_few(t->q, t->k + key, t->D, R, acc);
        for (int r = 0; r < R; r++) {
            int lo = t->lo ? t->lo[r] : 0, hi = t->lo ? t->hi[r] : t->n_key;
            for (int half = 0; half < 2; half++) {
                vi at = ramp() + (key + half * VL);
                vf s = select_f((at >= lo) & (at < hi), acc[r][half], splat(-INFINITY));
                store(t->p + r * REATTN__TILE + key + half * VL, s);
            }
        }
    }
    soften(t->p, t->n_key, R, t->m, t->l, alpha);
    for (; dv + 2 * VL <= t->Dv; dv += 2 * VL) value_few(t, dv, R, 2, alpha);
    for (; dv + VL <= t->Dv; dv += VL) value_few(t, dv, R, 1, alpha);
    for (; dv < t->Dv; dv++) {
        for (int r = 0; r < R; r++) {
            float o = t->o[(int64_t)r * t->Dv + dv] * alpha[r];
            for (int key = 0; key < t->n_key; key++) o += t->p[r * REATTN__TILE + key] * t->v[(int64_t)key * t->Dv + dv];
            t->o[(int64_t)r * t->Dv + dv] = o;
        }
    }
}

static void NAME(attend_few)(const reattn__tile *t)
{
    switch (t->n_row) {
    case 1: attend_rows(t, 1); break;
    case 2: attend_rows(t, 2); break;
    case 3: attend_rows(t, 3); break;
    default: attend_rows(t, 4); break;
    }
}

/* Adds the weights of R keys (constant) from `key` on, for a lane group. */
INLINE void mass_block(const reattn__mass_tile *t, int key, int R)
{
    vf acc[MR][2];
    dot_block(t->q, t->k + key, t->D, R, acc);
    for (int half = 0; half < 2; half++) {
        vf lse = load(t->lse + half * VL);
        vi lo, hi;
        memcpy(&lo, t->lo + half * VL, sizeof lo);
        memcpy(&hi, t->hi + half * VL, sizeof hi);
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
            vi at = key + r - (vi){0};
            float *sum = t->sum + (int64_t)(key + r) * LANES + half * VL;
            vf x = select_f((at >= lo) & (at < hi), acc[r][half] - lse, splat(-INFINITY));
            store(sum, load(sum) + exp2_neg(x));
        }
    }
}

static void NAME(mass)(const reattn__mass_tile *t)
{
    int key = 0;
    for (; key + MR <= t->n_key; key += MR) mass_block(t, key, MR);
    for (; key + 4 <= t->n_key; key += 4) mass_block(t, key, 4);
    for (; key < t->n_key; key++) mass_block(t, key, 1);
}

INLINE void mass_rows(const reattn__mass_tile *t, int R)
{
    for (int key = 0; key < t->n_key; key += LANES) {
        vf acc[REATTN__FEW][2];
        dot_few(t->q, t->k + key, t->D, R, acc);
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {
            for (int half = 0; half < 2; half++) {
                vi at = ramp() + (key + half * VL);
                float *sum = t->sum + r * REATTN__TILE + key + half * VL;
                vf x = select_f((at >= t->lo[r]) & (at < t->hi[r]), acc[r][half] - splat(t->lse[r]), splat(-INFINITY));
                store(sum, load(sum) + exp2_neg(x));
            }
        }
    }
}

static void NAME(mass_few)(const reattn__mass_tile *t)
{
    switch (t->n_row) {
    case 1: mass_rows(t, 1); break;
    case 2: mass_rows(t, 2); break;
    case 3: mass_rows(t, 3); break;
    default: mass_rows(t, 4); break;
    }
}

static void NAME(rope)(float *k, int n, int n_pair, int step, int apart, const float *cos, const float *sin,
                       int64_t cs_stride)
{
    for (int pair = 0; pair < n_pair; pair++) {
        float *a = k + (int64_t)pair * step * REATTN__TILE, *b = a + (int64_t)apart * REATTN__TILE;
        const float *c = cos + pair * cs_stride, *s = sin + pair * cs_stride;
        int i = 0;
        for (; i + VL <= n; i += VL) {
            vf u = load(a + i), w = load(b + i), cc = load(c + i), ss = load(s + i);
            store(a + i, u * cc - w * ss);
            store(b + i, u * ss + w * cc);
        }
        for (; i < n; i++) {
            float u = a[i], w = b[i];
            a[i] = u * c[i] - w * s[i];
            b[i] = u * s[i] + w * c[i];
        }
    }
}

static void NAME(f16_to_f32)(const uint16_t *src, float *dst, int64_t n)
{
    int64_t i = 0;
#ifdef __F16C__
    for (; i + 8 <= n; i += 8) _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(src + i))));
#endif
    for (; i < n; i++) dst[i] = reattn__half_to_float(src[i]);
}

static void NAME(f32_to_f16)(const float *src, uint16_t *dst, int64_t n)
{
    int64_t i = 0;
#ifdef __F16C__
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(dst + i), _mm256_cvtps_ph(_mm256_loadu_ps(src + i), _MM_FROUND_TO_NEAREST_INT));
#endif
    for (; i < n; i++) dst[i] = reattn__float_to_half(src[i]);
}

static void NAME(f16_block)(const uint16_t *block, int D, float *out, int64_t stride)
{
    for (int d = 0; d < D; d++) {
#if defined(__AVX512F__)
        _mm512_storeu_ps(out + d * stride, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(block + d * 16))));
#else
        NAME(f16_to_f32)(block + d * 16, out + d * stride, 16);
#endif
    }
}

#include "planes_impl.h"
#include "int16_impl.h"

const reattn__kernels NAME(reattn__kernels) = {
    .name = LEVEL_NAME,
    .lanes = LANES,
    .f16_to_f32 = NAME(f16_to_f32),
    .f32_to_f16 = NAME(f32_to_f16),
    .f16_block = NAME(f16_block),
    .rope = NAME(rope),
    .scan = NAME(scan),
    .scan_few = NAME(scan_few),
    .attend = NAME(attend),
    .attend_few = NAME(attend_few),
    .mass = NAME(mass),
    .mass_few = NAME(mass_few),
    .scan8 = NAME(scan8),
    .dot15 = NAME(dot15),
    .split_block = NAME(split_block),
    .turn_row = NAME(turn_row),
    .pack_block = NAME(pack_block),
    .attend_row16 = NAME(attend_row16),
#ifdef MANY16
    .pack_keys = NAME(pack_keys),
    .pack_values = NAME(pack_values),
    .attend16 = NAME(attend16),
#endif
};
