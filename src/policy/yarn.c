/* yarn.c - YaRN (2309.00071): slow pairs are interpolated, fast ones kept, a ramp between, and logits sharpened by
 * (1 + 0.1 ln scale)^2: ggml's rotation has it all, the model only has to be told. */
#include "ropes.h"

static int create(const reattn_session_params *params, const reattn__layer *layers, int n_layer, void **state,
                  reattn_error *err)
{
    for (int l = 0; l < n_layer; l++)
        if (layers[l].rope.ext_factor != 0 || layers[l].rope.freq_scale != 1)
            return reattn__fail(
                err, REATTN_E_UNSUPPORTED,
                "the model scales its positions already (layer %d): yarn has no place; use --policy full "
                "or another method",
                l);
    return reattn__ropes_new(params, layers, n_layer, state, err);
}

static int plan_yarn(void *state, const reattn__step *s, reattn__plan *plan, reattn_error *err)
{
    reattn__ropes *ropes = state;
    reattn_rope rope = *reattn__ropes_own(ropes, s->layer);
    int64_t scale = s->params->scale ? s->params->scale : reattn__ropes_times(s->n, s->params->ctx_train);
    if (scale > 1) {
        rope.freq_scale = 1 / (float)scale;
        rope.ext_factor = 1;
        rope.n_ctx_orig = (int)s->params->ctx_train;
        rope.beta_fast = 32;
        rope.beta_slow = 1;
    }
    return reattn__ropes_plan(plan, s, reattn__ropes_use(ropes, s->layer, &rope), err);
}

const reattn__policy reattn__policy_yarn = {
    .info = {"yarn", "every token; slow pairs turn X times slower, fast ones as they were, logits are sharper",
             "keeps everything; a step costs O(n)", "YaRN, 2309.00071"},
    .options = "scale",
    .planner = REATTN__PLANS_FROM_LENGTHS,
    .create = create,
    .destroy = reattn__ropes_destroy,
    .bytes_for = reattn__ropes_bytes_for,
    .plan = plan_yarn,
};
