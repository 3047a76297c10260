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
        if (planes == 2) __builtin_prefetch(k + 8 * (int64_t)s->Dp * KEYS, 0, 2); /* few rows wait for memory */
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

/* Low parts + 64 of 32 dimensions of one key, from 28 bytes (kv/split.h). */
#ifdef __AVX2__
INLINE __m256i low_of_key(const uint8_t *low)
{
    __m128i a = _mm_loadu_si128((const void *)low), b = _mm_loadu_si128((const void *)(low + 12));
    uint32_t top = (uint32_t)_mm_movemask_epi8(a) | (uint32_t)_mm_movemask_epi8(b) >> 4 << 16;
    uint32_t last = (top & 127) | (top >> 7 & 127) << 8 | (top >> 14 & 127) << 16 | (top >> 21 & 127) << 24;
    b = _mm_insert_epi32(_mm_srli_si128(b, 4), (int)last, 3);
    return _mm256_and_si256(_mm256_set_m128i(b, a), _mm256_set1_epi8(0x7f));
}
#endif
INLINE void open_low(const uint8_t *low, uint8_t *out)
{
#ifdef __AVX2__
    _mm256_storeu_si256((void *)out, low_of_key(low));
#else
    for (int i = 0; i < 4; i++) out[28 + i] = 0;
    for (int j = 0; j < 28; j++) {
        out[j] = low[j] & 0x7f;
        out[28 + j / 7] |= (uint8_t)(low[j] >> 7 << j % 7);
    }
#endif
}

/* The integers of 32 dimensions of one key, `high` being at its first four. */
INLINE void open_key(const uint8_t *high, const uint8_t *low, int16_t *out)
{
#ifdef __AVX2__
    const __m256i rows = _mm256_setr_epi32(0, 64, 128, 192, 256, 320, 384, 448), rest = _mm256_set1_epi16(128 * 128 + 64);
    __m256i h = _mm256_i32gather_epi32((const int *)high, rows, 1), l = low_of_key(low);
    for (int i = 0; i < 2; i++) {
        __m128i a = i ? _mm256_extracti128_si256(h, 1) : _mm256_castsi256_si128(h);
        __m128i b = i ? _mm256_extracti128_si256(l, 1) : _mm256_castsi256_si128(l);
        __m256i n = _mm256_add_epi16(_mm256_slli_epi16(_mm256_cvtepu8_epi16(a), 7), _mm256_cvtepu8_epi16(b));
        _mm256_storeu_si256((void *)(out + 16 * i), _mm256_sub_epi16(n, rest));
    }
#else
    uint8_t h[32], l[32];
    for (int j = 0; j < 8; j++) memcpy(h + 4 * j, high + 64 * j, 4);
    open_low(low, l);
    for (int d = 0; d < 32; d++) out[d] = (int16_t)(h[d] * 128 + l[d] - (128 * 128 + 64));
#endif
}

static void NAME(split_key)(const uint8_t *high, int lane, const uint8_t *low, int Dp, int16_t *out)
{
    for (int d = 0; d < Dp; d += 32) open_key(high + d * KEYS + 4 * lane, low + d / 8 * 7, out + d);
}

static int64_t NAME(dot15)(const uint8_t *high, int lane, const uint8_t *low, int Dp, const int16_t *q)
{
    int16_t k[32];
    int64_t all = 0;
    for (int d = 0; d < Dp; d += 32) {
        open_key(high + d * KEYS + 4 * lane, low + d / 8 * 7, k);
        int32_t part[4] = {0}; /* eight products of 2^28 each fit */
        for (int i = 0; i < 32; i++) part[i % 4] += k[i] * q[d + i];
        for (int i = 0; i < 4; i++) all += part[i];
    }
    return all;
}

static void NAME(split_block)(const uint8_t *high, const uint8_t *low, const uint16_t *scale, const float *mean, int D,
                              float *out, int64_t stride)
{
    uint8_t open[8 * 64]; /* as the high plane has it */
    float size[KEYS];
    for (int i = 0; i < KEYS; i++) size[i] = reattn__bf16_to_float(scale[i]);
    for (int d = 0; d < D; d += 4) { /* the four bytes of a key are one integer */
        for (int i = 0; i < KEYS && d % 32 == 0; i++) {
            uint8_t key[32];
            open_low(low + ((size_t)i * (size_t)((D + 31) / 32) + (size_t)(d / 32)) * 28, key);
            for (int j = 0; j < 8; j++) memcpy(open + 64 * j + 4 * i, key + 4 * j, 4);
        }
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
