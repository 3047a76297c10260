/* check.h - every selection of a store against the law, at every CPU level. */
#ifndef BENCH_CHECK_H
#define BENCH_CHECK_H

#include "kv/store.h"

typedef struct bench_check {
    const reattn__store *store;
    const reattn__layer *shape;
    int n_layer;
    int64_t keys, T;
    const float *q; /* [n_layer][T][H][D] */
    int top_k, n_threads;
    const char *levels; /* "all", or names separated by commas */
} bench_check;

/* Writes a line a level on standard error: (query, head) pairs, and how many differ in a position or in a bit of a
 * score. Errors: E_INTERNAL if any differs, E_NOMEM. */
int bench_check_select(const bench_check *check, reattn_error *err);

#endif
