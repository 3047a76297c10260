/* mesa.c - Mesa-Extrapolation (2410.15859): a prompt is read in chunks that see the first tokens and themselves; its
 * end and the answer see everything, at distances that climb a stair: one by one for L, then one step for E tokens. */
#include <math.h>

#include "policy.h"

enum { GROUP_DEFAULT = 50 };

static int resolve(reattn_session_params *p, reattn_error *err)
{
    int64_t N = p->ctx_train;
    if (p->group == 0) p->group = GROUP_DEFAULT;
    if (p->local == 0) {
        p->local = REATTN__MAX(N / 4, 1);
        if (p->chunk == 512) p->chunk = REATTN__MIN(p->chunk, p->local); /* as for the other methods */
        p->tail = REATTN__MIN(p->tail, p->chunk);
    }
    if (p->chunk > p->local)
        return reattn__fail(
            err, REATTN_E_ARG,
            "mesa: --local %lld is smaller than --chunk %lld: a chunk must see itself at true distances",
            (long long)p->local, (long long)p->chunk);
    if (p->local >= N || p->keep >= N)
        return reattn__fail(err, REATTN_E_ARG,
                            "mesa: --local %lld and --keep %lld must be less than the trained length, %lld",
                            (long long)p->local, (long long)p->keep, (long long)N);
    return REATTN_OK;
}

/* Everything, as the step's last query sees it: true distances up to L, from there on one for E tokens. */
static int plan_stair(const reattn__step *s, reattn__plan *plan, reattn_error *err)
{
    int64_t E = s->params->group, L = s->params->local, N = s->params->ctx_train, bend = s->n - 1 - L;
    int code = reattn__plan_room(plan, 1, 2, err);
    if (code == REATTN_OK) code = reattn__plan_scales(plan, s->T, err);
    if (code != REATTN_OK) return code;
    /* Token `bend` is L away, at position bend / E; before it positions fall by one in E tokens, to 0. */
    int64_t at = bend / E, q_pos = at + L - (s->T - 1);
    reattn__plan_add(plan, 0, (reattn_run){.count = bend, .k_pos = at * E - bend + E - 1, .k_step = 1, .k_div = E,
                                           .q_pos = q_pos, .q_step = 1, .dist_max = INT64_MAX});
    reattn__plan_add(plan, 0, (reattn_run){.first = bend, .count = L + 1, .k_pos = at, .k_step = 1, .q_pos = q_pos,
                                           .q_step = 1, .dist_max = INT64_MAX});
    for (int64_t t = 0; t < s->T; t++)
        plan->q_scale[t] = (float)fmax(1, log((double)(s->n - s->T + t + 1)) / log((double)N));
    return REATTN_OK;
}

/* The first G tokens and the chunk of N - G behind them, or behind the chunks before: no position reaches N. */
static int plan_chunks(const reattn__step *s, reattn__plan *plan, reattn_error *err)
{
    int64_t G = s->params->keep, C = s->params->ctx_train - G, q_first = s->n - s->T;
    int64_t c0 = REATTN__MAX(q_first - G, 0) / C, c1 = REATTN__MAX(s->n - 1 - G, 0) / C;
    int code = reattn__plan_room(plan, 1, 2 * (c1 - c0 + 1), err);
    if (code != REATTN_OK) return code;
    for (int64_t c = c0; c <= c1; c++) {
        int64_t start = G + c * C, end = REATTN__MIN(s->n, start + C), q_pos = q_first - c * C;
        int64_t t_min = c > c0 ? start - q_first : 0, t_end = end - q_first;
        /* The first tokens, and the chunk; the first chunk follows them at once. */
        reattn_run run = {.count = c > 0 ? G : end, .k_step = 1, .q_pos = q_pos, .q_step = 1, .dist_max = INT64_MAX,
                          .t_min = t_min, .t_end = t_end};
        reattn__plan_add(plan, 0, run);
        run.first = start;
        run.count = end - start;
        run.k_pos = G;
        if (c > 0) reattn__plan_add(plan, 0, run);
    }
    return REATTN_OK;
}

static int plan_mesa(void *state, const reattn__step *s, reattn__plan *plan, reattn_error *err)
{
    (void)state;
    if (!s->decode && !s->last) return plan_chunks(s, plan, err);
    if (s->n > s->params->ctx_train) return plan_stair(s, plan, err);
    int code = reattn__plan_room(plan, 1, 1, err);
    if (code == REATTN_OK) reattn__plan_full(plan, s);
    return code;
}

const reattn__policy reattn__policy_mesa = {
    .info = {"mesa", "a prompt's chunks see its beginning and themselves; its end and the answer see all, on a stair",
             "keeps everything; a token read costs O(N), one generated O(n)", "Mesa-Extrapolation, 2410.15859"},
    .options = "keep local group",
    .planner = REATTN__PLANS_FROM_LENGTHS,
    .ends = true,
    .resolve = resolve,
    .plan = plan_mesa,
};
