/* lm_infinite.c - LM-Infinite (2308.16137): the last L tokens at their own distance, the first G at distance L. */
#include "policy.h"

static int resolve(reattn_session_params *p, reattn_error *err)
{
    if (p->local == 0) p->local = p->ctx_train;
    if (p->local > p->ctx_train)
        return reattn__fail(err, REATTN_E_ARG,
                            "lm-infinite uses distances up to --local %lld, the model was trained on %lld",
                            (long long)p->local, (long long)p->ctx_train);
    return REATTN_OK;
}

static int plan_lm_infinite(void *state, const reattn__step *s, reattn__plan *plan, reattn_error *err)
{
    int64_t L = s->params->local, G = s->params->keep, q_first = s->n - s->T, first = REATTN__MAX(q_first - L + 1, 0);
    int code = reattn__plan_room(plan, 1, 2, err);
    (void)state;
    if (code != REATTN_OK) return code;
    /* The first tokens, for queries that are further away: all of them L away, whatever their order. */
    reattn__plan_add(plan, 0, (reattn_run){.count = REATTN__MIN(G, s->n - L), .q_pos = L, .dist_min = L,
                                           .dist_max = INT64_MAX});
    /* The last ones. Only distances matter: counting from the first that is seen keeps positions small. */
    reattn__plan_add(plan, 0, (reattn_run){.first = first, .count = s->n - first, .k_step = 1, .q_pos = q_first - first,
                                           .q_step = 1, .dist_max = L - 1});
    return REATTN_OK;
}

const reattn__policy reattn__policy_lm_infinite = {
    .info = {"lm-infinite", "the last L tokens at their true distance and the first G, all of these at distance L",
             "keeps everything, reads G + L; a step costs O(G + L)", "LM-Infinite, 2308.16137"},
    .options = "keep local",
    .planner = REATTN__PLANS_FROM_LENGTHS,
    .resolve = resolve,
    .plan = plan_lm_infinite,
};
