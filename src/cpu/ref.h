/* ref.h - the scalar law: what every fast path must compute, in the plainest C, for tests only.
 *
 * Dense caller arrays, one thread, sums in float64, no SIMD. Shapes and meanings as in ops.h, arguments trusted.
 * What returns int returns REATTN_OK or REATTN_E_NOMEM. */
#ifndef REATTN_CPU_REF_H
#define REATTN_CPU_REF_H

#include <stdbool.h>
#include <stdint.h>

#include "reattn/ops.h"
#include "reattn/reattn.h"

/* As reattn_topk. */
void reattn__ref_topk(const float *q, const float *k, int64_t T, int64_t M, int H, int Hk, int D, int top_k,
                      reattn_hit *hits);

/* Top-k by a recall type (reattn_recall_type). For QKV and QKV2 the score is (q . k) * norm of v, in float64. K and V
 * are plain top-k of other arrays: pass those as q and k with H = Hk. v [M][Hk][Dv] is read for QKV and QKV2 only. */
void reattn__ref_topk_typed(reattn_recall_type type, const float *q, const float *k, const float *v, int64_t T,
                            int64_t M, int H, int Hk, int D, int Dv, int top_k, reattn_hit *hits);

/* As reattn_votes and reattn_spans. */
int reattn__ref_votes(const reattn_hit *hits, int64_t n_query, int top_k, reattn_vote vote, double scale, int64_t m,
                      int64_t *kept, int64_t *n_kept);
int reattn__ref_spans(const int64_t *kept, int64_t n_kept, int64_t s, int64_t lo, int64_t hi, reattn_span *spans,
                      int64_t *n_span);

/* Rotates one head's values x [D] as if at position pos into y [D]. The cosines and sines are those of ggml's CPU code,
 * in float32; the products are float64. */
void reattn__ref_rope(const reattn_rope *rope, const float *x, int D, int64_t pos, double *y);

/* As reattn_attend, with float64 results. lse may be NULL. */
int reattn__ref_attend(const float *q, const float *k, const float *v, int64_t T, int64_t q_first, int64_t n, int H,
                       int Hk, int D, int Dv, float scale, const reattn_rope *rope, const reattn_run *runs,
                       int64_t n_run, double *out, double *lse);

/* What of this attention the keys of one run got: mass[h][c] is the sum, over the T queries, of the softmax probability
 * that query head h gave key c of run `run`, all runs in one softmax. mass [H][runs[run].count]. */
int reattn__ref_mass(const float *q, const float *k, int64_t T, int64_t q_first, int H, int Hk, int D, float scale,
                     const reattn_rope *rope, const reattn_run *runs, int64_t n_run, int64_t run, double *mass);

/* What the policy `reattention` needs to know. */
typedef struct reattn__ref_rule {
    int64_t keep, local; /* G, L */
    int top_k;           /* k */
    int64_t span, max;   /* s, m; max 0 recalls nothing */
    bool per_head;       /* one set a KV head, not one for all */
    reattn_vote vote;
    reattn_recall_type type;
    reattn_positions positions;
    int64_t from; /* up to so many tokens the scope is everything; at least G + L */
} reattn__ref_rule;

/* One layer after the step's keys and values were appended. The last T of the n_query queries attend; all vote: in
 * prefill n_query = T, in decode the recall window. Every voting query sees the present middle, [G, n - L). */
typedef struct reattn__ref_layer {
    int64_t n, T, n_query; /* T <= n_query <= n */
    int H, Hk, D, Dv;
    const float *q;     /* [n_query][H][D], of the last n_query tokens, oldest first, unrotated */
    const float *k, *v; /* [n][Hk][D], [n][Hk][Dv] */
    float scale;        /* factor on q . k, in attention and in the votes by mass */
} reattn__ref_layer;

/* What one set of heads attends to. kept and spans are empty when nothing is recalled. */
typedef struct reattn__ref_set {
    int64_t *kept;
    reattn_span *spans;
    reattn_run *runs;
    int64_t n_kept, n_span, n_run;
} reattn__ref_set;

typedef struct reattn__ref_plan {
    reattn__ref_set *set; /* [n_set] */
    int n_set;            /* 1, or Hk: one a KV head */
} reattn__ref_plan;

/* Steps 2 to 5 of a layer, and the positions of step 6. On success the caller frees the plan. */
int reattn__ref_plan_make(const reattn__ref_rule *rule, const reattn__ref_layer *layer, reattn__ref_plan *plan);
void reattn__ref_plan_free(reattn__ref_plan *plan);

/* A whole step of a layer but for the append: out [T][H][Dv]. */
int reattn__ref_step(const reattn__ref_rule *rule, const reattn__ref_layer *layer, const reattn_rope *rope,
                     double *out);

/* Of the softmax of the last token's query over all n keys, the share on those whose scope [n] is not 0: share [H] for
 * q [H][D], k [n][Hk][D]. rope NULL: scores are scale * q . k; else q and the keys are rotated at their places. */
int reattn__ref_held(const float *q, const float *k, int64_t n, int H, int Hk, int D, float scale,
                     const reattn_rope *rope, const int *scope, double *share);

#endif
