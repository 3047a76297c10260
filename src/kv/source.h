/* source.h - where select and attend read keys and values from: one layer of a store, or a caller's dense arrays.
 * Both come out as f32, one KV head at a time. */
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

/* Keys first .. first + count - 1 of a head, dimension by dimension: out[d * stride + i]. */
static inline void reattn__source_k(const reattn__source *s, int head, int64_t first, int64_t count, float *out,
                                    int64_t stride)
{
    if (s->store) {
        reattn__store_read_k(s->store, s->layer, head, first, count, out, stride);
        return;
    }
    for (int64_t i = 0; i < count; i++)
        for (int d = 0; d < s->D; d++) out[d * stride + i] = s->k[((first + i) * s->Hk + head) * s->D + d];
}

/* Values as rows: out [count][Dv]. */
static inline void reattn__source_v(const reattn__source *s, int head, int64_t first, int64_t count, float *out)
{
    if (s->store) {
        reattn__store_read_v(s->store, s->layer, head, first, count, out);
        return;
    }
    for (int64_t i = 0; i < count; i++)
        memcpy(out + i * s->Dv, s->v + ((first + i) * s->Hk + head) * s->Dv, (size_t)s->Dv * sizeof *out);
}

#endif
