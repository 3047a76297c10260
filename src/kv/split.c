/* split.c - encoding and decoding split keys. See split.h. */
#include "split.h"

#include <math.h>
#include <string.h>

#include "cpu/half.h"
#include "cpu/kernels.h"

enum { TOP = 127 * 128 - 1 }; /* largest integer, so that high stays within 127 */

/* The least bfloat16 that is not below x >= 0; values under 2^-100 become 0. */
static uint16_t bf16_up(float x)
{
    uint32_t bits = reattn__f32_bits(x);
    return x < 0x1p-100f ? 0 : (uint16_t)((bits >> 16) + ((bits & 0xffffu) != 0));
}

/* Where dimension d of a block's key lies in its high plane, and in its low plane if that has a row of its own. */
static size_t place_high(int d, int lane)
{
    return ((size_t)(d / 4) * REATTN__BLOCK + (size_t)lane) * 4 + (size_t)(d % 4);
}
static size_t place_low(int d, int lane)
{
    return ((size_t)(d / 32 * 7 + d % 32 / 4) * REATTN__BLOCK + (size_t)lane) * 4 + (size_t)(d % 4);
}

static void put_low(uint8_t *low, int d, int lane, unsigned value)
{
    if (d % 32 < 28) {
        uint8_t *at = low + place_low(d, lane);
        *at = (uint8_t)((*at & 0x80u) | value);
        return;
    }
    for (int j = 0; j < 7; j++) { /* bit j goes to the top of row j */
        uint8_t *at = low + place_low(d - 28 + 4 * j, lane);
        *at = (uint8_t)((*at & 0x7fu) | (value >> j & 1u) << 7);
    }
}

/* Reads the low parts of one key, + 64: out [Dp]. */
static void get_low(const uint8_t *low, int Dp, int lane, uint8_t *out)
{
    for (int d = 0; d < Dp; d += 32, out += 32) {
        uint32_t last = 0, four;
        for (int j = 0; j < 7; j++) { /* four dimensions at a time */
            memcpy(&four, low + place_low(d + 4 * j, lane), sizeof four);
            last |= (four >> 7 & 0x01010101u) << j;
            four &= 0x7f7f7f7fu;
            memcpy(out + 4 * j, &four, sizeof four);
        }
        memcpy(out + 28, &last, sizeof last);
    }
}

static void get_key(const reattn__split *keys, int D, int i, const float *mean, float *out, int64_t stride)
{
    const uint8_t *high = reattn__split_high(keys, D, i / REATTN__BLOCK);
    uint8_t low[512];
    float scale = reattn__bf16_to_float(reattn__split_scale(keys)[i]);
    get_low(reattn__split_low(keys, D, i / REATTN__BLOCK), reattn__split_dp(D), i % REATTN__BLOCK, low);
    for (int d = 0; d < D; d++) {
        int n = ((int)high[place_high(d, i % REATTN__BLOCK)] - 128) * 128 + (int)low[d] - 64;
        out[d * stride] = (mean ? mean[d] : 0) + scale * (float)n;
    }
}

/* The nearest integer, ties to even, within -TOP .. TOP. The sum has no room for a fraction; no call of libm, of which
 * a step would make some hundred thousand. */
static int nearest(float x)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23 */
    x = x > TOP ? TOP : x < -TOP ? -TOP : x;
    return (int)((x + magic) - magic);
}

void reattn__split_put(const reattn__split *keys, int D, int i, const float *x, const float *mean,
                       reattn__split_bound *bound)
{
    uint8_t *high = reattn__split_high(keys, D, i / REATTN__BLOCK);
    uint8_t *low = reattn__split_low(keys, D, i / REATTN__BLOCK);
    int Dp = reattn__split_dp(D), lane = i % REATTN__BLOCK;
    float rest[512], top = 0;
    double norm = 0, sum_high = 0, sum_low = 0;
    for (int d = 0; d < D; d++) {
        rest[d] = mean ? x[d] - mean[d] : x[d];
        float size = fabsf(rest[d]);
        top = size > top ? size : top;
    }
    uint16_t bits = bf16_up(top / TOP);
    float scale = reattn__bf16_to_float(bits), inverse = scale > 0 ? 1.0f / scale : 0;
    reattn__split_scale(keys)[i] = bits;
    for (int d = 0; d < Dp; d++) {
        int n = d < D ? nearest(rest[d] * inverse) : 0;
        int h = (n + 64) >> 7, l = n - h * 128;
        high[place_high(d, lane)] = (uint8_t)(h + 128);
        put_low(low, d, lane, (unsigned)(l + 64));
        sum_high += (double)(h * 128) * (h * 128);
        sum_low += (double)l * l;
        if (d < D) {
            double value = (double)((mean ? mean[d] : 0) + scale * (float)n);
            norm += value * value;
        }
    }
    /* Rounded up by more than the roundings here and of the conversion. */
    bound->norm = fmaxf(bound->norm, (float)(sqrt(norm) * (1 + 1e-6)));
    bound->high = fmaxf(bound->high, (float)(sqrt(sum_high) * (1 + 1e-6)));
    bound->low = fmaxf(bound->low, (float)(sqrt(sum_low) * (1 + 1e-6)));
}

void reattn__split_get(const reattn__split *keys, int D, int lo, int hi, const float *mean, float *out, int64_t stride)
{
    for (int i = lo; i < hi;) {
        if (i % REATTN__BLOCK || hi - i < REATTN__BLOCK) {
            get_key(keys, D, i, mean, out + (i - lo), stride);
            i++;
            continue;
        }
        int block = i / REATTN__BLOCK;
        reattn__cpu()->split_block(reattn__split_high(keys, D, block), reattn__split_low(keys, D, block),
                                   reattn__split_scale(keys) + i, mean, D, out + (i - lo), stride);
        i += REATTN__BLOCK;
    }
}

/* A key's bytes lie together by four in every row of 16 keys, the eighth of the low rows in the bits of the others. */
static void move_fours(const uint8_t *from, int i, uint8_t *to, int j, int rows)
{
    const int row = 4 * REATTN__BLOCK;
    for (int r = 0; r < rows; r++)
        memmove(to + r * row + j % REATTN__BLOCK * 4, from + r * row + i % REATTN__BLOCK * 4, 4);
}

void reattn__split_move(const reattn__split *from, int i, const reattn__split *to, int j, int D)
{
    int a = i / REATTN__BLOCK, b = j / REATTN__BLOCK, Dp = reattn__split_dp(D);
    move_fours(reattn__split_high(from, D, a), i, reattn__split_high(to, D, b), j, Dp / 4);
    move_fours(reattn__split_low(from, D, a), i, reattn__split_low(to, D, b), j, Dp / 32 * 7);
    reattn__split_scale(to)[j] = reattn__split_scale(from)[i];
}
