/* store.h - the KV store: un-rotated keys and values of every layer, in pages.
 *
 * Memory: a page holds PAGE tokens of one layer, head by head, so that what belongs to one KV head lies together:
 *
 *     page = [ K head 0 | K head 1 | ... | V head 0: PAGE rows | V head 1 | ... ]
 *     keys of a head: blocks of 16 keys, dimension by dimension (block.h); or split in two planes (split.h), and then
 *     the front parts of all heads come before the back parts
 *     row = Dv values of one token: f32, f16, or q8_0 (for each 32: a half scale and signed bytes)
 *
 * The store grows page by page; nothing that was stored is ever moved, unless keys are dropped (keep). Room is taken
 * for all layers at once, before a step (reserve), so that a step either fits or leaves everything as it was. One
 * thread at a time writes; any number reads what was appended before. */
#ifndef REATTN_STORE_H
#define REATTN_STORE_H

#include "base/base.h"
#include "kv/split.h"
#include "reattn/reattn.h"

#define REATTN__PAGE REATTN__SPLIT_KEYS

/* Shape of one attention layer, as the model's graph has it. */
typedef struct reattn__layer {
    int H, Hk, D, Dv;  /* query heads, KV heads, head sizes of K and V */
    float kq_scale;    /* factor on q . k */
    reattn_rope rope;
} reattn__layer;

typedef struct reattn__store reattn__store;

/* `layers` [n_layer] is copied. limit: most bytes, 0 = none. Errors: E_ARG (q8_0 with a head size that is not a
 * multiple of 32, split values), E_NOMEM. */
int reattn__store_create(const reattn__layer *layers, int n_layer, int type_k, int type_v, uint64_t limit,
                         reattn__store **out, reattn_error *err);
void reattn__store_free(reattn__store *store);

const reattn__layer *reattn__store_shape(const reattn__store *store, int layer);

/* Bytes that n tokens take. */
uint64_t reattn__store_bytes_for(const reattn__layer *layers, int n_layer, int type_k, int type_v, int64_t n);
/* Bytes of one head's key of D values: all of them, and those that a scan of q . k reads. */
size_t reattn__store_key_bytes(int type, int D);
size_t reattn__store_scan_bytes(int type, int D);
/* Bytes taken now. */
uint64_t reattn__store_bytes(const reattn__store *store);

/* Takes the pages for n tokens in all layers. On E_LIMIT or E_NOMEM what is there stays. */
int reattn__store_reserve(reattn__store *store, int64_t n, reattn_error *err);
/* Appends T tokens to one layer: k [T][Hk][D], v [T][Hk][Dv]; room must have been reserved. Errors: E_NAN when a value
 * is not finite or, stored in 16 bits, would not be (|x| > 65504). The layer is then unchanged. */
int reattn__store_append(reattn__store *store, int layer, int64_t T, const float *k, const float *v, reattn_error *err);
/* Tokens held by a layer. */
int64_t reattn__store_length(const reattn__store *store, int layer);
/* Forgets tokens from n on in all layers and gives back pages that became empty. */
void reattn__store_truncate(reattn__store *store, int64_t n);

/* For a store of which keys will be dropped; before the first append. Split keys are then stored with no mean
 * subtracted, so that one read with a mean never comes where there is none. (A scan of them prunes less.) */
void reattn__store_movable(reattn__store *store);
/* Of each KV head of a layer the n tokens of its list kept [Hk][n], ascending, stay and become tokens 0 .. n - 1, bit
 * for bit as they were stored; the others are dropped. Follow it, once for all layers, by truncate(n), which gives back
 * pages. Errors: E_INTERNAL (a list that is not ascending or not of held tokens; split keys that have a mean). The
 * layer is then unchanged. */
int reattn__store_keep(reattn__store *store, int layer, const int64_t *kept, int64_t n, reattn_error *err);

/* Reads keys first .. first + count - 1 of a KV head as f32, dimension by dimension: out[d * stride + i]. */
void reattn__store_read_k(const reattn__store *store, int layer, int head, int64_t first, int64_t count, float *out,
                          int64_t stride);
/* Reads values as f32 rows: out [count][Dv]. */
void reattn__store_read_v(const reattn__store *store, int layer, int head, int64_t first, int64_t count, float *out);

/* A KV head's split keys in one page (split.h). */
typedef struct reattn__planes {
    reattn__split keys;
    const float *mean; /* [D] or NULL */
    reattn__split_bound bound;
} reattn__planes;
/* Those of the page of token `at`; false if keys are of another type. */
bool reattn__store_planes(const reattn__store *store, int layer, int head, int64_t at, reattn__planes *out);
/* The row of token `at` and those behind it in its page, if values are f16; else NULL. */
const uint16_t *reattn__store_half_values(const reattn__store *store, int layer, int head, int64_t at);

#endif
