/* bridge.c - runs the model on one chunk with its attention replaced. See bridge.h. */
#include <stdlib.h>

#include "hook.h"
#include "model.h"

struct reattn__bridge {
    reattn_model *model;
    struct llama_context *ctx;
    int64_t chunk;
    reattn__layer_fn fn;
    void *user;
    reattn__hook hook;
    reattn__hook_device device;
    int8_t *logits_wanted; /* [chunk] */
    llama_pos *zeros;      /* [chunk] */
    bool refused;          /* libllama does not take tokens of a sequence that are all at one position */
    int64_t T, n_logits;   /* of the last run */
};

static int replace(reattn__hook *h, struct ggml_tensor *node)
{
    reattn__bridge *b = h->user;
    float *out = reattn__buffer_need(&h->out, (size_t)(h->T * h->H * h->Dv) * sizeof *out);
    if (!out) return reattn__fail(&h->err, REATTN_E_NOMEM, "out of memory for the attention's output");
    int code = b->fn(b->user, h->layer, h->T, h->q.data, h->k.data, h->v.data, out, &h->err);
    return code == REATTN_OK ? reattn__hook_write(h, node) : code;
}

int reattn__bridge_create(reattn_model *m, const reattn__bridge_args *args, reattn__bridge **out, reattn_error *err)
{
    reattn__bridge *b = calloc(1, sizeof *b);
    int64_t chunk = args->chunk;
    if (b) b->logits_wanted = calloc((size_t)chunk, 1);
    if (b) b->zeros = calloc((size_t)chunk, sizeof *b->zeros);
    if (!b || !b->logits_wanted || !b->zeros) {
        reattn__bridge_free(b);
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    }
    *b = (reattn__bridge){.model = m, .chunk = chunk, .fn = args->fn, .user = args->user,
                          .logits_wanted = b->logits_wanted, .zeros = b->zeros,
                          .hook = {.attend = replace, .user = b, .code = REATTN_E_ARG},
                          .device = {args->engine, args->device, m->layers, args->device_fn, args->user}};
    if (args->engine) b->hook.on = &b->device;
    for (int l = 0; args->engine && l < m->n_layer; l++)
        if (args->device[l] >= 0 && (m->layers[l].rope.attn_factor != 1 || m->layers[l].rope.ext_factor != 0))
            b->hook.scaled = true;
    struct llama_context_params cp = llama_context_default_params();
    cp.n_ctx = cp.n_batch = cp.n_ubatch = (uint32_t)chunk;
    cp.n_threads = cp.n_threads_batch = args->n_threads;
    cp.n_seq_max = (uint32_t)REATTN__MIN(chunk, (int64_t)REATTN__BRIDGE_APART);
    cp.kv_unified = true;
    cp.flash_attn_type = m->flash;
    cp.cb_eval = reattn__hook_eval;
    cp.cb_eval_user_data = &b->hook;
    b->ctx = llama_init_from_model(m->llama, cp);
    if (!b->ctx) {
        reattn__bridge_free(b);
        return reattn__fail(err, REATTN_E_MODEL, "libllama cannot make a context of %lld tokens: %s", (long long)chunk,
                            reattn__llama_complaint());
    }
    *out = b;
    return REATTN_OK;
}

void reattn__bridge_free(reattn__bridge *b)
{
    if (!b) return;
    if (b->ctx) llama_free(b->ctx);
    reattn__hook_free(&b->hook);
    free(b->logits_wanted);
    free(b->zeros);
    free(b);
}

static int run(reattn__bridge *b, struct llama_batch batch, int64_t n_logits, reattn_error *err)
{
    const int64_t T = batch.n_tokens;
    b->T = T;
    b->n_logits = 0;
    llama_memory_clear(llama_get_memory(b->ctx), false);
    for (int64_t t = 0; t < T; t++) b->logits_wanted[t] = t >= T - n_logits;
    batch.logits = b->logits_wanted;
    reattn__hook_start(&b->hook, T, 0, batch.pos != NULL);
    int rc = llama_decode(b->ctx, batch);
    if (b->hook.code != REATTN_OK) {
        int code = b->hook.code;
        return reattn__fail(err, code, "%s", b->hook.err.msg);
    }
    if (rc != 0)
        return reattn__fail(err, REATTN_E_MODEL, "libllama failed on %lld tokens (%d): %s", (long long)T, rc,
                            reattn__llama_complaint());
    b->n_logits = n_logits;
    return REATTN_OK;
}

/* Tokens of one sequence. What libllama's attention makes of them is replaced, so their positions are free to choose: on a
 * device they are all at 0, where the hook stops least. */
static int run_chunk(reattn__bridge *b, const int32_t *tokens, int64_t T, int64_t n_logits, reattn_error *err)
{
    struct llama_batch batch = llama_batch_get_one((llama_token *)tokens, (int32_t)T);
    if (T > 1 && b->hook.on && !b->refused) batch.pos = b->zeros;
    int code = run(b, batch, n_logits, err);
    if (code == REATTN_OK || !batch.pos || b->hook.code != REATTN_OK || b->hook.layer >= 0) return code;
    b->refused = true; /* it failed before the first layer */
    return run_chunk(b, tokens, T, n_logits, err);
}

int reattn__bridge_run(reattn__bridge *b, const int32_t *tokens, int64_t T, int64_t n_logits, reattn_error *err)
{
    if (T < 1 || T > b->chunk) return reattn__fail(err, REATTN_E_INTERNAL, "a run of %lld tokens", (long long)T);
    return run_chunk(b, tokens, T, n_logits, err);
}

int reattn__bridge_run_for(reattn__bridge *b, const reattn__bridge_for *who, const int32_t *tokens, int64_t T,
                           reattn_error *err)
{
    if (T < 1 || T > b->chunk) return reattn__fail(err, REATTN_E_INTERNAL, "a run of %lld tokens", (long long)T);
    const reattn__bridge_for own = {b->fn, b->device.step, b->user};
    const bool apart = T <= REATTN__BRIDGE_APART; /* and no more than n_seq_max, as T <= chunk */
    struct llama_batch batch = llama_batch_get_one((llama_token *)tokens, (int32_t)T);
    llama_pos pos[REATTN__BRIDGE_APART] = {0};
    llama_seq_id sequence[REATTN__BRIDGE_APART], *sequences[REATTN__BRIDGE_APART];
    int32_t n_sequence[REATTN__BRIDGE_APART];
    for (int i = 0; i < REATTN__BRIDGE_APART; i++) {
        sequence[i] = i;
        sequences[i] = &sequence[i];
        n_sequence[i] = 1;
    }
    if (apart) {
        batch.pos = pos;
        batch.n_seq_id = n_sequence;
        batch.seq_id = sequences;
    }
    b->fn = who->fn;
    b->device.step = who->device_fn;
    b->user = b->device.user = who->user;
    int code = apart ? run(b, batch, T, err) : run_chunk(b, tokens, T, T, err);
    b->fn = own.fn;
    b->device.step = own.device_fn;
    b->user = b->device.user = own.user;
    return code;
}

const float *reattn__bridge_logits(const reattn__bridge *b, int64_t t)
{
    return t >= b->T - b->n_logits && t < b->T ? llama_get_logits_ith(b->ctx, (int32_t)t) : NULL;
}
