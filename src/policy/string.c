/* string.c - STRING (2410.18745): distances of S and more are shifted down by S and up by a small W, so that those
 * which training saw seldom are not used. */
#include <math.h>

#include "policy.h"

enum { LOCAL_DEFAULT = 128 };

static int resolve(reattn_session_params *p, reattn_error *err)
{
    if (p->shift == 0) p->shift = REATTN__MAX(p->ctx_train * 33 / 100, 1);
    if (p->local == 0) p->local = REATTN__MIN(p->shift, (int64_t)LOCAL_DEFAULT);
    if (p->local > p->shift)
        return reattn__fail(err, REATTN_E_ARG, "string: --local %lld is larger than --shift %lld: distances would grow",
                            (long long)p->local, (long long)p->shift);
    return REATTN_OK;
}

static int plan_string(void *state, const reattn__step *s, reattn__plan *plan, reattn_error *err)
{
    int64_t S = s->params->shift, W = s->params->local, q_first = s->n - s->T, first = REATTN__MAX(q_first - S + 1, 0);
    int code = reattn__plan_room(plan, 1, 2, err);
    (void)state;
    if (code != REATTN_OK) return code;
    reattn__plan_add(plan, 0, (reattn_run){.count = s->n - S, .k_step = 1, .q_pos = q_first - S + W, .q_step = 1,
                                           .dist_min = S, .dist_max = INT64_MAX, .t_min = REATTN__MAX(S - q_first, 0)});
    reattn__plan_add(plan, 0, (reattn_run){.first = first, .count = s->n - first, .k_pos = first, .k_step = 1,
                                           .q_pos = q_first, .q_step = 1, .dist_max = S - 1});
    if (s->params->scale <= 1) return REATTN_OK;
    code = reattn__plan_scales(plan, s->T, err);
    double turn = 1 + 0.1 * log((double)s->params->scale); /* on cos and sin, of queries and of keys */
    for (int64_t t = 0; code == REATTN_OK && t < s->T; t++) plan->q_scale[t] = (float)(turn * turn);
    return code;
}

const reattn__policy reattn__policy_string = {
    .info = {"string", "distances from S on are shifted down by S and up by L: the rarely trained ones are not used",
             "keeps everything; a step costs O(n); makes better use of the trained length, adds S - L to it",
             "STRING, 2410.18745"},
    .options = "local shift scale",
    .planner = REATTN__PLANS_FROM_LENGTHS,
    .resolve = resolve,
    .plan = plan_string,
};
