/* full.c - every query attends to every token before it, at its true position. */
#include "policy.h"

static int plan_full(void *state, const reattn__step *step, reattn__plan *plan, reattn_error *err)
{
    (void)state;
    int code = reattn__plan_start(plan, 1, 0, err);
    if (code == REATTN_OK) reattn__plan_full(plan, step);
    return code;
}

const reattn__policy reattn__policy_full = {
    .info = {"full", "every token at its true position, by this engine: what native must agree with",
             "keeps everything; a step costs O(n); fails past the trained length",
             "Attention Is All You Need, 1706.03762"},
    .planner = REATTN__PLANS_ALL,
    .plan = plan_full,
};
