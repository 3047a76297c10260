/* block.h - keys in blocks of 16 tokens, dimension by dimension: [D][16].
 *
 * A vector then holds one dimension of 16 keys. A scan for a few queries multiplies it by a broadcast query value, with
 * no sum across a vector; a scan for many queries broadcasts its elements; and RoPE, whose angles run with the
 * position, turns 16 keys at a time. */
#ifndef REATTN_BLOCK_H
#define REATTN_BLOCK_H

#include <stddef.h>
#include <stdint.h>

#define REATTN__BLOCK 16

/* Stores key x [D] as number `lane` of a block. */
void reattn__block_put(int type, int D, const float *x, void *block, int lane);
/* Reads lanes [lo, hi) of a block as f32: lane lo + i of dimension d goes to out[d * stride + i]. */
void reattn__block_get(int type, int D, const void *block, int lo, int hi, float *out, int64_t stride);
/* Copies a stored key, bit for bit, to another place: block and lane. */
void reattn__block_move(int type, int D, const void *from, int lane_from, void *to, int lane_to);

#endif
