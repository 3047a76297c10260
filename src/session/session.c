/* session.c - one growing text: create, append a prompt, decode, rewind. */
#include "session.h"
#include "place.h"

#include <stdlib.h>
#include <string.h>

/* One table of rotations for all layers that rotate alike. */
static int share_ropes(reattn_session *s, reattn_error *err)
{
    s->ropes = calloc((size_t)s->n_layer, sizeof *s->ropes);
    s->rope_of = calloc((size_t)s->n_layer, sizeof *s->rope_of);
    if (!s->ropes || !s->rope_of) return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    for (int l = 0; l < s->n_layer; l++) {
        int i = 0;
        while (i < s->n_rope && !reattn__rope_same(&s->ropes[i].rope, &s->layers[l].rope)) i++;
        if (i == s->n_rope) s->ropes[s->n_rope++].rope = s->layers[l].rope;
        s->rope_of[l] = i;
    }
    return REATTN_OK;
}

/* Divides the layers between a device engine and the CPU. */
static int place_layers(reattn_session *s, reattn_error *err)
{
    reattn__device_args args = {.layers = s->layers, .n_layer = s->n_layer, .params = &s->params};
    int n = reattn__places(s->model, &s->params, true, &s->device, err);
    if (n < 0) return n;
    s->row = calloc((size_t)s->n_layer, sizeof *s->row);
    if (!s->row) return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    for (int l = 0; l < s->n_layer; l++) s->row[l] = s->device[l] < 0 ? s->n_row++ : -1;
    args.device = s->device;
    return n > 0 ? reattn__device_engine()->create(&args, &s->engine, err) : REATTN_OK;
}

/* What the layers that attend on the CPU need. */
static int create_cpu(reattn_session *s, reattn_error *err)
{
    const reattn_session_params *p = &s->params;
    reattn__layer *mine = s->rows = malloc((size_t)s->n_row * sizeof *mine);
    if (!mine) return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    for (int l = 0; l < s->n_layer; l++)
        if (s->row[l] >= 0) mine[s->row[l]] = s->layers[l];
    int code = reattn__store_create(mine, s->n_row, p->type_k, p->type_v, (uint64_t)p->mem_limit, &s->store, err);
    if (code == REATTN_OK && s->policy->budget) reattn__store_movable(s->store);
    if (code == REATTN_OK && (s->policy->finite || s->policy->budget)) {
        s->turned = calloc((size_t)s->n_row, sizeof *s->turned);
        if (!s->turned) code = reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    }
    if (code == REATTN_OK && s->policy->create) code = s->policy->create(p, mine, s->n_row, &s->policy_state, err);
    return code;
}

static int create_engine(reattn_session *s, reattn_error *err)
{
    if (!s->layers)
        return reattn__fail(err, REATTN_E_ARG, "the model was loaded for --policy native only");
    int code = share_ropes(s, err);
    if (code == REATTN_OK) code = place_layers(s, err);
    if (code == REATTN_OK && s->n_row > 0) code = create_cpu(s, err);
    if (code == REATTN_OK && s->engine && s->policy->planner == REATTN__PLANS_FROM_LENGTHS && s->policy->create)
        code = s->policy->create(&s->params, s->layers, s->n_layer, &s->planner_state, err);
    if (code != REATTN_OK) return code;
    reattn__bridge_args args = {.chunk = s->params.chunk, .n_threads = s->params.n_threads, .fn = reattn__session_layer,
                                .user = s, .engine = s->engine, .device_fn = reattn__session_device_layer,
                                .device = s->device};
    code = reattn__bridge_create(s->model, &args, &s->bridge, err);
    return code == REATTN_OK && s->policy->budget ? reattn__distill_create(s, err) : code;
}

static int create_native(reattn_session *s, reattn_error *err)
{
    reattn_model_info info;
    reattn_model_get_info(s->model, &info);
    int64_t n_ctx = s->params.ctx_limit ? s->params.ctx_limit : info.n_ctx_train;
    /* libllama's flash attention rounds an f32 cache to f16; whoever asks for f32 wants it. */
    int flash = s->params.flash;
    if (flash == REATTN_FLASH_AUTO && s->params.type_k == REATTN_F32 && s->params.type_v == REATTN_F32)
        flash = REATTN_FLASH_OFF;
    return reattn__native_create(s->model, n_ctx, s->params.chunk, s->params.type_k, s->params.type_v, flash,
                                 s->params.n_threads, &s->native, err);
}

int reattn_session_create(reattn_model *model, const reattn_session_params *params, reattn_session **out,
                          reattn_error *err)
{
    reattn_session_params p = params ? *params : reattn_session_params_default();
    if (!model || !out) return reattn__fail(err, REATTN_E_ARG, "reattn_session_create: model and out must not be NULL");
    int code = reattn_session_params_resolve(&p, model, err);
    if (code != REATTN_OK) return code;
    reattn_session *s = calloc(1, sizeof *s);
    if (!s) return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    s->model = model;
    s->params = p;
    s->policy = reattn__policy_find(p.policy);
    s->layers = reattn__model_layers(model, &s->n_layer);
    s->logits_at = -1;
    atomic_init(&s->cancel, false);
    code = s->policy->native ? create_native(s, err) : create_engine(s, err);
    if (code != REATTN_OK) {
        reattn_session_free(s);
        return code;
    }
    *out = s;
    return REATTN_OK;
}

void reattn_session_free(reattn_session *s)
{
    if (!s) return;
    reattn__native_free(s->native);
    reattn__bridge_free(s->bridge);
    if (s->engine) reattn__device_engine()->free(s->engine);
    reattn__store_free(s->store);
    if (s->policy->destroy) {
        s->policy->destroy(s->policy_state);
        s->policy->destroy(s->planner_state);
    }
    reattn__distill_free(s);
    reattn__plan_free(&s->plan);
    for (int l = 0; s->turned && l < s->n_row; l++) reattn__turned_free(&s->turned[l]);
    free(s->turned);
    for (int i = 0; i < s->n_rope; i++) reattn__rope_table_free(&s->ropes[i]);
    for (int i = 0; i < REATTN__ATTEND_BUFFERS; i++) reattn__buffer_free(&s->attend_work[i]);
    reattn__buffer_free(&s->lse);
    reattn__buffer_free(&s->mass);
    free(s->ropes);
    free(s->rope_of);
    free(s->device);
    free(s->row);
    free(s->rows);
    free(s->tokens);
    free(s->shared_row);
    free(s);
}

static int grow_tokens(reattn_session *s, int64_t n, reattn_error *err)
{
    if (n <= s->cap) return REATTN_OK;
    int64_t cap = REATTN__MAX(n, 2 * s->cap);
    int32_t *tokens = realloc(s->tokens, (size_t)cap * sizeof *tokens);
    if (!tokens) return reattn__fail(err, REATTN_E_NOMEM, "out of memory for %lld tokens", (long long)cap);
    s->tokens = tokens;
    s->cap = cap;
    return REATTN_OK;
}

int reattn__session_check(const reattn_session *s, const int32_t *tokens, int64_t n, reattn_error *err)
{
    reattn_model_info info;
    reattn_model_get_info(s->model, &info);
    for (int64_t i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= info.n_vocab)
            return reattn__fail(err, REATTN_E_ARG, "token %lld is %d, the vocabulary has %d", (long long)i, tokens[i],
                                info.n_vocab);
    if (s->params.ctx_limit && s->n + n > s->params.ctx_limit)
        return reattn__fail(err, REATTN_E_LIMIT, "%lld tokens are more than the limit of %lld (-c)",
                            (long long)(s->n + n), (long long)s->params.ctx_limit);
    return REATTN_OK;
}

/* Puts everything back to n tokens. On an error nothing has changed. */
static int cut(reattn_session *s, int64_t n, reattn_error *err)
{
    int code = s->native ? reattn__native_rewind(s->native, n, err) : REATTN_OK;
    if (code != REATTN_OK) return code;
    s->n = n;
    s->logits_at = -1;
    if (s->anchored > n) s->anchored = n / s->params.chunk * s->params.chunk;
    if (s->native) return REATTN_OK;
    if (s->policy->budget) reattn__distill_cut(s, n);
    if (s->store) reattn__store_truncate(s->store, reattn__session_held(s));
    for (int l = 0; s->turned && l < s->n_row; l++) reattn__turned_forget(&s->turned[l]);
    if (s->policy_state && s->policy->forget) s->policy->forget(s->policy_state, n);
    if (s->planner_state && s->policy->forget) s->policy->forget(s->planner_state, n);
    return s->engine ? reattn__device_engine()->rewind(s->engine, n, err) : REATTN_OK;
}

int reattn__session_begin(reattn_session *s, const int32_t *tokens, int64_t T, bool decode, bool last, int64_t n_logits,
                          reattn_error *err)
{
    int code = grow_tokens(s, s->n + T, err);
    if (code == REATTN_OK && s->store) code = reattn__store_reserve(s->store, reattn__session_held(s) + T, err);
    if (code == REATTN_OK && s->engine) code = reattn__device_engine()->reserve(s->engine, s->n + T, err);
    if (code != REATTN_OK) return code;
    memcpy(s->tokens + s->n, tokens, (size_t)T * sizeof *tokens);
    s->n += T;
    s->decode = decode;
    s->last = last;
    s->want_logits = n_logits > 0;
    s->logits_at = -1;
    s->shared = false;
    return REATTN_OK;
}

int reattn__session_run(reattn_session *s, int64_t T, int64_t n_logits, reattn_error *err)
{
    const int32_t *tokens = s->tokens + s->n - T;
    /* Novelty is read off every token's logits. */
    return s->native ? reattn__native_run(s->native, tokens, T, n_logits, err)
                     : reattn__bridge_run(s->bridge, tokens, T, s->policy->budget ? T : n_logits, err);
}

int reattn__session_end(reattn_session *s, int64_t T, int64_t n_logits, int code, reattn_error *err)
{
    const int64_t before = s->n - T;
    if (code == REATTN_OK) code = reattn__session_device_end(s, err);
    if (code == REATTN_OK && atomic_load(&s->cancel))
        code = reattn__fail(err, REATTN_E_CANCELLED, "cancelled after %lld tokens", (long long)before);
    if (code == REATTN_OK && s->policy->budget) code = reattn__distill_read(s, s->tokens + before, T, s->decode, err);
    if (code != REATTN_OK) {
        s->n = before;
        cut(s, before, NULL);
        return code;
    }
    if (n_logits) s->logits_at = T - 1;
    return REATTN_OK;
}

/* Runs one chunk or one generated token; on failure the session holds what it held before. last: a prompt ends here. */
static int step(reattn_session *s, const int32_t *tokens, int64_t T, bool decode, bool last, int64_t n_logits,
                reattn_error *err)
{
    const int64_t before = s->n, whole = (before / s->params.chunk + 1) * s->params.chunk;
    /* Where a longer text would have been cut: at the next multiple of the chunk, or where the pot is full. */
    const int64_t cut_at = s->policy->budget ? REATTN__MIN(whole, before + reattn__distill_room(s)) : whole;
    int code = reattn__session_begin(s, tokens, T, decode, last, n_logits, err);
    if (code != REATTN_OK) return code;
    code = reattn__session_run(s, T, n_logits, err);
    code = reattn__session_end(s, T, n_logits, code, err);
    if (code != REATTN_OK) return code;
    if (!decode && n_logits) s->stats.scope_max = REATTN__MAX(s->stats.scope_max, reattn__session_device_scope(s));
    if (!decode && before == s->anchored && s->n == cut_at && !(last && s->policy->ends)) s->anchored = s->n;
    return REATTN_OK;
}

const float *reattn__session_row(const reattn_session *s, int64_t t)
{
    if (s->shared) return s->shared_row;
    return s->native ? reattn__native_logits(s->native, t) : reattn__bridge_logits(s->bridge, t);
}

int reattn_session_prompt(reattn_session *s, const int32_t *tokens, int64_t n, reattn_progress_fn progress, void *user,
                          reattn_error *err)
{
    if (!s || n < 1 || !tokens) return reattn__fail(err, REATTN_E_ARG, "reattn_session_prompt: no tokens");
    int code = reattn__session_check(s, tokens, n, err);
    if (code != REATTN_OK) return code;
    atomic_store(&s->cancel, false);
    double t0 = reattn__now_ms();
    int64_t start = s->n, end = start + n, tail = REATTN__MAX(start, end - s->params.tail), C = s->params.chunk;
    while (s->n < end && code == REATTN_OK) {
        int64_t at = s->n, next = at < tail ? REATTN__MIN((at / C + 1) * C, tail) : REATTN__MIN(end, at + C);
        if (s->params.tail == 0) next = REATTN__MIN((at / C + 1) * C, end);
        int64_t T = next - at;
        if (s->policy->budget) code = reattn__distill_make_room(s, at < tail ? 1 : T, &T, err);
        if (code == REATTN_OK)
            code = step(s, tokens + (at - start), T, false, at + T == end, at + T == end ? 1 : 0, err);
        if (code == REATTN_OK && progress && !progress(s->n - start, n, user) && s->n < end)
            code = reattn__fail(err, REATTN_E_CANCELLED, "cancelled after %lld of %lld tokens",
                                (long long)(s->n - start), (long long)n);
    }
    s->stats.prompt_tokens += s->n - start;
    s->stats.prompt_ms += reattn__now_ms() - t0;
    return code;
}

int reattn_session_score(reattn_session *s, const int32_t *tokens, int64_t n, reattn_score_fn fn, void *user,
                         reattn_error *err)
{
    if (!s || n < 1 || !tokens || !fn) return reattn__fail(err, REATTN_E_ARG, "reattn_session_score: no tokens");
    int code = reattn__session_check(s, tokens, n, err);
    if (code != REATTN_OK) return code;
    atomic_store(&s->cancel, false);
    double t0 = reattn__now_ms();
    int64_t start = s->n, end = start + n, C = s->params.chunk;
    while (s->n < end && code == REATTN_OK) {
        int64_t at = s->n, T = REATTN__MIN((at / C + 1) * C, end) - at;
        if (s->policy->budget) code = reattn__distill_make_room(s, 1, &T, err);
        if (code == REATTN_OK) code = step(s, tokens + (at - start), T, false, false, T, err);
        for (int64_t t = 0; t < T && code == REATTN_OK; t++)
            if (!fn(at + t, reattn__session_row(s, t), user))
                code = reattn__fail(err, REATTN_E_CANCELLED, "cancelled after %lld of %lld tokens",
                                    (long long)(s->n - start), (long long)n);
    }
    s->stats.prompt_tokens += s->n - start;
    s->stats.prompt_ms += reattn__now_ms() - t0;
    return code;
}

int reattn_session_decode(reattn_session *s, int32_t token, reattn_error *err)
{
    if (!s) return reattn__fail(err, REATTN_E_ARG, "reattn_session_decode: no session");
    int code = reattn__session_check(s, &token, 1, err);
    if (code != REATTN_OK) return code;
    atomic_store(&s->cancel, false);
    double t0 = reattn__now_ms();
    if (s->policy->budget) code = reattn__distill_make_room(s, 1, &(int64_t){1}, err);
    if (code == REATTN_OK) code = step(s, &token, 1, true, false, 1, err);
    s->stats.decode_ms += reattn__now_ms() - t0;
    if (code == REATTN_OK) s->stats.decode_tokens++;
    return code;
}

const float *reattn_session_logits(const reattn_session *s)
{
    return s->logits_at < 0 ? NULL : reattn__session_row(s, s->logits_at);
}

int64_t reattn_session_length(const reattn_session *s)
{
    return s->n;
}

const int32_t *reattn_session_tokens(const reattn_session *s)
{
    return s->tokens;
}

int64_t reattn_session_anchor(const reattn_session *s, int64_t n)
{
    int64_t C = s->params.chunk, at = REATTN__MAX(0, REATTN__MIN(n, s->anchored)) / C * C;
    for (int64_t can = -1; can != at; at = REATTN__MIN(at, can) / C * C) {
        can = s->policy->anchor ? s->policy->anchor(s->policy_state, at) : at;
        if (s->policy->budget) can = reattn__distill_anchor(s, can);
    }
    return at;
}

int reattn_session_rewind(reattn_session *s, int64_t n, reattn_error *err)
{
    if (n < 0 || n > s->n)
        return reattn__fail(err, REATTN_E_ARG, "cannot rewind to %lld: the session holds %lld tokens", (long long)n,
                            (long long)s->n);
    if (n > 0 && n < s->pot.floor)
        return reattn__fail(err, REATTN_E_UNSUPPORTED,
                            "cannot rewind to %lld: --policy %s dropped keys of the first %lld tokens; rewind to 0 and "
                            "read the text again",
                            (long long)n, s->params.policy, (long long)s->pot.floor);
    return cut(s, n, err);
}

void reattn_session_cancel(reattn_session *s)
{
    atomic_store_explicit(&s->cancel, true, memory_order_relaxed);
}

void reattn_session_set_trace(reattn_session *s, reattn_trace_fn fn, void *user)
{
    s->trace = fn;
    s->trace_user = user;
}

void reattn_session_get_stats(const reattn_session *s, reattn_stats *stats)
{
    *stats = s->stats;
    stats->store_bytes = s->store ? reattn__store_bytes(s->store) : 0;
    if (s->engine) {
        uint64_t far;
        stats->store_bytes += reattn__device_engine()->bytes(s->engine, &far);
        stats->store_bytes += far;
    }
    stats->scope_max = REATTN__MAX(stats->scope_max, reattn__session_device_scope(s));
}

void reattn_session_reset_stats(reattn_session *s)
{
    s->stats = (reattn_stats){0};
}

const reattn_session_params *reattn_session_get_params(const reattn_session *s)
{
    return &s->params;
}
