/* held.h - how much of exact attention over all keys a scope holds. */
#ifndef REATTN_HELD_H
#define REATTN_HELD_H

#include "kv/source.h"
#include "reattn/ops.h"

typedef struct reattn__held_args {
    const float *q; /* [H][D] of the last token, not rotated */
    int64_t n;      /* tokens held: the query is that of token n - 1 */
    int H;
    reattn__source src;
    float scale;
    const reattn_rope *rope; /* rotate at the tokens' numbers; NULL: scores are scale * q . k */
    const int *scope;        /* [n_list][n] not 0 for keys in scope: of all KV heads alike, or one list a KV head */
    int n_list;
    int n_threads;
    double *share; /* [H] written: 0 .. 1, and 1 if the scope is everything */
} reattn__held_args;

/* reattn__ref_held on a store. The same bits for any number of threads. Errors: E_NOMEM. */
int reattn__held(const reattn__held_args *args, reattn_error *err);

#endif
