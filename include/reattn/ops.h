/* ops.h - the operations of ReAttention on caller memory. No model, no llama.cpp.
 *
 * Shapes are written outermost first, rows contiguous:
 *   q    [T][H][D]    queries of T tokens, H heads, D values a head, not rotated unless said otherwise
 *   k    [M][Hk][D]   keys of M tokens, Hk KV heads; query head h reads KV head h / (H / Hk)
 *   v    [M][Hk][Dv]  values
 * All floats are IEEE f32 and must be finite: a NaN or an infinity gives REATTN_E_NAN. All functions are thread-safe
 * on distinct outputs, own nothing after they return, and give the same bits for every number of threads.
 * "Section" and "Eq." refer to the ReAttention paper, arXiv 2407.15176; docs/glossary.md maps its names to these. */
#ifndef REATTN_OPS_H
#define REATTN_OPS_H

#include <stdbool.h>
#include <stdint.h>

#include "error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One selected key: its position and its exact score. An unused slot has pos -1. */
typedef struct reattn_hit {
    int64_t pos;
    double score;
} reattn_hit;

/* Exact top-k of q . k (Section 3.1): for each query and head the top_k keys with the highest dot product, best first.
 *
 * The score is the dot product in float64, summed over d = 0 .. D-1 in that order. The order of keys is total: higher
 * score first, then lower position. Every CPU level and every number of threads gives the same hits.
 *   q      [T][H][D]
 *   k      [M][Hk][D]
 *   hits   [T][H][top_k]  written; slots beyond M have pos -1
 * top_k 1 .. 64, D 1 .. 512, H a multiple of Hk. Errors: E_ARG, E_NAN, E_NOMEM (hits are then undefined). */
REATTN_API int reattn_topk(const float *q, const float *k, int64_t T, int64_t M, int H, int Hk, int D, int top_k,
                           int n_threads, reattn_hit *hits, reattn_error *err);

/* How much one hit counts when the queries vote. */
typedef enum reattn_vote {
    REATTN_VOTE_COUNT = 0, /* each hit counts 1 (the paper) */
    REATTN_VOTE_MASS = 1   /* each hit counts its share of the softmax over its query's own top-k */
} reattn_vote;

/* Votes of many queries for positions (Section 3.1, "unique" and "clip"): position j gets the sum over all hits at j of
 * the hit's weight; its best is the highest score among them. If more than m positions have votes, m are kept: votes
 * down, then best down, then position up.
 *   hits   [n_query][top_k]   in the order in which mass is summed; slots with pos -1 are skipped
 *   scale  factor on scores inside the softmax of REATTN_VOTE_MASS (usually 1/sqrt(D)); ignored for COUNT
 *   kept   [m]                written, ascending; *n_kept says how many
 * Errors: E_ARG, E_NOMEM. */
REATTN_API int reattn_votes(const reattn_hit *hits, int64_t n_query, int top_k, reattn_vote vote, double scale,
                            int64_t m, int64_t *kept, int64_t *n_kept, reattn_error *err);

/* A half-open range of positions [first, first + count). */
typedef struct reattn_span {
    int64_t first;
    int64_t count;
} reattn_span;

/* Widens each kept position j to [j - s/2, j + (s+1)/2), cuts it to [lo, hi), and joins what overlaps or touches.
 *   kept   [n_kept] ascending, each in [lo, hi)
 *   spans  [n_kept] written, ascending; *n_span says how many
 * s >= 1. Errors: E_ARG. */
REATTN_API int reattn_spans(const int64_t *kept, int64_t n_kept, int64_t s, int64_t lo, int64_t hi, reattn_span *spans,
                            int64_t *n_span, reattn_error *err);

/* Rotary position embedding, as ggml computes it: every field has the meaning of ggml_rope_ext's parameter. */
typedef enum reattn_rope_kind {
    REATTN_ROPE_NORMAL = 0, /* pairs (2i, 2i+1) */
    REATTN_ROPE_NEOX = 1    /* pairs (i, i + n_rot/2) */
} reattn_rope_kind;

typedef struct reattn_rope {
    reattn_rope_kind kind;
    int n_rot;                 /* rotated values of a head, even, <= D; the rest pass through */
    int n_ctx_orig;            /* length the model was trained on before YaRN */
    float freq_base;           /* e.g. 10000 */
    float freq_scale;          /* linear scaling: 1 / factor */
    float ext_factor;          /* YaRN mix, 0 = off */
    float attn_factor;         /* factor on both cos and sin */
    float beta_fast, beta_slow; /* YaRN corner frequencies */
    const float *freq_factors; /* [n_rot/2] divisors (llama 3), or NULL; borrowed */
} reattn_rope;

/* Rotates x [n][heads][D] in place, row i at position pos[i]. Errors: E_ARG. */
REATTN_API int reattn_rope_apply(const reattn_rope *rope, float *x, int64_t n, int heads, int D, const int64_t *pos,
                                 reattn_error *err);

/* One run of consecutive keys in a plan. Key c of the run is token first + c, rotated at position
 * (k_pos + c * k_step) / k_div. Query t (token q_first + t) is rotated at position (q_pos + t * q_step) / q_div, and
 * sees the key iff dist_min <= (q_first + t) - (first + c) <= dist_max (dist_min 0 is causal) and t_min <= t < t_end.
 * Divisions round down, so that neighbours share a position; a divisor of 0 counts as 1. t_end 0: no end. No position
 * of a key, or of a query in t_min .. t_end - 1, may be negative. */
typedef struct reattn_run {
    int64_t first, count;
    int64_t k_pos, k_step;
    int64_t q_pos, q_step;
    int64_t dist_min, dist_max;
    int64_t k_div, q_div;
    int64_t t_min, t_end;
} reattn_run;

/* Attention over a plan's runs (Section 3.2): softmax(scale * R(q) . R(k)) v over the keys that each query sees, all
 * runs in one softmax. A query that sees no key gets zeros and lse -inf.
 *   q    [T][H][D]        tokens q_first .. q_first + T - 1
 *   k    [n][Hk][D]       every token of the history, unrotated; v [n][Hk][Dv]
 *   runs [n_run]          all KV heads alike
 *   out  [T][H][Dv]       written
 *   lse  [T][H]           written unless NULL: log sum exp of the scaled scores
 * Errors: E_ARG, E_NAN, E_NOMEM. */
REATTN_API int reattn_attend(const float *q, const float *k, const float *v, int64_t T, int64_t q_first, int64_t n,
                             int H, int Hk, int D, int Dv, float scale, const reattn_rope *rope,
                             const reattn_run *runs, int64_t n_run, int n_threads, float *out, float *lse,
                             reattn_error *err);

/* Joins two partial softmax states over disjoint keys: (o_a, lse_a) takes in (o_b, lse_b).
 *   o_a, o_b [rows][Dv]; lse_a, lse_b [rows]; an empty state has lse -inf and any finite o.
 * Commutative, and associative up to rounding. Errors: E_ARG. */
REATTN_API int reattn_merge(float *o_a, float *lse_a, const float *o_b, const float *lse_b, int64_t rows, int Dv,
                            reattn_error *err);

/* Name of the CPU level in use: "scalar", "base", "avx2", "avx512", "neon". Static string. */
REATTN_API const char *reattn_cpu_level(void);

#ifdef __cplusplus
}
#endif
#endif
