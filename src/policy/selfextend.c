/* selfextend.c - SelfExtend (2401.01325): the last w tokens at their own distance; further away G neighbours share a
 * position, so that distances shrink G-fold. */
#include "policy.h"

enum { GROUP_DEFAULT = 8 };

static int resolve(reattn_session_params *p, reattn_error *err)
{
    int64_t N = p->ctx_train;
    if (p->local == 0) p->local = REATTN__MAX(N / 4, 1);
    if (p->local >= N)
        return reattn__fail(err, REATTN_E_ARG, "selfextend: --local %lld must be less than the trained length, %lld",
                            (long long)p->local, (long long)N);
    if (p->group == 0) {
        /* A text of (N - w) G + w tokens keeps all distances below N. */
        int64_t room = N - p->local, far = REATTN__MAX(p->ctx_limit - p->local, 1);
        p->group = p->ctx_limit ? REATTN__MIN((far + room - 1) / room, INT64_C(65536)) : GROUP_DEFAULT;
    }
    return REATTN_OK;
}

static int plan_selfextend(void *state, const reattn__step *s, reattn__plan *plan, reattn_error *err)
{
    int64_t w = s->params->local, G = s->params->group, q_first = s->n - s->T, first = REATTN__MAX(q_first - w + 1, 0);
    int code = reattn__plan_room(plan, 1, 2, err);
    (void)state;
    if (code != REATTN_OK) return code;
    /* floor(i / G) + w - floor(w / G) against floor(j / G) */
    reattn__plan_add(plan, 0, (reattn_run){.count = s->n - w, .k_step = 1, .k_div = G,
                                           .q_pos = q_first + G * (w - w / G), .q_step = 1, .q_div = G, .dist_min = w,
                                           .dist_max = INT64_MAX});
    reattn__plan_add(plan, 0, (reattn_run){.first = first, .count = s->n - first, .k_step = 1, .q_pos = q_first - first,
                                           .q_step = 1, .dist_max = w - 1});
    return REATTN_OK;
}

const reattn__policy reattn__policy_selfextend = {
    .info = {"selfextend", "the last L tokens at their true distance; further away G neighbours share a position",
             "keeps everything; a step costs O(n); holds for (N - L) G + L tokens", "SelfExtend, 2401.01325"},
    .options = "local group",
    .planner = REATTN__PLANS_FROM_LENGTHS,
    .resolve = resolve,
    .plan = plan_selfextend,
};
