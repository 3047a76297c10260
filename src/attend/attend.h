/* attend.h - executes any plan: softmax attention over runs of keys. It knows no method. */
#ifndef REATTN_ATTEND_H
#define REATTN_ATTEND_H

#include "attend/rope.h"
#include "kv/source.h"
#include "reattn/ops.h"

/* The runs that a KV head attends to. */
typedef struct reattn__run_list {
    const reattn_run *runs;
    int64_t n;
    reattn__rope_table *rope; /* how these heads rotate; NULL: as the layer does */
} reattn__run_list;

/* Positions of a run's key and query, whether it is for a query at all, and where its queries end in a step of T. */
static inline int64_t reattn__run_k_pos(const reattn_run *run, int64_t c)
{
    int64_t at = run->k_pos + c * run->k_step;
    return run->k_div > 1 ? at / run->k_div : at;
}
static inline int64_t reattn__run_q_pos(const reattn_run *run, int64_t t)
{
    int64_t at = run->q_pos + t * run->q_step;
    return run->q_div > 1 ? at / run->q_div : at;
}
static inline int64_t reattn__run_end(const reattn_run *run, int64_t T)
{
    return run->t_end > 0 ? REATTN__MIN(run->t_end, T) : T;
}

typedef struct reattn__attend_args {
    const float *q; /* [T][H][D], not rotated */
    int64_t T, q_first;
    int H;
    reattn__source src;
    float scale;
    const float *q_scale;          /* [T] q of token t counts as multiplied by q_scale[t]; NULL: by 1 */
    reattn__rope_table *rope;      /* grows to the positions that the runs name */
    struct reattn__turned *turned; /* this layer's rotated keys of the scope, kept by the caller; NULL: none are kept */
    const reattn__run_list *lists; /* [n_list]: 1 for all KV heads alike, or one a KV head */
    int n_list;
    int n_threads;
    float *out;            /* [T][H][Dv] */
    float *lse;            /* [T][H] or NULL */
    /* What the keys of run `mass_run` (of every list, which all have as many keys there) got, or NULL: the sum, over
     * the queries, of their softmax probability. [H][keys of that run]. Needs lse. Costs a second look at these
     * keys. */
    float *mass;
    int64_t mass_run;
    reattn__buffer *work;  /* [REATTN__ATTEND_BUFFERS] scratch, kept by the caller between calls */
} reattn__attend_args;

#define REATTN__ATTEND_BUFFERS 2

/* Errors: E_ARG (a run reaches outside the source), E_NOMEM. */
int reattn__attend(const reattn__attend_args *args, reattn_error *err);
/* The second look (mass.c): mass, from lse. Done by reattn__attend if it is asked for. */
int reattn__attend_mass(const reattn__attend_args *args, reattn_error *err);
/* Bytes of scratch that steps of T tokens take for such a layer. */
uint64_t reattn__attend_scratch(const reattn__layer *layer, int64_t T, int n_threads);

#endif
