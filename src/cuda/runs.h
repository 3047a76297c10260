/* runs.h - attention over any plan's runs on the device: which keys at which positions, in one softmax (ops.h says what
 * a run is). The plan is made on the host; its runs are laid out there (runs_layout.h) and uploaded once, for all
 * layers of a step that are planned alike. Keys and values come from the store; keys are rotated for each way in which
 * runs place them, queries for each in which runs turn them. */
#ifndef REATTN_CUDA_RUNS_H
#define REATTN_CUDA_RUNS_H

#ifdef __cplusplus
extern "C" {
#endif

#include "attend/attend.h"

/* A plan: one list of runs for all KV heads, or one a head. */
typedef struct reattn__cuda_given {
    const reattn__run_list *lists; /* [n_list] */
    int n_list;
    const float *q_scale; /* [T], host: queries count as multiplied by it; NULL: by 1 */
} reattn__cuda_given;

/* A plan on the device. */
typedef struct reattn__cuda_runs reattn__cuda_runs;

/* Errors: E_NOMEM. */
int reattn__cuda_runs_create(reattn__cuda_runs **out, reattn_error *err);
/* Nothing that is queued may use it any more. Accepts NULL. */
void reattn__cuda_runs_free(reattn__cuda_runs *runs);
uint64_t reattn__cuda_runs_bytes(const reattn__cuda_runs *runs);

/* Makes it this plan's, for the last T of n tokens (n < 2^30) and layers of H and Hk heads of D values; does nothing if
 * it is that already. What is queued on the stream still sees the plan before. Everything is copied. Errors: E_ARG (a
 * run reaches outside the text or has negative positions), E_NOMEM, E_INTERNAL. */
int reattn__cuda_runs_set(reattn__cuda_runs *runs, const reattn__cuda_given *plan, int64_t T, int64_t n, int H, int Hk,
                          int D, void *stream, reattn_error *err);
/* Positions that a list's table of rotations must reach. */
int64_t reattn__cuda_runs_positions(const reattn__cuda_runs *runs, int list);
/* Keys that the last query sees, in the list where it sees most. */
int64_t reattn__cuda_runs_seen(const reattn__cuda_runs *runs);

typedef struct reattn__cuda_runs_args {
    const reattn__cuda_runs *runs; /* set */
    const float *q;                /* [T][H][D], device, not rotated */
    const void *k, *v;             /* [n][Hk][D], device, of type `type` (reattn__cuda_type) */
    int type;
    float scale;            /* not negative */
    const float *const *cs; /* [n_list] tables of rotations, device, as in attend.h; the array is on the host */
    int neox, n_rot;        /* as in attend.h, the same in all lists */
    float *out; /* written, device: value d of head h of query t at t * out_stride_token + h * out_stride_head + d */
    int64_t out_stride_token, out_stride_head;
    float *lse; /* [T][H], device, written unless NULL */
    void *work; /* reattn__cuda_runs_scratch(...), aligned to 256 */
    size_t work_bytes;
} reattn__cuda_runs_args;

size_t reattn__cuda_runs_scratch(const reattn__cuda_runs_args *args);
/* Queues two kernels for one query, two or three for more. Errors: E_ARG, E_UNSUPPORTED, E_INTERNAL. */
int reattn__cuda_runs_attend(const reattn__cuda_runs_args *args, void *stream, reattn_error *err);

#ifdef __cplusplus
}
#endif
#endif
