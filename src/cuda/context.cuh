/* context.cuh - what a session keeps on a device, as the files see it that step it: step.cu, step_many.cu. */
#ifndef REATTN_CUDA_CONTEXT_CUH
#define REATTN_CUDA_CONTEXT_CUH

#include "attend.h"
#include "limits.cuh"
#include "plan.h"
#include "planned.cuh"
#include "scan.cuh"
#include "store.h"
#include "turns.h"
extern "C" {
#include "policy/local.h"
}

namespace reattn_cuda
{

/* Scratch on the device that only grows. */
struct buffer {
    void *at;
    size_t bytes;
};

struct layer {
    reattn__layer shape;
    reattn__cuda_layer store;
    reattn__cuda_tier tier; /* if the store is the host's: k is not NULL */
    reattn__cuda_window window;
    reattn_span *spans; /* device, [lists][m] of the last step */
    int32_t *count;     /* device, [lists] keys of the scope, then [lists] numbers of spans */
    int64_t scope;      /* keys of the scope, if the host knows; -1: see count */
    int table;          /* of rotations: which */
};

struct step {       /* what a layer's step is about to do */
    int64_t n, end; /* tokens held after it; end of the middle */
    int64_t last;   /* last tokens in scope */
    bool search, choose, decode;
    int64_t slot; /* of the window that the query goes to, in decode */
    const float *q;
};

} // namespace reattn_cuda

struct reattn__cuda_context {
    reattn_session_params params;
    int policy, n_layer, n_table, lists_per_head;
    int host;
    int64_t capacity, room; /* most tokens; most keys of a finite scope */
    reattn_cuda::layer *layers;
    reattn__cuda_turns *tables;
    reattn_cuda::planned given; /* under GIVEN */
    int *bad, *bad_device;      /* memory of the host that kernels write to */
    reattn_cuda::buffer q, hits, select, plan, tokens, near, attend;
};

namespace reattn_cuda
{

/* Makes room in a buffer; waits for the stream if it grows. */
int need(buffer *b, size_t bytes, cudaStream_t stream, reattn_error *err);
int lists_of(const reattn__cuda_context *c, const layer *l);
int64_t most_tokens(const reattn__cuda_context *c); /* of a step under a finite scope */

/* A layer's step in parts (step.cu). What is about to happen, and memory for it; errors leave all as it was. */
int look_ahead(reattn__cuda_context *c, const reattn__cuda_step_args *a, step *s, cudaStream_t stream,
               reattn_error *err);
/* The scope, as far as it is known before there is a plan: all of it, if there will be none. */
reattn__cuda_scope scope_ahead(const reattn__cuda_context *c, const step *s);
/* The arguments of the kernels, in this order; scratch is taken. */
int arrange_append(reattn__cuda_context *c, layer *l, const reattn__cuda_step_args *a, step *s,
                   reattn__cuda_append_args *args, cudaStream_t stream, reattn_error *err);
int arrange_search(reattn__cuda_context *c, layer *l, const step *s, const float *q, int64_t T, reattn_hit *hits,
                   reattn__cuda_select_args *args, cudaStream_t stream, reattn_error *err);
int arrange_plan(reattn__cuda_context *c, layer *l, const step *s, int64_t T, reattn__cuda_scope *scope,
                 reattn__cuda_plan_args *args, cudaStream_t stream, reattn_error *err);
int arrange_attention(reattn__cuda_context *c, layer *l, const reattn__cuda_step_args *a, const step *s,
                      const reattn__cuda_scope *scope, int among, reattn__cuda_attend_args *args, cudaStream_t stream,
                      reattn_error *err);
/* In decode: where the hits of the query go. */
reattn_hit *hits_of_query(const reattn__cuda_context *c, const layer *l, const step *s);
/* No search was made for the window so far, and now there is enough to search. */
bool window_is_late(const layer *l, const step *s);
/* The window as it is after the step. */
void remember(const reattn__cuda_context *c, layer *l, const step *s, int64_t T);

} // namespace reattn_cuda

#endif
