/* split.h - keys as 15-bit fixed-point numbers in two planes, so that a scan reads one byte a value.
 *
 *     k[d] = mean[d] + scale * (128 * high[d] + low[d])        high in -127 .. 127, low in -64 .. 63
 *
 * mean is one vector for each (layer, KV head), or none: subtracting it changes no ranking and makes the high plane
 * fine. scale is a bfloat16 of each key; with its 8 bits scale * integer is exact in f32, so k[d] is rounded once and
 * every machine reads the same. 15 bits are finer than f16 for all but the smallest values of a key.
 *
 * The keys of one KV head in one page, in two parts. The front parts of all heads lie together in a page, so that a
 * scan reads long stretches of memory:
 *     front  scale [1024]                           bfloat16
 *            high  [64 blocks][Dp / 4][16 keys][4]  bytes, + 128: 4 dimensions of 16 keys, as integer products take them
 *     back   low   [64 blocks][Dp / 32][7][16][4]   bytes, + 64: of 8 such rows seven keep their 7 bits; in the bits
 *                                                   that are left over they hold the eighth
 * Dp is D rounded up to 32. Bytes of a key: 2 + 15/8 Dp, less than the 2 D of f16 from D = 32 on. */
#ifndef REATTN_SPLIT_H
#define REATTN_SPLIT_H

#include <stddef.h>
#include <stdint.h>

#include "kv/block.h"

/* Keys of one head in a page. */
#define REATTN__SPLIT_KEYS 1024

typedef struct reattn__split {
    void *front, *back;
} reattn__split;

static inline int reattn__split_dp(int D) { return (D + 31) / 32 * 32; }
static inline size_t reattn__split_front_bytes(int D)
{
    return REATTN__SPLIT_KEYS * (sizeof(uint16_t) + (size_t)reattn__split_dp(D));
}
static inline size_t reattn__split_back_bytes(int D)
{
    return REATTN__SPLIT_KEYS * (size_t)reattn__split_dp(D) / 8 * 7;
}

static inline uint16_t *reattn__split_scale(const reattn__split *keys) { return (uint16_t *)keys->front; }
static inline uint8_t *reattn__split_high(const reattn__split *keys, int D, int block)
{
    return (uint8_t *)(reattn__split_scale(keys) + REATTN__SPLIT_KEYS) +
           (size_t)block * (size_t)reattn__split_dp(D) * REATTN__BLOCK;
}
static inline uint8_t *reattn__split_low(const reattn__split *keys, int D, int block)
{
    return (uint8_t *)keys->back + (size_t)block * (size_t)reattn__split_dp(D) / 8 * 7 * REATTN__BLOCK;
}

/* What bounds the error of a scan over some keys. */
typedef struct reattn__split_bound {
    float norm;      /* no key is longer */
    float high, low; /* nor its parts, in units of its scale: |128 high|, |low| */
} reattn__split_bound;

/* Stores x [D] as key i; widens the bound. mean [D] or NULL. |x| up to 1e30. */
void reattn__split_put(const reattn__split *keys, int D, int i, const float *x, const float *mean,
                       reattn__split_bound *bound);
/* Reads keys [lo, hi) as f32: key lo + j of dimension d goes to out[d * stride + j]. */
void reattn__split_get(const reattn__split *keys, int D, int lo, int hi, const float *mean, float *out, int64_t stride);
/* Copies key i, bit for bit, to be key j there. Both are read with the same mean. */
void reattn__split_move(const reattn__split *from, int i, const reattn__split *to, int j, int D);

#endif
