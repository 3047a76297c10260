/* plan.h - from hits to a scope, on the device: votes, the m best, spans, and the list of tokens to attend to. What
 * src/select/vote.c, span.c and src/policy/scope.c do, with the same result. */
#ifndef REATTN_CUDA_PLAN_H
#define REATTN_CUDA_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "reattn/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

#define REATTN__CUDA_SPANS_MAX 4096

typedef struct reattn__cuda_plan_args {
    const reattn_hit *hits;          /* [n_query][H][top_k], device; positions counted from `keep`, -1: none */
    int64_t n_query, fresh, n_fresh; /* queries [fresh, fresh + n_fresh) are what the kernel before writes */
    int along; /* 1: the kernel that is launched next may begin while this one still waits for the one before: what it
                  does before it waits itself needs nothing of both */
    int H, top_k;
    int lists;       /* 1, or the number of KV heads: one scope each */
    int vote;        /* reattn_vote. MASS is summed in units of 2^-44, so that the order of votes does not matter */
    double scale;    /* factor on scores in MASS */
    int64_t m, span; /* most kept positions (1 .. REATTN__CUDA_SPANS_MAX), tokens recalled around each */
    int64_t n, keep, local; /* tokens held, n > keep + local; first and last tokens that are always in scope */

    /* written, device memory */
    int32_t *tokens;    /* [lists][room] the tokens of the scope, ascending */
    int64_t room;       /* at least min(n, keep + m * span + local) */
    int32_t *count;     /* [lists] how many they are */
    reattn_span *spans; /* [lists][m] what was recalled */
    int32_t *n_span;    /* [lists] */

    void *work; /* reattn__cuda_plan_bytes(...), aligned to 256 */
    size_t work_bytes;
} reattn__cuda_plan_args;

/* Bytes of scratch; 0 where the tallies fit shared memory. */
size_t reattn__cuda_plan_bytes(const reattn__cuda_plan_args *args);
/* Queues one kernel, or three where there are many hits. Errors: E_ARG, E_INTERNAL. */
int reattn__cuda_plan(const reattn__cuda_plan_args *args, void *stream, reattn_error *err);
/* Up to REATTN__CUDA_MANY plans in one launch, all alike and without scratch. */
bool reattn__cuda_plan_together(const reattn__cuda_plan_args *a, const reattn__cuda_plan_args *b);
int reattn__cuda_plan_many(const reattn__cuda_plan_args *args, int n, void *stream, reattn_error *err);

#ifdef __cplusplus
}
#endif
#endif
