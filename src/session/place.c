/* place.c - see place.h. */
#include "place.h"

#include <stdlib.h>

#include "policy/local.h"

static bool here(const int *places, int n_layer, int place)
{
    for (int l = 0; l < n_layer; l++)
        if (places[l] == place)
            return true;
    return false;
}

int reattn__places(const reattn_model *model, const reattn_session_params *p, bool say, int **device, reattn_error *err)
{
    int n_layer, n = 0;
    const reattn__layer *layers = reattn__model_layers(model, &n_layer);
    const int *places = reattn__model_places(model);
    const reattn__device_table *engine = reattn__device_engine();
    int *out = malloc((size_t)n_layer * sizeof *out);
    if (!out)
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    for (int l = 0; l < n_layer; l++) {
        out[l] = p->engine == REATTN_ENGINE_CPU || places[l] < 0 ? -1 : places[l];
        n += out[l] >= 0;
    }
    reattn__device_args args = {layers, out, n_layer, p};
    const char *why = n > 0 ? engine->refuses(&args) : NULL;
    for (int l = 0; why && l < n_layer; l++)
        out[l] = -1;
    if (why)
        n = 0;
    if (!why && p->engine != REATTN_ENGINE_CPU && here(places, n_layer, REATTN__PLACE_OTHER))
        why = engine ? "no kernels for their backend" : "this reattn was built without CUDA (-DREATTN_CUDA=ON)";
    if (why && say)
        reattn__log(REATTN_LOG_WARN, "layers on a GPU attend on the CPU, their queries, keys and values are copied: %s",
                    why);
    if (n > 0 && say)
        reattn__log(REATTN_LOG_INFO, "%d of %d layers attend on the GPU that they lie on", n, n_layer);
    *device = out;
    return n;
}

/* The spans of the layer's last step, for who traces them. */
static int report(const reattn_session *s, int layer, reattn_error *err)
{
    const reattn__device_table *engine = reattn__device_engine();
    int n_list = s->params.recall_per_head ? s->layers[layer].Hk : 1, code = REATTN_OK;
    int64_t cap = s->params.recall_max;
    reattn_span *spans = malloc((size_t)REATTN__MAX(cap, 1) * sizeof *spans);
    if (!spans)
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory for a trace");
    for (int i = 0; i < n_list && code == REATTN_OK; i++) {
        int64_t n = 0;
        code = engine->spans(s->engine, layer, i, spans, cap, &n, NULL, err);
        if (code != REATTN_OK || n == 0)
            continue;
        reattn_trace trace = {
            .token = s->n - 1, .layer = layer, .kv_head = n_list > 1 ? i : -1, .spans = spans, .n_spans = n};
        s->trace(&trace, s->trace_user);
    }
    free(spans);
    return code;
}

/* The plan of a layer's step, made here: the policy reads nothing that lies on the device. */
static int plan_for(reattn_session *s, int layer, int64_t T, reattn__device_plan *plan, reattn_error *err)
{
    reattn__step step = {.params = &s->params,
                         .shape = &s->layers[layer],
                         .layer = layer,
                         .decode = s->decode,
                         .last = s->last,
                         .T = T,
                         .n = s->n,
                         .scored = &s->stats.keys_scored,
                         .rescored = &s->stats.keys_rescored};
    int code = s->policy->plan(s->planner_state, &step, &s->plan, err);
    *plan = (reattn__device_plan){s->plan.lists, s->plan.n_list, s->plan.q_scale};
    return code;
}

int reattn__session_device_ready(reattn_session *s, int layer, int64_t T, bool *has_out, reattn__device_plan *plan,
                                 reattn_error *err)
{
    if (atomic_load_explicit(&s->cancel, memory_order_relaxed))
        return reattn__fail(err, REATTN_E_CANCELLED, "cancelled after %lld tokens", (long long)(s->n - T));
    if (s->mass_fn && s->want_logits)
        return reattn__fail(err, REATTN_E_UNSUPPORTED, "exact attention is measured on the CPU only: add --engine cpu");
    /* Without logits nothing reads the last layer's output: its keys and values were all that mattered. */
    *has_out = layer < s->n_layer - 1 || s->want_logits;
    *plan = (reattn__device_plan){0};
    const bool planned = *has_out && s->policy->planner == REATTN__PLANS_FROM_LENGTHS;
    return planned ? plan_for(s, layer, T, plan, err) : REATTN_OK;
}

int reattn__session_device_wait(reattn_session *s, int layer, int64_t T, bool has_out, double since, reattn_error *err)
{
    const reattn_session_params *p = &s->params;
    int code = reattn__device_engine()->wait(s->engine, layer, err);
    s->stats.device_ms += reattn__now_ms() - since;
    if (code != REATTN_OK || !has_out)
        return code;
    const int64_t ends = p->keep + reattn__last_tokens(p, T);
    /* else it is attended to whole */
    if (s->policy->planner == REATTN__PLANS_RECALL && s->n > REATTN__MAX(p->recall_from, ends))
        s->stats.keys_scored += T * s->layers[layer].H * (s->n - ends);
    return s->trace ? report(s, layer, err) : REATTN_OK;
}

int reattn__session_device_layer(void *user, int layer, int64_t T, const reattn__rows *q, const reattn__rows *k,
                                 const reattn__rows *v, float *out, bool *has_out, reattn_error *err)
{
    reattn_session *s = user;
    reattn__device_plan plan;
    double t0 = reattn__now_ms();
    int code = reattn__session_device_ready(s, layer, T, has_out, &plan, err);
    if (code == REATTN_OK)
        code = reattn__device_engine()->queue(s->engine, layer, T, s->decode, q, k, v, plan.n_list ? &plan : NULL,
                                              *has_out, out, err);
    /* What was queued before an error must have ended, too: later steps may come on other streams. */
    if (code != REATTN_OK)
        reattn__device_engine()->wait(s->engine, layer, NULL);
    return code == REATTN_OK ? reattn__session_device_wait(s, layer, T, *has_out, t0, err) : code;
}

int reattn__session_device_end(reattn_session *s, reattn_error *err)
{
    return s->engine ? reattn__device_engine()->check(s->engine, err) : REATTN_OK;
}

int64_t reattn__session_device_scope(const reattn_session *s)
{
    int64_t most = 0;
    for (int l = 0; s->engine && l < s->n_layer; l++) {
        int n_list = s->params.recall_per_head ? s->layers[l].Hk : 1;
        for (int i = 0; i < n_list && s->device[l] >= 0; i++) {
            int64_t n_span = 0, n_scope = 0;
            if (reattn__device_engine()->spans(s->engine, l, i, NULL, 0, &n_span, &n_scope, NULL) == REATTN_OK)
                most = REATTN__MAX(most, n_scope);
        }
    }
    return most;
}
