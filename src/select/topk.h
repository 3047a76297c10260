/* topk.h - exact top-k of dot products over a range of stored tokens. */
#ifndef REATTN_TOPK_H
#define REATTN_TOPK_H

#include "kv/source.h"
#include "reattn/ops.h"

/* What a query is compared with. */
typedef enum reattn__against {
    REATTN__KEYS,          /* k */
    REATTN__VALUES,        /* v */
    REATTN__KEYS_TIMES_L1, /* k times the 1-norm of v */
    REATTN__KEYS_TIMES_L2  /* k times the 2-norm of v */
} reattn__against;

typedef struct reattn__topk_args {
    const float *q; /* [T][H][d], finite; d is the size of a row that it is compared with */
    int64_t T;
    int H;
    reattn__source src;
    reattn__against against;
    int64_t lo, hi; /* positions compared: lo <= pos < hi */
    int top_k;
    int n_threads;
    /* What like queries chose before, [T][H][top_k], or NULL. Scored first, they give a threshold that is nearly final;
     * the result does not depend on them. */
    const reattn_hit *seeds;
    reattn_hit *hits;     /* [T][H][top_k] */
    int64_t *rescored;    /* how many scores were computed in full is added here; may be NULL */
    reattn__buffer *work; /* scratch, kept by the caller between calls */
} reattn__topk_args;

/* All values must be finite. Errors: E_NOMEM. */
int reattn__topk(const reattn__topk_args *args, reattn_error *err);
/* Bytes of scratch that T queries of `heads` heads take at most, however many keys there are. split: keys are split and
 * the comparison is with them. */
size_t reattn__topk_scratch(int64_t T, int heads, const reattn__layer *layer, bool split, int top_k, int n_threads);

/* True if a comes before b: higher score, then lower position. */
static inline bool reattn__hit_before(const reattn_hit *a, const reattn_hit *b)
{
    return a->score > b->score || (a->score == b->score && a->pos < b->pos);
}

/* Puts `hit` into the sorted list of top_k hits if it belongs there. */
static inline void reattn__hit_insert(reattn_hit *list, int top_k, reattn_hit hit)
{
    int i = top_k - 1;
    if (list[i].pos >= 0 && !reattn__hit_before(&hit, &list[i])) return;
    for (; i > 0 && (list[i - 1].pos < 0 || reattn__hit_before(&hit, &list[i - 1])); i--) list[i] = list[i - 1];
    list[i] = hit;
}

#endif
