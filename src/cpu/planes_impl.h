/* planes_impl.h - kernels on split keys (kv/split.h), part of kernels_impl.h.
 *
 * DOT4 adds the products of 4 dimensions of 16 keys with 4 of a query to 16 sums of 32 bits. AVX-512 has one instruction
 * for it, and so has Arm; elsewhere the compiler makes what it can of the plain loop. */
#define KEYS 16

INLINE vf int_to_float(vi x) { return __builtin_convertvector(x, vf); }

#if defined(__AVX512VNNI__)
typedef __m512i sums, bytes;
INLINE bytes bytes_at(const uint8_t *k, int high)
{
    (void)high;
    return _mm512_loadu_si512(k);
}
enum { EXCESS = 128 }; /* what is too much in a byte of the high plane, as bytes_at gives it */
INLINE sums sums_of(int32_t x) { return _mm512_set1_epi32(x); }
/* In assembler, since compilers load q into a register of its own and copy sums back and forth. */
INLINE sums dot4(sums s, bytes k, const int8_t *q)
{
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(s) : "v"(k), "m"(*(const char(*)[4])q));
    return s;
}
INLINE sums add_128(sums low, sums high) { return _mm512_add_epi32(low, _mm512_slli_epi32(high, 7)); }
INLINE unsigned reach(sums s, const uint16_t *scale, float thr)
{
    __m512 size = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)scale)), 16));
    return _mm512_cmp_ps_mask(_mm512_mul_ps(_mm512_cvtepi32_ps(s), size), _mm512_set1_ps(thr), _CMP_GE_OQ);
}
INLINE void store_sums(int32_t *out, sums s) { _mm512_storeu_si512(out, s); }
enum { ROWS_MANY = 12, BLOCKS_MANY = 2 };
#elif defined(__AVX2__)
/* Sums of pairs of dimensions: keys 0 .. 3, 4 .. 7, ... in four vectors, two sums a key. */
typedef struct sums {
    __m256i s[4];
} sums;
typedef const uint8_t *bytes;
INLINE bytes bytes_at(const uint8_t *k, int high)
{
    (void)high;
    return k;
}
enum { EXCESS = 128 };
INLINE sums sums_of(int32_t x)
{
    __m256i one = _mm256_setr_epi32(x, 0, x, 0, x, 0, x, 0);
    return (sums){{one, one, one, one}};
}
INLINE sums dot4(sums s, bytes k, const int8_t *q)
{
    int32_t four;
    memcpy(&four, q, sizeof four);
    __m256i qq = _mm256_broadcastq_epi64(_mm_cvtepi8_epi16(_mm_cvtsi32_si128(four)));
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        s.s[i] = _mm256_add_epi32(
            s.s[i], _mm256_madd_epi16(_mm256_cvtepu8_epi16(_mm_loadu_si128((const void *)(k + 16 * i))), qq));
    return s;
}
INLINE sums add_128(sums low, sums high)
{
    for (int i = 0; i < 4; i++) low.s[i] = _mm256_add_epi32(low.s[i], _mm256_slli_epi32(high.s[i], 7));
    return low;
}
/* Keys 8 half .. 8 half + 7. */
INLINE __m256i join(sums s, int half)
{
    return _mm256_permute4x64_epi64(_mm256_hadd_epi32(s.s[2 * half], s.s[2 * half + 1]), 0xd8);
}
INLINE unsigned reach(sums s, const uint16_t *scale, float thr)
{
    unsigned keys = 0;
    for (int half = 0; half < 2; half++) {
        __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)(scale + 8 * half)));
        __m256 size = _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
        __m256 over = _mm256_cmp_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(join(s, half)), size), _mm256_set1_ps(thr), _CMP_GE_OQ);
        keys |= (unsigned)_mm256_movemask_ps(over) << 8 * half;
    }
    return keys;
}
INLINE void store_sums(int32_t *out, sums s)
{
    _mm256_storeu_si256((__m256i *)out, join(s, 0));
    _mm256_storeu_si256((__m256i *)(out + 8), join(s, 1));
}
enum { ROWS_MANY = 2, BLOCKS_MANY = 1 };
#elif defined(__ARM_FEATURE_DOTPROD)
/* Keys 0 .. 3, 4 .. 7, ... The instruction wants signed bytes: 128 too much is one bit turned. */
typedef struct sums {
    int32x4_t s[4];
} sums;
typedef struct bytes {
    int8x16_t b[4];
} bytes;
INLINE bytes bytes_at(const uint8_t *k, int high)
{
    bytes x;
    for (int i = 0; i < 4; i++)
        x.b[i] = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(k + 16 * i), vdupq_n_u8(high ? 0x80 : 0)));
    return x;
}
enum { EXCESS = 0 };
INLINE sums sums_of(int32_t x)
{
    int32x4_t one = vdupq_n_s32(x);
    return (sums){{one, one, one, one}};
}
INLINE sums dot4(sums s, bytes k, const int8_t *q)
{
    int32_t four;
    memcpy(&four, q, sizeof four);
    int8x16_t qq = vreinterpretq_s8_s32(vdupq_n_s32(four));
    for (int i = 0; i < 4; i++) s.s[i] = vdotq_s32(s.s[i], k.b[i], qq);
    return s;
}
INLINE sums add_128(sums low, sums high)
{
    for (int i = 0; i < 4; i++) low.s[i] = vaddq_s32(low.s[i], vshlq_n_s32(high.s[i], 7));
    return low;
}
INLINE unsigned reach(sums s, const uint16_t *scale, float thr)
{
    unsigned keys = 0;
    const uint32x4_t bit = {1, 2, 4, 8};
    for (int i = 0; i < 4; i++) {
        float32x4_t size = vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(scale + 4 * i), 16));
        uint32x4_t over = vcgeq_f32(vmulq_f32(vcvtq_f32_s32(s.s[i]), size), vdupq_n_f32(thr));
        keys |= vaddvq_u32(vandq_u32(over, bit)) << 4 * i;
    }
    return keys;
}
INLINE void store_sums(int32_t *out, sums s)
{
    for (int i = 0; i < 4; i++) vst1q_s32(out + 4 * i, s.s[i]);
}
enum { ROWS_MANY = 4, BLOCKS_MANY = 1 };
#else
typedef struct sums {
    int32_t s[KEYS];
} sums;
typedef const uint8_t *bytes;
INLINE bytes bytes_at(const uint8_t *k, int high)
{
    (void)high;
    return k;
}
enum { EXCESS = 128 };
INLINE sums sums_of(int32_t x)
{
    sums s;
    for (int i = 0; i < KEYS; i++) s.s[i] = x;
    return s;
}
INLINE sums dot4(sums s, bytes k, const int8_t *q)
{
    for (int i = 0; i < KEYS; i++)
        s.s[i] += k[4 * i] * q[0] + k[4 * i + 1] * q[1] + k[4 * i + 2] * q[2] + k[4 * i + 3] * q[3];
    return s;
}
INLINE sums add_128(sums low, sums high)
{
    for (int i = 0; i < KEYS; i++) low.s[i] += high.s[i] * 128;
    return low;
}
INLINE unsigned reach(sums s, const uint16_t *scale, float thr)
{
    unsigned keys = 0;
    for (int i = 0; i < KEYS; i++) keys |= (unsigned)((float)s.s[i] * reattn__bf16_to_float(scale[i]) >= thr) << i;
    return keys;
}
INLINE void store_sums(int32_t *out, sums s) { memcpy(out, s.s, sizeof s.s); }
enum { ROWS_MANY = 2, BLOCKS_MANY = 1 };
#endif

/* R rows from `row` on against B blocks from `block` on (R, B, planes constant). */
INLINE void scan8_block(const reattn__scan8 *s, int row, int R, int block, int B, int planes)
{
    const int8_t *q = s->q + (int64_t)row * 2 * s->Dp;
    const uint8_t *k = s->high + (int64_t)block * s->Dp * KEYS;
    sums high[ROWS_MANY > 4 ? ROWS_MANY : 4][2], low[4][2];
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) {
        int32_t h = -EXCESS * s->sum[2 * (row + r)], l = s->allow[row + r];
        for (int b = 0; b < B; b++) high[r][b] = sums_of(planes == 1 ? h + l : h);
        if (planes == 2)
            for (int b = 0; b < B; b++) low[r][b] = sums_of(l - EXCESS * s->sum[2 * (row + r) + 1]);
    }
    for (int d = 0; d < s->Dp; d += 4, k += 4 * KEYS) {
        bytes at[2];
        if (planes == 2) __builtin_prefetch(k + 4 * (int64_t)s->Dp * KEYS, 0, 2); /* few rows wait for memory */
        for (int b = 0; b < B; b++) at[b] = bytes_at(k + (int64_t)b * s->Dp * KEYS, 1);
#pragma GCC unroll 12
        for (int r = 0; r < R; r++) {
            for (int b = 0; b < B; b++) high[r][b] = dot4(high[r][b], at[b], q + r * 2 * s->Dp + d);
            if (planes == 2)
                for (int b = 0; b < B; b++) low[r][b] = dot4(low[r][b], at[b], q + (r * 2 + 1) * s->Dp + d);
        }
    }
    unsigned keys[ROWS_MANY > 4 ? ROWS_MANY : 4][2], any = 0;
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) {
        for (int b = 0; b < B; b++) {
            sums all = planes == 2 ? add_128(low[r][b], high[r][b]) : high[r][b];
            any |= keys[r][b] = reach(all, s->scale + (block + b) * KEYS, s->thr[row + r]);
        }
    }
    if (__builtin_expect(any == 0, 1)) return;
    for (int b = 0; b < B; b++)
        for (int r = 0; r < R; r++)
            if (keys[r][b]) s->hit(s->ctx, block + b, row + r, keys[r][b]);
}

INLINE void scan8_rows(const reattn__scan8 *s, int row, int R, int block, int n_block, int planes)
{
    int b = block;
    /* Few rows wait for memory, which likes to be read in one stream. */
    for (; planes == 1 && b + BLOCKS_MANY <= block + n_block; b += BLOCKS_MANY) scan8_block(s, row, R, b, BLOCKS_MANY, planes);
    for (; b < block + n_block; b++) scan8_block(s, row, R, b, 1, planes);
}

static void NAME(scan8)(const reattn__scan8 *s)
{
    int step = s->planes == 2 ? s->n_block : BLOCKS_MANY; /* many rows: a few blocks stay in the first cache */
    for (int b = 0; b < s->n_block; b += step) {
        int n = s->n_block - b < step ? s->n_block - b : step, row = 0;
        int planes = s->planes == 2 ? 2 : 1;
        if (planes == 1)
            for (; row + ROWS_MANY <= s->n_row; row += ROWS_MANY) scan8_rows(s, row, ROWS_MANY, b, n, 1);
        for (; row + 4 <= s->n_row; row += 4)
            if (planes == 2) scan8_rows(s, row, 4, b, n, 2);
            else scan8_rows(s, row, 4, b, n, 1);
        if (planes == 2 && row + 3 == s->n_row) {
            scan8_rows(s, row, 3, b, n, 2);
            continue;
        }
        for (; row < s->n_row; row++)
            if (planes == 2) scan8_rows(s, row, 1, b, n, 2);
            else scan8_rows(s, row, 1, b, n, 1);
    }
}

/* Low rows 0 .. 7 of 32 dimensions, [8][16][4], each byte + 64. */
INLINE void open_low(const uint8_t *low, uint8_t *out)
{
#if defined(__AVX512F__)
    const __m512i seven = _mm512_set1_epi8(0x7f), one = _mm512_set1_epi8(1);
    __m512i last = _mm512_setzero_si512();
#pragma GCC unroll 7
    for (int j = 0; j < 7; j++) {
        __m512i x = _mm512_loadu_si512(low + 64 * j);
        _mm512_storeu_si512(out + 64 * j, _mm512_and_si512(x, seven));
        last = _mm512_or_si512(last, _mm512_slli_epi16(_mm512_and_si512(_mm512_srli_epi16(x, 7), one), (unsigned)j));
    }
    _mm512_storeu_si512(out + 64 * 7, last);
#else
    uint8_t last[64] = {0};
    for (int j = 0; j < 7; j++) {
        for (int i = 0; i < 64; i++) {
            out[64 * j + i] = low[64 * j + i] & 0x7f;
            last[i] |= (uint8_t)(low[64 * j + i] >> 7 << j);
        }
    }
    memcpy(out + 64 * 7, last, sizeof last);
#endif
}

static void NAME(dot15)(const uint8_t *high, const uint8_t *low, int Dp, const int8_t *q, const int32_t *sum, float out[16])
{
    /* high . high, the two mixed products, low . low; each exact in 32 bits. */
    sums hh = sums_of(-EXCESS * sum[0]), mixed = sums_of(-64 * sum[0] - EXCESS * sum[1]), ll = sums_of(-64 * sum[1]);
    int32_t a[KEYS], b[KEYS], c[KEYS];
    uint8_t open[8 * 64];
    for (int d = 0; d < Dp; d += 32, low += 7 * 64) {
        open_low(low, open);
        for (int j = 0; j < 8; j++, high += 4 * KEYS) {
            const int8_t *qh = q + d + 4 * j, *ql = qh + Dp;
            bytes h = bytes_at(high, 1), l = bytes_at(open + 64 * j, 0);
            hh = dot4(hh, h, qh);
            mixed = dot4(dot4(mixed, h, ql), l, qh);
            ll = dot4(ll, l, ql);
        }
    }
    store_sums(a, hh);
    store_sums(b, mixed);
    store_sums(c, ll);
    for (int i = 0; i < KEYS; i++) out[i] = (float)(16384.0 * a[i] + 128.0 * b[i] + c[i]);
}

static void NAME(split_block)(const uint8_t *high, const uint8_t *low, const uint16_t *scale, const float *mean, int D,
                              float *out, int64_t stride)
{
    uint8_t open[8 * 64];
    float size[KEYS];
    for (int i = 0; i < KEYS; i++) size[i] = reattn__bf16_to_float(scale[i]);
    for (int d = 0; d < D; d += 4) { /* the four bytes of a key are one integer */
        if (d % 32 == 0) open_low(low + d / 32 * 7 * 64, open);
        for (int i = 0; i < KEYS; i += VL) {
            vi h, l;
            memcpy(&h, high + d / 4 * 64 + 4 * i, sizeof h);
            memcpy(&l, open + d % 32 / 4 * 64 + 4 * i, sizeof l);
            for (int j = 0; j < 4 && d + j < D; j++, h >>= 8, l >>= 8) {
                vf n = int_to_float(((h & 255) << 7) + (l & 255) - (128 * 128 + 64));
                store(out + (d + j) * stride + i, n * load(size + i) + splat(mean ? mean[d + j] : 0));
            }
        }
    }
}
