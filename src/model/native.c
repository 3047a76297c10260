/* native.c - the model with libllama's own attention and cache: the baseline, in the same program. */
#include <stdlib.h>

#include "model.h"

struct reattn__native {
    struct llama_context *ctx;
    int64_t n_ctx, chunk, n;
    int8_t *logits_wanted; /* [chunk] */
    int64_t T, n_logits;   /* of the last run */
};

static enum ggml_type ggml_type_of(int dtype)
{
    return dtype == REATTN_F32 ? GGML_TYPE_F32 : dtype == REATTN_Q8_0 ? GGML_TYPE_Q8_0 : GGML_TYPE_F16;
}

int reattn__native_create(reattn_model *m, int64_t n_ctx, int64_t chunk, int type_k, int type_v, int flash,
                          int n_threads, reattn__native **out, reattn_error *err)
{
    reattn__native *b = calloc(1, sizeof *b);
    if (b) b->logits_wanted = calloc((size_t)chunk, 1);
    if (!b || !b->logits_wanted) {
        free(b);
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    }
    b->n_ctx = n_ctx;
    b->chunk = chunk;
    struct llama_context_params cp = llama_context_default_params();
    cp.n_ctx = (uint32_t)n_ctx;
    cp.n_batch = cp.n_ubatch = (uint32_t)chunk;
    cp.n_threads = cp.n_threads_batch = n_threads;
    cp.n_seq_max = REATTN__NATIVE_SEQUENCES;
    cp.kv_unified = true;
    cp.flash_attn_type = reattn__llama_flash(flash);
    cp.type_k = ggml_type_of(type_k);
    cp.type_v = ggml_type_of(type_v);
    b->ctx = llama_init_from_model(m->llama, cp);
    if (!b->ctx) {
        reattn__native_free(b);
        return reattn__fail(err, REATTN_E_MODEL, "libllama cannot make a context of %lld tokens: %s", (long long)n_ctx,
                            reattn__llama_complaint());
    }
    *out = b;
    return REATTN_OK;
}

void reattn__native_free(reattn__native *b)
{
    if (!b) return;
    if (b->ctx) llama_free(b->ctx);
    free(b->logits_wanted);
    free(b);
}

int reattn__native_run(reattn__native *b, const int32_t *tokens, int64_t T, int64_t n_logits, reattn_error *err)
{
    b->T = T;
    b->n_logits = 0;
    if (b->n + T > b->n_ctx)
        return reattn__fail(
            err, REATTN_E_LIMIT,
            "--policy native was given room for %lld tokens and %lld are there: set -c to what you need",
            (long long)b->n_ctx, (long long)(b->n + T));
    struct llama_batch batch = llama_batch_get_one((llama_token *)tokens, (int32_t)T);
    for (int64_t t = 0; t < T; t++) b->logits_wanted[t] = t >= T - n_logits;
    batch.logits = b->logits_wanted;
    int rc = llama_decode(b->ctx, batch);
    if (rc != 0) {
        llama_memory_seq_rm(llama_get_memory(b->ctx), 0, (llama_pos)b->n, -1);
        return reattn__fail(err, REATTN_E_MODEL, "libllama failed on %lld tokens (%d): %s", (long long)T, rc,
                            reattn__llama_complaint());
    }
    b->n += T;
    b->n_logits = n_logits;
    return REATTN_OK;
}

int reattn__native_stretch(reattn__native *b, int64_t from, int64_t n, reattn_error *err)
{
    llama_memory_t memory = llama_get_memory(b->ctx);
    int32_t any = 1;
    if (from < 1 || from > b->n || n + 1 > b->n_ctx)
        return reattn__fail(err, REATTN_E_ARG, "cannot fill %lld of %lld tokens with copies of %lld", (long long)n,
                            (long long)b->n_ctx, (long long)from);
    uint8_t *state = NULL;
    bool ok = true;
    for (int64_t at = b->n, count; at < n && ok; at += count) {
        count = REATTN__MIN(from, n - at);
        /* Out as a sequence of its own; back into free cells, moved, and joined to ours. */
        llama_memory_seq_cp(memory, 0, 1, 0, (llama_pos)count);
        size_t bytes = llama_state_seq_get_size(b->ctx, 1);
        uint8_t *grown = realloc(state, bytes);
        if (!grown) {
            free(state);
            return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
        }
        state = grown;
        ok = llama_state_seq_get_data(b->ctx, state, bytes, 1) == bytes;
        llama_memory_seq_rm(memory, 1, -1, -1);
        ok = ok && llama_state_seq_set_data(b->ctx, state, bytes, 1) != 0;
        llama_memory_seq_add(memory, 1, 0, -1, (llama_pos)at);
        llama_memory_seq_cp(memory, 1, 0, -1, -1);
        llama_memory_seq_rm(memory, 1, -1, -1);
    }
    free(state);
    if (!ok)
        return reattn__fail(err, REATTN_E_UNSUPPORTED, "libllama cannot copy parts of this model's cache: %s",
                            reattn__llama_complaint());
    b->n = n;
    /* The next step turns the keys to their new positions: done here, it is in nobody's time. */
    int code = reattn__native_run(b, &any, 1, 0, err);
    return code == REATTN_OK ? reattn__native_rewind(b, n, err) : code;
}

int reattn__native_rewind(reattn__native *b, int64_t n, reattn_error *err)
{
    if (!llama_memory_seq_rm(llama_get_memory(b->ctx), 0, (llama_pos)n, -1))
        return reattn__fail(err, REATTN_E_UNSUPPORTED, "libllama cannot rewind this model's cache to %lld tokens",
                            (long long)n);
    b->n = n;
    b->n_logits = 0;
    return REATTN_OK;
}

const float *reattn__native_logits(const reattn__native *b, int64_t t)
{
    return t >= b->T - b->n_logits && t < b->T ? llama_get_logits_ith(b->ctx, (int32_t)t) : NULL;
}
