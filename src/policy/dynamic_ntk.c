/* dynamic_ntk.c - dynamic NTK scaling: past the trained length N the base grows with the text, base * (s n/N - (s - 1))
 * ^(D/(D-2)); before it nothing changes. */
#include "ropes.h"

/* The length is rounded up to this, so that the angles of all positions are not made anew for every token. */
enum { STEP = 256, SCALE_DEFAULT = 2 };

static int plan_dynamic_ntk(void *state, const reattn__step *s, reattn__plan *plan, reattn_error *err)
{
    reattn__ropes *ropes = state;
    reattn_rope rope = *reattn__ropes_own(ropes, s->layer);
    double N = (double)s->params->ctx_train, scale = s->params->scale ? (double)s->params->scale : SCALE_DEFAULT;
    double n = (double)((s->n + STEP - 1) / STEP * STEP);
    if (s->n > s->params->ctx_train) rope.freq_base = reattn__ropes_ntk_base(&rope, scale * n / N - (scale - 1));
    return reattn__ropes_plan(plan, s, reattn__ropes_use(ropes, s->layer, &rope), err);
}

const reattn__policy reattn__policy_dynamic_ntk = {
    .info = {"dynamic-ntk", "every token; as ntk, but the base grows with the text, from the trained length on",
             "keeps everything; a step costs O(n)", "Dynamic NTK scaling, emozilla 2023"},
    .options = "scale",
    .planner = REATTN__PLANS_FROM_LENGTHS,
    .create = reattn__ropes_new,
    .destroy = reattn__ropes_destroy,
    .bytes_for = reattn__ropes_bytes_for,
    .plan = plan_dynamic_ntk,
};
