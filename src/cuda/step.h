/* step.h - a layer's whole step on a CUDA device: append, select, vote, attend, all queued on one stream.
 *
 *     context_create -> { reserve -> step for every layer, in order -> check } ... -> context_free
 *
 * The context owns what all layers keep on the device: un-rotated keys and values, the index that selection needs, the
 * window of the last queries, tables of rotations, scratch. Nothing of a step comes back to the host but an error flag:
 * a step is queued and returns; `check` waits. Results are those of the CPU engine (src/policy, src/attend): the same
 * plans for the same stored values, attention near the law (cpu/ref.c).
 *
 * A context is used by one thread at a time, and all its work goes to one stream (or to streams that the caller
 * orders). Functions return REATTN_OK or a negative code with a message. */
#ifndef REATTN_CUDA_STEP_H
#define REATTN_CUDA_STEP_H

#include "cuda/runs.h"
#include "cuda/select.h"
#include "kv/store.h"
#include "reattn/reattn.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct reattn__cuda_context reattn__cuda_context;

typedef enum reattn__cuda_policy {
    REATTN__CUDA_REATTENTION = 0, /* as src/policy/reattention.c */
    REATTN__CUDA_STREAMING = 1,   /* as src/policy/streaming.c */
    REATTN__CUDA_FULL = 2,        /* as src/policy/full.c */
    REATTN__CUDA_GIVEN = 3        /* any: a plan comes with each step */
} reattn__cuda_policy;

typedef struct reattn__cuda_context_args {
    const reattn__layer *layers; /* [n_layer], copied. D is 64, 96, 128 or 256, Dv = D, H a multiple of Hk */
    int n_layer;
    const reattn_session_params *params; /* resolved, copied: keep, local, recall_*, positions, mem_limit. recall_k at
                                            most 32, recall_type qk */
    int policy;                          /* reattn__cuda_policy */
    int type;                            /* reattn__cuda_type of stored keys and values */
    int plane;        /* 1: scan an 8-bit copy of the keys: half the bytes a step reads, half as much again stored for
                         keys. The hits are the same */
    int64_t capacity; /* most tokens, 0: as many as the device's memory could hold. Costs address space only */
    int host;         /* 1: keys and values are kept in the host's memory, and on the device an 8-bit copy of the keys
                         (plane has no say), and the keys and values in scope (tier.h). REATTENTION, STREAMING only */
} reattn__cuda_context_args;

/* Errors: E_ARG, E_UNSUPPORTED (names what), E_NOMEM. */
int reattn__cuda_context_create(const reattn__cuda_context_args *args, reattn__cuda_context **out, reattn_error *err);
/* Waits for the device. Accepts NULL. */
void reattn__cuda_context_free(reattn__cuda_context *context);

/* Takes device memory for n tokens in all layers, so that the steps up to there take none for keys and values. On
 * E_LIMIT (capacity, mem_limit) or E_NOMEM what is there stays. May wait for the stream. */
int reattn__cuda_reserve(reattn__cuda_context *context, int64_t n, void *stream, reattn_error *err);
/* Bytes of device memory taken now, scratch included; *host, if it is not NULL, gets those of the host. */
uint64_t reattn__cuda_context_bytes(const reattn__cuda_context *context, uint64_t *host);
/* Bytes that n tokens of a layer take on the device, scratch not counted, and on the host. */
uint64_t reattn__cuda_bytes_for(const reattn__cuda_context_args *args, int layer, int64_t n, uint64_t *host);

/* Rows of a tensor in device memory: value d of head h of token t is at element t * stride_token + h * stride_head + d.
 * Any strides; `data` aligned to its element. */
typedef struct reattn__cuda_tensor {
    const void *data;
    int half; /* 0: f32, 1: f16 */
    int64_t stride_token, stride_head;
} reattn__cuda_tensor;

typedef struct reattn__cuda_step_args {
    int layer;
    int64_t T;
    int decode;               /* 1: one generated token (T 1): the window votes with it; 0: a part of a prompt */
    reattn__cuda_tensor q;    /* [T][H][D], not rotated */
    reattn__cuda_tensor k, v; /* [T][Hk][D], not rotated */
    float *out;               /* [T][H][D] f32, device memory, written; NULL: append only */
    int64_t out_stride_token, out_stride_head; /* in floats; 0, 0: contiguous */
    const reattn__cuda_given *plan; /* under GIVEN, if there is to be an output; copied. A list's own rotation may
                                       differ from the layer's in its angles only */
} reattn__cuda_step_args;

/* Queues one layer of one step. Takes room if none was reserved. Errors that the host sees: E_ARG, E_LIMIT, E_NOMEM;
 * the layer is then unchanged. Values that are not finite (or too large for f16) are found on the device: check says
 * so. */
int reattn__cuda_step(reattn__cuda_context *context, const reattn__cuda_step_args *args, void *stream,
                      reattn_error *err);

/* Steps of several contexts that are to be queued together: a layer each, of one device. */
typedef struct reattn__cuda_member {
    reattn__cuda_context *context; /* no two the same */
    reattn__cuda_step_args args;
    void *stream; /* that of the context, on which nothing is running; becomes the one on which its step was queued */
    int code;     /* written, as of reattn__cuda_step: one that failed is as it was, the others go on */
    reattn_error *err;
} reattn__cuda_member;

/* Steps of decode are queued in one launch of each kernel where they are alike, as those are of layers of one shape
 * that recall, and those that do not; others each by itself. `among`: of how many sessions these are, at least n, which
 * says how attention is cut; so that a session's bits depend on that number, not on what others hold or whether they
 * are still there. n is at most REATTN__CUDA_MANY. */
void reattn__cuda_step_many(reattn__cuda_member *members, int n, int among);

/* Waits for the stream. E_NAN if a step since the last check met a value that is not finite: the message says in which
 * layer and what; outputs since are undefined, rewind to before that step. */
int reattn__cuda_check(reattn__cuda_context *context, void *stream, reattn_error *err);

/* With `host`: what came from there in all steps of a layer so far, in rows of keys or values of one head: keys that were
 * read for their scores, and pairs of a key and a value that came into scope. Waits for the stream. */
int reattn__cuda_traffic(const reattn__cuda_context *context, int layer, uint64_t *scored, uint64_t *brought,
                         void *stream, reattn_error *err);

/* Tokens held by a layer, steps that are queued included. */
int64_t reattn__cuda_length(const reattn__cuda_context *context, int layer);
/* Forgets tokens from n on in all layers, and the windows. Memory is kept for the tokens to come. */
int reattn__cuda_rewind(reattn__cuda_context *context, int64_t n, reattn_error *err);

/* What the layer's last step recalled, for traces and tests; waits for the stream. list: 0, or the KV head with
 * recall_per_head. Writes up to cap spans, ascending; *n_span says how many there are (0: nothing was recalled, or this
 * was no such policy). *n_scope: keys that the step attended to; may be NULL. */
int reattn__cuda_spans(reattn__cuda_context *context, int layer, int list, reattn_span *spans, int64_t cap,
                       int64_t *n_span, int64_t *n_scope, void *stream, reattn_error *err);

#ifdef __cplusplus
}
#endif
#endif
