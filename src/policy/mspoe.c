/* mspoe.c - Ms-PoE (2403.04797): every KV head divides positions by a ratio of its own, 1.2 for the one that tells
 * positions apart best, 1.8 for the one that does it least. */
#include "mspoe.h"

#include <math.h>
#include <stdlib.h>

#include "cpu/kernels.h"
#include "ropes.h"

enum { FIRST_LAYER = 2 };
static const double ratio_min = 1.2, ratio_max = 1.8, standout = 3; /* of the mean weight */

typedef struct mspoe {
    int Hk, n_layer;
    reattn__ropes *of_rank; /* [Hk] by rank */
    int *rank;              /* [n_layer][Hk]; -1: not ranked yet */
    double *share;          /* [Hk] scratch: keys that stand out, over a head's queries; a count: ties stay ties */
    reattn__buffer scores;
} mspoe;

double reattn__mspoe_ratio(int rank, int n)
{
    return n > 1 ? ratio_min + (ratio_max - ratio_min) * rank / (n - 1) : (ratio_min + ratio_max) / 2;
}

void reattn__mspoe_rank(const double *share, int n, int *rank)
{
    for (int a = 0; a < n; a++) {
        rank[a] = 0;
        for (int b = 0; b < n; b++) rank[a] += share[b] > share[a] || (share[b] == share[a] && b < a);
    }
}

int64_t reattn__mspoe_standouts(const float *score, int64_t n)
{
    double top = -INFINITY, sum = 0;
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) top = fmax(top, (double)score[i]);
    for (int64_t i = 0; i < n; i++) sum += exp((double)score[i] - top);
    for (int64_t i = 0; i < n; i++) count += exp((double)score[i] - top) * (double)n > standout * sum;
    return count;
}

typedef struct scoring {
    const reattn__step *s;
    mspoe *m;
    float *scores; /* [n_threads][H / Hk][n] */
} scoring;

/* The standout keys of a KV head's query heads, for the step's last query, positions ignored. */
static int score_head(void *ctx, int64_t head, int worker)
{
    const scoring *c = ctx;
    const reattn__step *s = c->s;
    const reattn__layer *l = s->shape;
    int g = l->H / l->Hk;
    float *scores = c->scores + (int64_t)worker * g * s->n, k[512 * REATTN__TILE];
    for (int64_t at = 0; at < s->n; at += REATTN__TILE) {
        int64_t count = REATTN__MIN(s->n - at, REATTN__TILE);
        reattn__store_read_k(s->store, s->layer, (int)head, at, count, k, REATTN__TILE);
        for (int i = 0; i < g; i++) {
            const float *q = s->q + ((s->T - 1) * l->H + head * g + i) * l->D;
            float *score = scores + i * s->n + at;
            for (int64_t j = 0; j < count; j++) score[j] = 0;
            for (int d = 0; d < l->D; d++)
                for (int64_t j = 0; j < count; j++) score[j] += q[d] * l->kq_scale * k[d * REATTN__TILE + j];
        }
    }
    c->m->share[head] = 0;
    for (int i = 0; i < g; i++) c->m->share[head] += (double)reattn__mspoe_standouts(scores + i * s->n, s->n);
    return REATTN_OK;
}

static int rank_heads(mspoe *m, const reattn__step *s, reattn_error *err)
{
    int n_threads = s->n < 1024 ? 1 : s->params->n_threads;
    scoring c = {s, m, reattn__buffer_need(&m->scores, (size_t)(n_threads * (s->shape->H / m->Hk) * s->n) *
                                                    sizeof *c.scores)};
    if (!c.scores) return reattn__fail(err, REATTN_E_NOMEM, "out of memory for the scores of a query");
    reattn__parallel(n_threads, m->Hk, score_head, &c);
    reattn__mspoe_rank(m->share, m->Hk, m->rank + s->layer * m->Hk);
    *s->scored += (int64_t)s->shape->H * s->n;
    return REATTN_OK;
}

static int plan_mspoe(void *state, const reattn__step *s, reattn__plan *plan, reattn_error *err)
{
    mspoe *m = state;
    int *rank = m->rank + s->layer * m->Hk;
    bool plain = s->layer < FIRST_LAYER;
    int code = reattn__plan_room(plan, plain ? 1 : m->Hk, 1, err);
    if (code == REATTN_OK && !plain && (!s->decode || rank[0] < 0)) code = rank_heads(m, s, err);
    if (code != REATTN_OK) return code;
    reattn__plan_full(plan, s);
    for (int head = 0; head < m->Hk && !plain; head++) {
        reattn__ropes *ropes = &m->of_rank[rank[head]];
        reattn_rope rope = *reattn__ropes_own(ropes, s->layer);
        rope.freq_scale = (float)((double)rope.freq_scale / reattn__mspoe_ratio(rank[head], m->Hk));
        if (head > 0) reattn__plan_add(plan, head, plan->lists[0].runs[0]);
        plan->lists[head].rope = reattn__ropes_use(ropes, s->layer, &rope);
    }
    return REATTN_OK;
}

/* Ranks are of the text as it was. */
static void forget(void *state, int64_t n)
{
    mspoe *m = state;
    (void)n;
    for (int i = 0; i < m->n_layer * m->Hk; i++) m->rank[i] = -1;
}

static void destroy(void *state)
{
    mspoe *m = state;
    if (!m) return;
    for (int i = 0; m->of_rank && i < m->Hk; i++) reattn__ropes_free(&m->of_rank[i]);
    free(m->of_rank);
    free(m->rank);
    free(m->share);
    reattn__buffer_free(&m->scores);
    free(m);
}

static int create(const reattn_session_params *params, const reattn__layer *layers, int n_layer, void **state,
                  reattn_error *err)
{
    (void)params;
    for (int l = 0; l < n_layer; l++)
        if (layers[l].Hk != layers[0].Hk || layers[l].rope.ext_factor != 0)
            return reattn__fail(err, REATTN_E_UNSUPPORTED,
                                "layer %d has other KV heads than layer 0, or YaRN scaling: mspoe has no rule for it",
                                l);
    mspoe *m = calloc(1, sizeof *m);
    if (!m) return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    m->Hk = layers[0].Hk;
    m->n_layer = n_layer;
    m->of_rank = calloc((size_t)m->Hk, sizeof *m->of_rank);
    m->rank = malloc((size_t)(n_layer * m->Hk) * sizeof *m->rank);
    m->share = malloc((size_t)m->Hk * sizeof *m->share);
    int code = m->of_rank && m->rank && m->share ? REATTN_OK : reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    for (int i = 0; i < m->Hk && code == REATTN_OK; i++)
        code = reattn__ropes_create(&m->of_rank[i], layers, n_layer, err);
    if (code != REATTN_OK) {
        destroy(m);
        return code;
    }
    forget(m, 0);
    *state = m;
    return REATTN_OK;
}

/* A table for each rank and that of the first layers, and the scores of a query's heads over all keys. */
static uint64_t bytes_for(const reattn_session_params *params, const reattn__layer *layers, int n_layer, int64_t n,
                          uint64_t *grows)
{
    uint64_t heads = (uint64_t)layers[0].H / (uint64_t)layers[0].Hk, scores = (uint64_t)n * sizeof(float);
    *grows = (uint64_t)(layers[0].Hk + 1) * reattn__ropes_table_bytes(layers, n_layer, n) +
             reattn__buffer_room((size_t)((uint64_t)params->n_threads * heads * scores));
    return 0;
}

const reattn__policy reattn__policy_mspoe = {
    .info = {"mspoe", "every token; each KV head divides positions by 1.2 to 1.8, by how many keys stand out in it",
             "keeps everything; a step costs O(n); helps within the trained length, reaches 1.2 times it",
             "Ms-PoE, 2403.04797"},
    .create = create,
    .destroy = destroy,
    .bytes_for = bytes_for,
    .forget = forget,
    .plan = plan_mspoe,
};
