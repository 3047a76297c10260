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

/* Where dimension d of a block's key lies in its high plane. */
static size_t place_high(int d, int lane) { return ((size_t)(d / 4) * REATTN__BLOCK + (size_t)lane) * 4 + (size_t)(d % 4); }

/* Low parts + 64 of 32 dimensions, 7 bits each, into 28 bytes: the last four go to the bits that the others leave. */
static void pack_low(const uint8_t *value, uint8_t *low)
{
    for (int j = 0; j < 28; j++) low[j] = (uint8_t)(value[j] | (value[28 + j / 7] >> j % 7 & 1u) << 7);
}

static void get_key(const reattn__split *keys, int D, int i, const float *mean, float *out, int64_t stride)
{
    int16_t n[512];
    float scale = reattn__bf16_to_float(reattn__split_scale(keys)[i]);
    reattn__cpu()->split_key(reattn__split_high(keys, D, i / REATTN__BLOCK), i % REATTN__BLOCK,
                             reattn__split_low(keys, D, i), reattn__split_dp(D), n);
    for (int d = 0; d < D; d++) out[d * stride] = (mean ? mean[d] : 0) + scale * (float)n[d];
}

void reattn__split_put(const reattn__split *keys, int D, int i, const float *x, const float *mean, reattn__split_bound *bound)
{
    uint8_t *high = reattn__split_high(keys, D, i / REATTN__BLOCK);
    uint8_t low[512];
    int Dp = reattn__split_dp(D), lane = i % REATTN__BLOCK;
    float rest[512], top = 0;
    double norm = 0, sum_high = 0, sum_low = 0;
    for (int d = 0; d < D; d++) {
        rest[d] = mean ? x[d] - mean[d] : x[d];
        top = fmaxf(top, fabsf(rest[d]));
    }
    uint16_t bits = bf16_up(top / TOP);
    float scale = reattn__bf16_to_float(bits), inverse = scale > 0 ? 1.0f / scale : 0;
    reattn__split_scale(keys)[i] = bits;
    for (int d = 0; d < Dp; d++) {
        int n = d < D ? (int)fmaxf(-TOP, fminf(TOP, rintf(rest[d] * inverse))) : 0;
        int h = (n + 64) >> 7, l = n - h * 128;
        high[place_high(d, lane)] = (uint8_t)(h + 128);
        low[d] = (uint8_t)(l + 64);
        sum_high += (double)(h * 128) * (h * 128);
        sum_low += (double)l * l;
        if (d < D) {
            double value = (double)((mean ? mean[d] : 0) + scale * (float)n);
            norm += value * value;
        }
    }
    for (int d = 0; d < Dp; d += 32) pack_low(low + d, reattn__split_low(keys, D, i) + d / 8 * 7);
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
        reattn__cpu()->split_block(reattn__split_high(keys, D, block), reattn__split_low(keys, D, i), reattn__split_scale(keys) + i,
                                   mean, D, out + (i - lo), stride);
        i += REATTN__BLOCK;
    }
}

void reattn__split_move(const reattn__split *from, int i, const reattn__split *to, int j, int D)
{
    const uint8_t *high = reattn__split_high(from, D, i / REATTN__BLOCK);
    uint8_t *high_to = reattn__split_high(to, D, j / REATTN__BLOCK);
    for (int d = 0; d < reattn__split_dp(D); d += 4) /* by four in every row of 16 keys */
        memmove(high_to + place_high(d, j % REATTN__BLOCK), high + place_high(d, i % REATTN__BLOCK), 4);
    memmove(reattn__split_low(to, D, j), reattn__split_low(from, D, i), reattn__split_low_bytes(D));
    reattn__split_scale(to)[j] = reattn__split_scale(from)[i];
}
