/* tier.h - what attention needs of keys and values that lie in the host's memory, kept on the device.
 *
 * A tier has a slot, a row of keys and one of values, for
 *   - each of the last `ring` tokens: token t is in slot t % ring. Every step writes its rows there as it stores them;
 *   - each of the first `keep` tokens;
 *   - `pool` tokens of those between, which a step has chosen. Steps choose much the same: what stays chosen stays in its
 *     slot, and only what is new comes over the bus.
 * Attention gets a list of slots where it had one of tokens, and the tier's rows where it had the store's: the same values
 * in the same order. With a list of tokens for each KV head, each head has slots of its own in the pool.
 *
 * What the pool holds is known to the device alone: tokens, ascending, with their slots, of the last step. The host knows
 * what is sound: tokens [from, n) are in the ring, and those below `sound` are in the pool as the store has them. */
#ifndef REATTN_CUDA_TIER_H
#define REATTN_CUDA_TIER_H

#include <stddef.h>
#include <stdint.h>

#include "cuda/attend.h"
#include "cuda/step.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct reattn__cuda_layer reattn__cuda_layer;

typedef struct reattn__cuda_tier {
    int Hk, D, lists;         /* lists: 1, or Hk */
    int64_t ring, keep, pool; /* slots of each kind, in this order; pool: a list's */
    int64_t room;             /* most tokens of a scope */
    void *k, *v;              /* [ring + keep + pool][Hk][D] */
    int64_t from, sound;
    int step;                   /* counts those that brought something, so that a mark is out of date by itself */
    int which;                  /* of the two sets of held tokens is the last step's */
    int32_t *held, *slots;      /* [2][lists][pool] */
    int32_t *n_held;            /* [2][lists] */
    int32_t *marks;             /* [lists][pool] the step that last used a slot */
    unsigned long long *counts; /* [2] keys read for their scores, rows brought: of keys and values, of one head */
} reattn__cuda_tier;

/* What a layer needs: the fields down to room, and those below are 0. */
reattn__cuda_tier reattn__cuda_tier_for(const reattn__cuda_context_args *args, int layer);
/* Memory is taken on the current device. */
int reattn__cuda_tier_open(reattn__cuda_tier *tier, reattn_error *err);
void reattn__cuda_tier_close(reattn__cuda_tier *tier);
/* Bytes that open takes. */
uint64_t reattn__cuda_tier_bytes(const reattn__cuda_tier *tier);
/* Tokens from n on are forgotten. */
void reattn__cuda_tier_rewind(reattn__cuda_tier *tier, int64_t n);

/* Before T tokens are appended to the layer: after a rewind, brings back what the ring has lost. */
int reattn__cuda_tier_ready(reattn__cuda_tier *tier, const reattn__cuda_layer *layer, int64_t T, void *stream,
                            reattn_error *err);
/* Queues what brings the tokens of a scope to the tier; the scope then is one of slots (positions: of tokens, if it is
 * `original`). layer->n counts the step. work: reattn__cuda_tier_scratch(tier), aligned to 256. */
int reattn__cuda_tier_bring(reattn__cuda_tier *tier, const reattn__cuda_layer *layer, reattn__cuda_scope *scope,
                            void *work, void *stream, reattn_error *err);
size_t reattn__cuda_tier_scratch(const reattn__cuda_tier *tier);
/* As reattn__cuda_traffic. */
int reattn__cuda_tier_traffic(const reattn__cuda_tier *tier, uint64_t *scored, uint64_t *brought, void *stream,
                              reattn_error *err);

#ifdef __cplusplus
}
#endif
#endif
