/* int16_impl.h - attention in 16-bit integers with sums of 32 bits (kernels.h), part of kernels_impl.h. */

/* VL halves as floats. */
INLINE vf load_half(const uint16_t *p)
{
#if defined(__AVX512F__)
    return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
#elif defined(__F16C__)
    return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
#elif defined(__ARM_NEON)
    return (vf)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
#else
    float f[VL];
    for (int i = 0; i < VL; i++) f[i] = reattn__half_to_float(p[i]);
    return load(f);
#endif
}

/* VL floats to the nearest integers, as floats are rounded. */
INLINE vi to_int(vf x)
{
#if defined(__AVX512F__)
    return (vi)_mm512_cvtps_epi32((__m512)x);
#elif defined(__AVX2__)
    return (vi)_mm256_cvtps_epi32((__m256)x);
#else
    const vf magic = splat(12582912.0f); /* |x| < 2^22 */
    return (vi)(x + magic) - (vi)magic;
#endif
}

/* s[i] += k[2 i] q[0] + k[2 i + 1] q[1] for VL keys. */
INLINE vi dot2(vi s, const int16_t *k, const int16_t *q)
{
#if defined(__AVX512VNNI__)
    __m512i sum = (__m512i)s;
    __asm__("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(_mm512_loadu_si512(k)), "m"(*(const int16_t(*)[2])q));
    return (vi)sum;
#elif defined(__AVX2__)
    int32_t two;
    memcpy(&two, q, sizeof two);
    return s + (vi)_mm256_madd_epi16(_mm256_loadu_si256((const void *)k), _mm256_set1_epi32(two));
#elif defined(__ARM_NEON)
    int16x8_t keys = vld1q_s16(k), two = vreinterpretq_s16_s32(vdupq_n_s32((int32_t)((uint16_t)q[0] | (uint32_t)(uint16_t)q[1] << 16)));
    return s + (vi)vpaddq_s32(vmull_s16(vget_low_s16(keys), vget_low_s16(two)), vmull_high_s16(keys, two));
#else
    for (int i = 0; i < VL; i++) s[i] += k[2 * i] * q[0] + k[2 * i + 1] * q[1];
    return s;
#endif
}

typedef int16_t vs __attribute__((vector_size(VL * 2)));
INLINE void store_short(int16_t *p, vi x)
{
    vs y = __builtin_convertvector(x, vs);
    memcpy(p, &y, sizeof y);
}
/* a and b side by side: a[0] b[0] a[1] b[1] ... */
INLINE void store_pairs(int16_t *p, vi a, vi b)
{
    vi y = (a & 0xffff) | b << 16;
    memcpy(p, &y, sizeof y);
}

static void NAME(turn_row)(const float *q, const float *cos, const float *sin, int n_pair, int Dh, float factor, int16_t *out)
{
    int i = 0;
    for (; i + VL <= n_pair; i += VL) {
        vf a = load(q + i), b = load(q + n_pair + i), c = load(cos + i) * splat(factor), s = load(sin + i) * splat(factor);
        store_short(out + i, to_int(a * c - b * s));
        store_short(out + n_pair + i, to_int(a * s + b * c));
    }
    for (; i < n_pair; i++) {
        float a = q[i], b = q[n_pair + i], c = cos[i] * factor, s = sin[i] * factor;
        out[i] = (int16_t)rintf(a * c - b * s);
        out[n_pair + i] = (int16_t)rintf(a * s + b * c);
    }
    for (int d = 2 * n_pair; d < 2 * Dh; d++) out[d] = (int16_t)rintf(q[d] * factor);
}

static void NAME(pack_block)(const float *k, int D, int n_pair, int step, int apart, int16_t *out, float *scale)
{
    float square[16], top[16], inverse[16];
    for (int i = 0; i < 16; i += VL) {
        vf sum = {0}, most = {0};
        for (int d = 0; d < D; d++) {
            vf x = load(k + d * REATTN__TILE + i);
            sum += x * x;
            most = max_f(max_f(x, -x), most);
        }
        store(square + i, sum);
        store(top + i, most);
    }
    for (int i = 0; i < 16; i++) {
        float norm = sqrtf(square[i]) * (1.0f / REATTN__KEY16), most = top[i] * (1.0f / 32767.0f);
        scale[i] = norm > most ? norm : most;
        inverse[i] = scale[i] > 1e-30f ? 1.0f / scale[i] : 0;
    }
    for (int h = 0; h < (D + 1) / 2; h++) {
        const float *x[2] = {NULL, NULL};
        for (int j = 0; j < 2 && 2 * h + j < D; j++) {
            int d = 2 * h + j, pair = d < n_pair ? d : d - n_pair;
            int from = d < n_pair ? pair * step : d < 2 * n_pair ? pair * step + apart : d;
            x[j] = k + (int64_t)from * REATTN__TILE;
        }
        for (int i = 0; i < 16; i += VL) {
            vi b = x[1] ? to_int(load(x[1] + i) * load(inverse + i)) : (vi){0};
            store_pairs(out + h * 32 + 2 * i, to_int(load(x[0] + i) * load(inverse + i)), b);
        }
    }
}

/* Scores of VL keys of a block. Meanwhile the values at `ahead` are asked for, a cache line at a time and into the second
 * cache: a burst, or the first cache's few places for lines under way, would stop everything. */
INLINE void score16(const reattn__tile16 *t, const int16_t *k, int R, const char *ahead, vi *acc)
{
    for (int r = 0; r < R; r++) acc[r] = (vi){0};
    for (int d = 0; d < t->Dh; d++, k += 32, ahead += 64) {
        __builtin_prefetch(ahead, 0, 2);
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) acc[r] = dot2(acc[r], k, t->q + (r * t->Dh + d) * 2);
    }
}

/* o[r][dv .. dv + W VL) = o * alpha + sum over keys of p v, with v as halves. */
INLINE void value_half(const reattn__tile16 *t, int dv, int lo, int hi, int R, int W, const float *alpha)
{
    vf acc[REATTN__FEW][4];
#pragma GCC unroll 4
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int w = 0; w < W; w++) acc[r][w] = load(t->o + (int64_t)r * t->Dv + dv + w * VL) * splat(alpha[r]);
    const char *ahead = (const char *)t->next_k;
    for (int key = lo; key < hi; key++, ahead += 128) {
        const uint16_t *v = t->v + (int64_t)key * t->Dv + dv;
        vf row[4];
        __builtin_prefetch(ahead, 0, 2);
        __builtin_prefetch(ahead + 64, 0, 2);
#pragma GCC unroll 4
        for (int w = 0; w < W; w++) row[w] = load_half(v + w * VL);
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {
            vf p = splat(t->p[r * REATTN__TILE + key]);
#pragma GCC unroll 4
            for (int w = 0; w < W; w++) acc[r][w] += p * row[w];
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int w = 0; w < W; w++) store(t->o + (int64_t)r * t->Dv + dv + w * VL, acc[r][w]);
}

INLINE void attend_rows16(const reattn__tile16 *t, int R)
{
    enum { W = VL == 16 ? 4 : 2 };
    float alpha[REATTN__FEW];
    int dv = 0, n = 16 * t->n_block, lo = n, hi = 0;
    for (int r = 0; r < R; r++) {
        lo = t->lo[r] < lo ? t->lo[r] : lo;
        hi = t->hi[r] > hi ? t->hi[r] : hi;
    }
    for (int i = 0; i < 2; i++) { /* looking up a new page of memory takes long: begin at once */
        __builtin_prefetch((const char *)t->next_k + 4096 * i);
        __builtin_prefetch((const char *)t->next_v + 4096 * i);
    }
    for (int key = 0; key < n; key += VL) {
        vi acc[REATTN__FEW];
        score16(t, t->k[key / 16] + key % 16 * 2, R, (const char *)(t->v + (int64_t)key * t->Dv), acc);
        vf scale = load(t->k_scale[key / 16] + key % 16);
        for (int r = 0; r < R; r++) {
            vi at = ramp() + key;
            vf s = int_to_float(acc[r]) * scale * splat(t->q_scale[r]);
            store(t->p + r * REATTN__TILE + key, select_f((at >= t->lo[r]) & (at < t->hi[r]), s, splat(-INFINITY)));
        }
    }
    soften(t->p, n, R, t->m, t->l, alpha);
    for (; dv + W * VL <= t->Dv; dv += W * VL) value_half(t, dv, lo, hi, R, W, alpha);
    for (; dv + VL <= t->Dv; dv += VL) value_half(t, dv, lo, hi, R, 1, alpha);
    for (; dv < t->Dv; dv++) {
        for (int r = 0; r < R; r++) {
            float o = t->o[(int64_t)r * t->Dv + dv] * alpha[r];
            for (int key = lo; key < hi; key++)
                o += t->p[r * REATTN__TILE + key] * reattn__half_to_float(t->v[(int64_t)key * t->Dv + dv]);
            t->o[(int64_t)r * t->Dv + dv] = o;
        }
    }
}

static void NAME(attend_row16)(const reattn__tile16 *t)
{
    switch (t->n_row) {
    case 1: attend_rows16(t, 1); break;
    case 2: attend_rows16(t, 2); break;
    case 3: attend_rows16(t, 3); break;
    default: attend_rows16(t, 4); break;
    }
}

#ifdef __AVX512VNNI__
#define MANY16
enum { WEIGHT_BITS = 13, VALUE_TOP = 4095 }; /* 64 * 2^13 * 4095 < 2^31 */

static void NAME(pack_keys)(const float *k, int n, int D, int16_t *out, float *scale)
{
    float square[REATTN__TILE] = {0}, most = 0, norm = 0;
    for (int d = 0; d < D; d++) {
        for (int i = 0; i < n; i++) {
            float x = k[d * REATTN__TILE + i], size = x < 0 ? -x : x;
            square[i] += x * x;
            most = size > most ? size : most;
        }
    }
    for (int i = 0; i < n; i++) norm = square[i] > norm ? square[i] : norm;
    norm = sqrtf(norm) * (1.0f / REATTN__KEY16);
    most *= 1.0f / 32767.0f;
    *scale = norm > most ? norm : most;
    const vf inverse = splat(*scale > 1e-30f ? 1.0f / *scale : 0);
    for (int d = 0; d < D; d += 2, out += 2 * REATTN__TILE) {
        for (int i = 0; i < n; i += VL) {
            const float *x = k + d * REATTN__TILE + i;
            store_pairs(out + 2 * i, to_int(load(x) * inverse), d + 1 < D ? to_int(load(x + REATTN__TILE) * inverse) : (vi){0});
        }
    }
}

static void NAME(pack_values)(const float *v, int n, int Dv, int16_t *out, float *scale)
{
    float most = 0;
    for (int64_t i = 0; i < (int64_t)n * Dv; i++) {
        float size = v[i] < 0 ? -v[i] : v[i];
        most = size > most ? size : most;
    }
    *scale = most * (1.0f / VALUE_TOP);
    const float inverse = *scale > 1e-30f ? 1.0f / *scale : 0;
    for (int i = 0; i < n; i += 2, v += 2 * (int64_t)Dv, out += 2 * (int64_t)Dv) {
        const float *w = i + 1 < n ? v + Dv : NULL;
        int d = 0;
        for (; d + VL <= Dv; d += VL)
            store_pairs(out + 2 * d, to_int(load(v + d) * splat(inverse)), w ? to_int(load(w + d) * splat(inverse)) : (vi){0});
        for (; d < Dv; d++) {
            out[2 * d] = (int16_t)rintf(v[d] * inverse);
            out[2 * d + 1] = w ? (int16_t)rintf(w[d] * inverse) : 0;
        }
    }
}

/* a += products of pairs x (lanes) with one pair y. */
INLINE __m512i pair_dot(__m512i a, __m512i x, const int16_t *y)
{
    __asm__("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(a) : "v"(x), "m"(*(const int16_t(*)[2])y));
    return a;
}

INLINE void score_many16(const reattn__many16 *t, int key, int R)
{
    __m512i acc[MR][2];
    const int16_t *k = t->k + 2 * key, *q = t->q;
    for (int r = 0; r < R; r++) acc[r][0] = acc[r][1] = _mm512_setzero_si512();
    for (int d = 0; d < t->Dh; d++, k += 2 * REATTN__TILE, q += 2 * LANES) {
        __m512i q0 = _mm512_loadu_si512(q), q1 = _mm512_loadu_si512(q + 2 * VL);
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
            acc[r][0] = pair_dot(acc[r][0], q0, k + 2 * r);
            acc[r][1] = pair_dot(acc[r][1], q1, k + 2 * r);
        }
    }
    vf s0 = load(t->q_scale) * splat(t->k_scale), s1 = load(t->q_scale + VL) * splat(t->k_scale);
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) {
        store(t->p + (int64_t)(key + r) * LANES, (vf)_mm512_cvtepi32_ps(acc[r][0]) * s0);
        store(t->p + (int64_t)(key + r) * LANES + VL, (vf)_mm512_cvtepi32_ps(acc[r][1]) * s1);
    }
}

/* o[dv .. dv + R) = o * alpha + gain * sum over pairs of keys of v * w. */
INLINE void value_many16(const reattn__many16 *t, const int16_t *w, int dv, int R, const vf alpha[2], const vf gain[2])
{
    __m512i acc[MR][2];
    float *o = t->o + (int64_t)dv * LANES;
    const int16_t *v = t->v + 2 * dv;
    for (int r = 0; r < R; r++) acc[r][0] = acc[r][1] = _mm512_setzero_si512();
    for (int key = 0; key < t->n_key; key += 2, v += 2 * t->Dv, w += 2 * LANES) {
        __m512i w0 = _mm512_loadu_si512(w), w1 = _mm512_loadu_si512(w + 2 * VL);
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
            acc[r][0] = pair_dot(acc[r][0], w0, v + 2 * r);
            acc[r][1] = pair_dot(acc[r][1], w1, v + 2 * r);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
        for (int half = 0; half < 2; half++) {
            float *at = o + r * LANES + half * VL;
            store(at, load(at) * alpha[half] + (vf)_mm512_cvtepi32_ps(acc[r][half]) * gain[half]);
        }
}

static void NAME(attend16)(const reattn__many16 *t)
{
    const vf inf = splat(INFINITY);
    int16_t *w = (int16_t *)(t->p + REATTN__TILE * LANES);
    int key = 0, dv = 0;
    vf alpha[2], gain[2];
    for (; key + MR <= t->n_key; key += MR) score_many16(t, key, MR);
    for (; key + 4 <= t->n_key; key += 4) score_many16(t, key, 4);
    for (; key < t->n_key; key++) score_many16(t, key, 1);

    for (int half = 0; half < 2; half++) {
        float *p = t->p + half * VL;
        vf old = load(t->m + half * VL), top = -inf;
        vi sum = {0};
        if (t->lo) {
            vi lo, hi;
            memcpy(&lo, t->lo + half * VL, sizeof lo);
            memcpy(&hi, t->hi + half * VL, sizeof hi);
            for (int i = 0; i < t->n_key; i++) {
                vi at = i - (vi){0};
                store(p + (int64_t)i * LANES, select_f((at >= lo) & (at < hi), load(p + (int64_t)i * LANES), -inf));
            }
        }
        for (int i = 0; i < t->n_key; i++) top = (vf)_mm512_max_ps((__m512)load(p + (int64_t)i * LANES), (__m512)top);
        if (t->n_key % 2) store(p + (int64_t)t->n_key * LANES, -inf);
        /* Weights in units of 2^-13 of the tile's highest; a lane that sees nothing here has none. */
        vf shift = splat(WEIGHT_BITS) - select_f(top == -inf, (vf){0}, top);
        for (int i = 0; i < t->n_key; i += 2) {
            vi a = to_int(exp2_neg(load(p + (int64_t)i * LANES) + shift));
            vi b = to_int(exp2_neg(load(p + (int64_t)(i + 1) * LANES) + shift));
            sum += a + b;
            store_pairs(w + (int64_t)i * LANES + half * 2 * VL, a, b);
        }
        vf all = max_f(top, old), base = select_f(all == -inf, (vf){0}, all);
        vf unit = exp2_neg(top - base) * splat(1.0f / (1 << WEIGHT_BITS));
        alpha[half] = exp2_neg(old - base);
        gain[half] = unit * splat(t->v_scale);
        store(t->l + half * VL, load(t->l + half * VL) * alpha[half] + int_to_float(sum) * unit);
        store(t->m + half * VL, all);
    }
    for (; dv + MR <= t->Dv; dv += MR) value_many16(t, w, dv, MR, alpha, gain);
    for (; dv + 4 <= t->Dv; dv += 4) value_many16(t, w, dv, 4, alpha, gain);
    for (; dv < t->Dv; dv++) value_many16(t, w, dv, 1, alpha, gain);
}
#endif
