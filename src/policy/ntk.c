/* ntk.c - NTK-aware scaling: a larger base of the rotations, so that the slowest pair turns `scale` times slower and
 * the fastest as before. */
#include "ropes.h"

static int plan_ntk(void *state, const reattn__step *s, reattn__plan *plan, reattn_error *err)
{
    reattn__ropes *ropes = state;
    reattn_rope rope = *reattn__ropes_own(ropes, s->layer);
    int64_t scale = s->params->scale ? s->params->scale : reattn__ropes_times(s->n, s->params->ctx_train);
    if (scale > 1) rope.freq_base = reattn__ropes_ntk_base(&rope, (double)scale);
    return reattn__ropes_plan(plan, s, reattn__ropes_use(ropes, s->layer, &rope), err);
}

const reattn__policy reattn__policy_ntk = {
    .info = {"ntk", "every token; a larger base: slow pairs turn X times slower, fast ones as they were",
             "keeps everything; a step costs O(n)", "NTK-aware scaled RoPE, bloc97 2023"},
    .options = "scale",
    .planner = REATTN__PLANS_FROM_LENGTHS,
    .create = reattn__ropes_new,
    .destroy = reattn__ropes_destroy,
    .bytes_for = reattn__ropes_bytes_for,
    .plan = plan_ntk,
};
