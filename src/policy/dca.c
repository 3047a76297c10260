/* dca.c - Dual Chunk Attention (2402.17463, ChunkLlama): a key's position is its place in its chunk of cl tokens; a
 * query stands at its own place, one chunk further for the chunk before, and at one far place for all older ones. */
#include <math.h>

#include "policy.h"

typedef struct chunks {
    int64_t far, local, len; /* s, its distance to a chunk's end, cl = s - local */
} chunks;

static chunks chunks_of(const reattn_session_params *p)
{
    chunks c = {.far = p->ctx_train * 3 / 4, .local = p->local};
    c.len = c.far - c.local;
    return c;
}

static int resolve(reattn_session_params *p, reattn_error *err)
{
    if (p->local == 0) p->local = p->ctx_train / 8;
    if (p->local < 1 || chunks_of(p).len < 1)
        return reattn__fail(
            err, REATTN_E_ARG,
            "dca: --local %lld must be 1 .. %lld: chunks are 3/4 of the trained length (%lld) less that",
            (long long)p->local, (long long)(p->ctx_train * 3 / 4 - 1), (long long)p->ctx_train);
    return REATTN_OK;
}

/* Runs of the queries [i0, i1) of one chunk. */
static void add_chunk(reattn__plan *plan, const chunks *c, int64_t a, int64_t i0, int64_t i1, int64_t q_first)
{
    int64_t start = a * c->len;
    reattn_run run = {.count = c->len, .k_step = 1, .q_pos = REATTN__MIN(2 * c->len - 1, c->far), .dist_max = INT64_MAX,
                      .t_min = i0 - q_first, .t_end = i1 - q_first};
    for (; run.first < start - c->len; run.first += c->len) reattn__plan_add(plan, 0, run);
    if (a > 0) { /* the chunk before: min(i mod cl + cl, s), which reaches s at the place `local` */
        int64_t bend = REATTN__MAX(i0, REATTN__MIN(i1, start + c->local));
        run.q_pos = q_first - start + c->len;
        run.q_step = 1;
        run.t_end = bend - q_first;
        if (bend > i0) reattn__plan_add(plan, 0, run);
        run.q_pos = c->far;
        run.q_step = 0;
        run.t_min = bend - q_first;
        run.t_end = i1 - q_first;
        if (bend < i1) reattn__plan_add(plan, 0, run);
    }
    reattn__plan_add(plan, 0, (reattn_run){.first = start, .count = i1 - start, .k_step = 1, .q_pos = q_first - start,
                                           .q_step = 1, .dist_max = INT64_MAX, .t_min = i0 - q_first,
                                           .t_end = i1 - q_first});
}

static int plan_dca(void *state, const reattn__step *s, reattn__plan *plan, reattn_error *err)
{
    const chunks c = chunks_of(s->params);
    int64_t q_first = s->n - s->T, N = s->params->ctx_train, a0 = q_first / c.len, a1 = (s->n - 1) / c.len;
    int code = reattn__plan_room(plan, 1, (a1 - a0 + 1) * (a1 + 3), err);
    (void)state;
    if (code != REATTN_OK) return code;
    for (int64_t a = a0; a <= a1; a++)
        add_chunk(plan, &c, a, REATTN__MAX(q_first, a * c.len), REATTN__MIN(s->n, (a + 1) * c.len), q_first);
    if (s->n <= N) return REATTN_OK;
    code = reattn__plan_scales(plan, s->T, err);
    for (int64_t t = 0; code == REATTN_OK && t < s->T; t++) {
        double own = (double)(q_first + t + 1), turn = 1 + 0.05 * log(own / (double)N); /* on both sides' cos and sin */
        if (own > (double)N) plan->q_scale[t] = (float)(turn * turn);
    }
    return code;
}

const reattn__policy reattn__policy_dca = {
    .info = {"dca", "positions count inside chunks; a query is in its own, next to the one before, far from others",
             "keeps everything; a step costs O(n); no distance is over 3/4 of the trained length",
             "ChunkLlama, 2402.17463"},
    .options = "local",
    .planner = REATTN__PLANS_FROM_LENGTHS,
    .resolve = resolve,
    .plan = plan_dca,
};
