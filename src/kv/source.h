/* source.h - where select and attend read keys and values from: one layer of a store, or a caller's dense arrays.
 * Both come out as f32 rows of one KV head. */
#ifndef REATTN_SOURCE_H
#define REATTN_SOURCE_H

#include <string.h>

#include "kv/store.h"

typedef struct reattn__source {
    const reattn__store *store; /* with `layer`; or NULL, and then the arrays */
    int layer;
    const float *k, *v; /* [n][Hk][D], [n][Hk][Dv] */
    int Hk, D, Dv;
} reattn__source;

static inline void reattn__source_rows(const float *x, int Hk, int D, int head, int64_t first, int64_t count, float *out)
{
    for (int64_t i = 0; i < count; i++) memcpy(out + i * D, x + ((first + i) * Hk + head) * D, (size_t)D * sizeof *out);
}

static inline void reattn__source_k(const reattn__source *s, int head, int64_t first, int64_t count, float *out)
{
    if (s->store) reattn__store_read_k(s->store, s->layer, head, first, count, out);
    else reattn__source_rows(s->k, s->Hk, s->D, head, first, count, out);
}

static inline void reattn__source_v(const reattn__source *s, int head, int64_t first, int64_t count, float *out)
{
    if (s->store) reattn__store_read_v(s->store, s->layer, head, first, count, out);
    else reattn__source_rows(s->v, s->Hk, s->Dv, head, first, count, out);
}

#endif
