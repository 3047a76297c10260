/* streaming.c - the first G and the last L tokens, positions counted inside the scope: endless output, no memory. */
#include "local.h"
#include "policy.h"

static int plan_streaming(void *state, const reattn__step *step, reattn__plan *plan, reattn_error *err)
{
    (void)state;
    int code = reattn__plan_start(plan, 1, 0, err);
    if (code != REATTN_OK) return code;
    if (step->n <= step->params->keep + reattn__last_tokens(step->params, step->T)) reattn__plan_full(plan, step);
    else reattn__plan_scope(plan, 0, step, NULL, 0);
    return REATTN_OK;
}

const reattn__policy reattn__policy_streaming = {
    .info = {"streaming", "the first G and the last L tokens; what lies between is never seen again",
             "a step costs O(G + L)", "StreamingLLM, 2309.17453"},
    .options = "keep local local-per positions",
    .planner = REATTN__PLANS_ENDS,
    .finite = true,
    .plan = plan_streaming,
};
