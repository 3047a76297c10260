/* memory.c - bytes that a session takes, before it takes them: an estimate from above of what is in this library's
 * hands. What libllama takes beside its logits, for its graph, is not known here. */
#include <stdlib.h>

#include "place.h"
#include "policy/ropes.h"

/* The rotated keys of a whole scope, which decode keeps (attend/turned.h). */
static uint64_t kept_scope_bytes(const reattn__layer *layers, int n_layer, const reattn_session_params *p)
{
    uint64_t bytes = 0;
    const reattn__policy *policy = reattn__policy_find(p->policy);
    int64_t block = REATTN__BLOCK, sets = p->recall_per_head ? layers[0].Hk : 1;
    int64_t blocks = sets * (p->keep / block + p->local / block + 4 + p->recall_max * (p->recall_span / block + 2));
    blocks = REATTN__MAX(blocks, p->recall_from / block + 2); /* of a text that is attended to whole */
    if (policy->budget) blocks = p->pot / block + 2;
    if (!(policy->finite || policy->budget) || p->type_k != REATTN_SPLIT || p->type_v != REATTN_F16) return 0;
    for (int l = 0; l < n_layer; l++) bytes += reattn__turned_bytes(&layers[l], reattn__turned_room(blocks));
    return bytes;
}

/* Buffers of a step: the bridge's, attention's, and what a policy that learns is told. */
static uint64_t step_bytes(const reattn__layer *layers, int n_layer, const reattn_session_params *p)
{
    const reattn__policy *policy = reattn__policy_find(p->policy);
    const int64_t seen = policy->budget ? p->pot : p->local + p->chunk; /* keys whose mass is asked for */
    uint64_t most = 0;
    for (int l = 0; l < n_layer; l++) {
        const reattn__layer *s = &layers[l];
        const size_t values = (size_t)(s->H + s->Hk) * (size_t)(s->D + s->Dv) * (size_t)p->chunk; /* q, k, v, out */
        const size_t told = (size_t)s->H * (size_t)(p->chunk + seen);
        uint64_t bytes = reattn__buffer_room(values * sizeof(float)) +
                         reattn__buffer_room(reattn__attend_scratch(s, p->chunk, p->n_threads));
        if (policy->learn) bytes += reattn__buffer_room(told * sizeof(float));
        most = REATTN__MAX(most, bytes);
    }
    return most;
}

/* The session's own tables of rotations; policies that change rotations have theirs. */
static uint64_t rope_bytes(const reattn__layer *layers, int n_layer, const reattn_session_params *p, int64_t n,
                           uint64_t *grows)
{
    const reattn__policy *policy = reattn__policy_find(p->policy);
    const bool original = policy->finite && p->positions == REATTN_POS_ORIGINAL;
    const int64_t scope = policy->budget ? p->pot : p->keep + p->recall_max * p->recall_span + p->local + p->chunk;
    if (policy->budget || (policy->finite && !original))
        return reattn__ropes_table_bytes(layers, n_layer, REATTN__MAX(scope, p->recall_from));
    if (!policy->bytes_for || original) *grows += reattn__ropes_table_bytes(layers, n_layer, n);
    return 0;
}

/* What the layers on the CPU take beside keys and values: always, and *grows, for n tokens. */
static uint64_t host_bytes(const reattn__layer *layers, int n_layer, const reattn_session_params *p, int64_t n,
                           uint64_t *grows)
{
    const reattn__policy *policy = reattn__policy_find(p->policy);
    *grows = 0;
    uint64_t bytes = policy->bytes_for ? policy->bytes_for(p, layers, n_layer, n, grows) : 0;
    return bytes + step_bytes(layers, n_layer, p) + kept_scope_bytes(layers, n_layer, p) +
           rope_bytes(layers, n_layer, p, n, grows);
}

/* Over many pages, so that a figure is not that of one page. */
enum { MANY = 1000 * REATTN__PAGE };

static void estimate(const reattn__layer *layers, const int *device, int n_layer, const reattn__layer *host, int n_host,
                     const reattn_session_params *p, int64_t n_tokens, reattn_memory *out)
{
    *out = (reattn_memory){0};
    if (n_host > 0) {
        uint64_t grows;
        out->store_bytes = reattn__store_bytes_for(host, n_host, p->type_k, p->type_v, n_tokens);
        out->bytes_per_1000 = reattn__store_bytes_for(host, n_host, p->type_k, p->type_v, MANY) / REATTN__PAGE;
        out->scratch_bytes = host_bytes(host, n_host, p, MANY, &grows);
        out->bytes_per_1000 += grows / REATTN__PAGE;
        host_bytes(host, n_host, p, n_tokens, &out->policy_bytes);
    }
    if (n_host < n_layer) {
        reattn__device_args args = {layers, device, n_layer, p};
        const reattn__device_table *engine = reattn__device_engine();
        uint64_t far, far_many, far_none;
        out->device_bytes = engine->bytes_for(&args, n_tokens, &far);
        out->device_bytes_per_1000 =
            (engine->bytes_for(&args, MANY, &far_many) - engine->bytes_for(&args, 0, &far_none)) / REATTN__PAGE;
        out->store_bytes += far;
        out->bytes_per_1000 += far_many / REATTN__PAGE;
    }
}

/* libllama's own cache has the same rows, as far as its metadata tell of a model that was loaded for it alone. */
static void estimate_native(const reattn__layer *layers, int n_layer, const reattn_model_info *info,
                            const reattn_session_params *p, int64_t n_tokens, reattn_memory *out)
{
    const reattn__layer like = {info->n_head, info->n_head_kv, info->head_dim_k, info->head_dim_v, 1, {0}};
    const int type_k = p->type_k == REATTN_SPLIT ? REATTN_F16 : p->type_k;
    uint64_t page = 0;
    for (int l = 0; l < n_layer; l++)
        page += reattn__store_bytes_for(layers ? &layers[l] : &like, 1, type_k, p->type_v, REATTN__PAGE);
    *out = (reattn_memory){.store_bytes = page * (uint64_t)n_tokens / REATTN__PAGE,
                           .bytes_per_1000 = page * 1000 / REATTN__PAGE};
}

/* Rows of logits that a session's libllama context keeps, and that it keeps itself. */
static int64_t n_rows(const reattn_session_params *p)
{
    const reattn__policy *policy = reattn__policy_find(p->policy);
    if (policy->native) return REATTN__NATIVE_SEQUENCES;
    const int64_t together = REATTN__MIN(p->chunk, (int64_t)REATTN__BRIDGE_APART);
    return policy->budget ? p->chunk + REATTN__ROWS : together;
}

int reattn_session_memory(const reattn_model *model, const reattn_session_params *params, int64_t n_tokens,
                          reattn_memory *out, reattn_error *err)
{
    reattn_session_params p = params ? *params : reattn_session_params_default();
    reattn_model_info info;
    int n_layer;
    if (!model || !out || n_tokens < 0) return reattn__fail(err, REATTN_E_ARG, "reattn_session_memory: a bad argument");
    int code = reattn_session_params_resolve(&p, model, err);
    if (code != REATTN_OK) return code;
    reattn_model_get_info(model, &info);
    const uint64_t logits = (uint64_t)n_rows(&p) * (uint64_t)info.n_vocab * sizeof(float);
    const reattn__layer *layers = reattn__model_layers(model, &n_layer);
    if (!layers || reattn__policy_find(p.policy)->native) {
        estimate_native(layers, n_layer, &info, &p, n_tokens, out);
        out->scratch_bytes = logits;
        return REATTN_OK;
    }
    if (reattn__policy_find(p.policy)->budget) n_tokens = REATTN__MIN(n_tokens, p.pot);
    int *device, n_host = 0;
    reattn__layer *host = malloc((size_t)n_layer * sizeof *host);
    if (!host) return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    code = reattn__places(model, &p, false, &device, err);
    if (code >= 0) {
        for (int l = 0; l < n_layer; l++)
            if (device[l] < 0) host[n_host++] = layers[l];
        estimate(layers, device, n_layer, host, n_host, &p, n_tokens, out);
        out->scratch_bytes += logits;
        free(device);
    }
    free(host);
    return REATTN__MIN(code, REATTN_OK);
}

int reattn__layers_of_device(const int *device, int n_layer, int at, int *mask)
{
    for (int l = 0; l < n_layer; l++) {
        int before = 0, n = 0;
        while (before < l && device[before] != device[l]) before++;
        if (device[l] < 0 || before < l || at-- > 0) continue;
        for (int i = 0; i < n_layer; i++) {
            mask[i] = device[i] == device[l] ? device[l] : -1;
            n += mask[i] >= 0;
        }
        return n;
    }
    return 0;
}

int reattn_session_devices(const reattn_model *model, const reattn_session_params *params, reattn_device_memory *out,
                           int cap, reattn_error *err)
{
    reattn_session_params p = params ? *params : reattn_session_params_default();
    int n_layer, *device, n = 0;
    if (!model || cap < 0 || (cap > 0 && !out))
        return reattn__fail(err, REATTN_E_ARG, "reattn_session_devices: a bad argument");
    int code = reattn_session_params_resolve(&p, model, err);
    if (code != REATTN_OK) return code;
    const reattn__layer *layers = reattn__model_layers(model, &n_layer);
    if (!layers || reattn__policy_find(p.policy)->native) return 0;
    code = reattn__places(model, &p, false, &device, err);
    if (code < 0) return code;
    const reattn__device_table *engine = reattn__device_engine();
    int *mask = malloc((size_t)n_layer * sizeof *mask);
    const reattn__device_args args = {layers, mask, n_layer, &p};
    for (int count; mask && (count = reattn__layers_of_device(device, n_layer, n, mask)) > 0; n++) {
        reattn_device_memory one = {.n_layer = count};
        uint64_t far; /* the host's part */
        for (int l = 0; l < n_layer; l++)
            if (mask[l] >= 0) one.device = mask[l];
        one.free_bytes = engine->free_bytes(one.device);
        one.fixed_bytes = engine->bytes_for(&args, 0, &far);
        one.bytes_per_1000 = (engine->bytes_for(&args, MANY, &far) - one.fixed_bytes) / REATTN__PAGE;
        if (n < cap) out[n] = one;
    }
    code = mask ? n : reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    free(mask);
    free(device);
    return code;
}

int64_t reattn_tokens_that_fit(uint64_t free_bytes, uint64_t fixed_bytes, uint64_t bytes_per_1000)
{
    if (free_bytes <= fixed_bytes) return 0;
    const uint64_t room = free_bytes - fixed_bytes;
    if (bytes_per_1000 == 0) return INT64_MAX;
    /* In two parts: 1000 times the room of a large machine would still fit in 64 bits, that of a wrong figure would
     * not. */
    const uint64_t whole = room / bytes_per_1000, rest = room % bytes_per_1000;
    if (whole > INT64_MAX / 1000 - 1) return INT64_MAX;
    return (int64_t)(whole * 1000 + (uint64_t)((double)rest * 1000 / (double)bytes_per_1000));
}
