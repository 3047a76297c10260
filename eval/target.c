/* target.c - see target.h. */
#include "target.h"

#include <stdlib.h>

#include "clock.h"
#include "generate.h"
#include "interrupt.h"
#include "load.h"

struct target {
    eval *eval;
    const config *config;
    reattn_session *session;
    reattn_sampler *sampler;
    text prompt; /* with a server: what is to be sent */
};

int target_open(eval *e, const config *c, int64_t room, target **out)
{
    target *t = calloc(1, sizeof *t);
    reattn_sampler_params greedy = reattn_sampler_params_default();
    reattn_error err;
    greedy.temp = 0;
    if (!t)
        return cli_fail(EXIT_FAILED, "out of memory");
    t->eval = e;
    t->config = c;
    *out = t;
    if (e->server)
        return EXIT_DONE;
    int rc = load_try_session(&c->opt, e->model, room, &t->session, &err) ? eval_refuse(e, c, &err) : EXIT_DONE;
    if (!rc)
        rc = load_catalyst(&c->opt, e->model, t->session);
    if (!rc && reattn_sampler_create(e->model, &greedy, &t->sampler, &err))
        rc = cli_fail(EXIT_FAILED, "%s", err.msg);
    if (rc) {
        target_close(t);
        *out = NULL;
        return rc;
    }
    interrupt_watch(t->session);
    return EXIT_DONE;
}

void target_close(target *t)
{
    if (!t)
        return;
    interrupt_watch(NULL);
    reattn_sampler_free(t->sampler);
    reattn_session_free(t->session);
    text_free(&t->prompt);
    free(t);
}

reattn_session *target_session(target *t)
{
    return t->session;
}

/* Goes back to the last chunk boundary up to which the session holds the same tokens as a fresh one would. */
static int go_back(target *t, const int32_t *tokens, int64_t n, int64_t *kept)
{
    const int32_t *held = reattn_session_tokens(t->session);
    int64_t same = 0, most = reattn_session_length(t->session);
    reattn_error err;
    if (most > n - 1) /* the last token has to be read, for its logits */
        most = n - 1;
    while (same < most && held[same] == tokens[same])
        same++;
    *kept = reattn_session_anchor(t->session, same);
    return reattn_session_rewind(t->session, *kept, &err) ? cli_fail(EXIT_FAILED, "%s", err.msg) : EXIT_DONE;
}

int target_read(target *t, const char *prompt, size_t n, reply *out)
{
    int32_t *tokens;
    int64_t kept;
    reattn_error err;
    if (t->eval->server) {
        t->prompt.len = 0;
        return text_append(&t->prompt, prompt, n) ? EXIT_DONE : cli_fail(EXIT_FAILED, "out of memory");
    }
    int rc = load_tokens(t->eval->model, prompt, n, true, &tokens, &out->prompt_tokens);
    if (rc)
        return rc;
    double start = clock_ms();
    reattn_session_reset_stats(t->session);
    rc = go_back(t, tokens, out->prompt_tokens, &kept);
    if (!rc) {
        int code =
            reattn_session_prompt(t->session, tokens + kept, out->prompt_tokens - kept, eval_progress, t->eval, &err);
        t->eval->done += out->prompt_tokens - kept;
        if (code == REATTN_E_CANCELLED || interrupt_pending())
            rc = EXIT_INTERRUPTED;
        else if (code)
            rc = eval_refuse(t->eval, t->config, &err);
    }
    out->ms = clock_ms() - start;
    free(tokens);
    return rc;
}

static int ask_server(target *t, int64_t limit, reply *out)
{
    eval *e = t->eval;
    double start = clock_ms();
    int rc = text_append(&out->answer, "", 0) ? server_complete(e->server, t->prompt.data, t->prompt.len, limit,
                                                                &out->answer, &out->prompt_tokens, &out->tokens)
                                              : cli_fail(EXIT_FAILED, "out of memory");
    if (!rc && out->prompt_tokens < 0)
        rc = server_count(e->server, t->prompt.data, t->prompt.len, &out->prompt_tokens);
    out->ms = clock_ms() - start;
    e->done += out->prompt_tokens;
    progress_step(e->done, e->total > e->done ? e->total : e->done + 1, &e->bar);
    return rc;
}

int target_answer(target *t, int64_t limit, reply *out)
{
    if (t->eval->server)
        return ask_server(t, limit, out);
    answer a = {0};
    double start = clock_ms();
    int rc = generate_answer(t->eval->model, t->session, t->sampler, limit, false, false, NULL, &a);
    text_free(&out->answer);
    out->answer = a.text;
    out->tokens = a.tokens;
    out->ms += clock_ms() - start;
    return !rc && interrupt_pending() ? EXIT_INTERRUPTED : rc;
}

void target_bytes(const reattn_model *model, const reattn_session *session, json_t *record)
{
    reattn_stats s;
    reattn_memory memory;
    reattn_error err;
    reattn_session_get_stats(session, &s);
    /* Under the policy native the cache is libllama's: what so many tokens take in it. */
    if (!s.store_bytes && !reattn_session_memory(model, reattn_session_get_params(session),
                                                 reattn_session_length(session), &memory, &err))
        s.store_bytes = memory.store_bytes;
    json_object_set_new(record, "store_bytes", json_integer((json_int_t)s.store_bytes));
}

void target_timings(int64_t read_tokens, double read_ms, int64_t decode_tokens, double decode_ms, json_t *record)
{
    json_object_set_new(record, "timings",
                        json_pack("{s:I, s:f, s:I, s:f}", "read_tokens", (json_int_t)read_tokens, "read_ms", read_ms,
                                  "decode_tokens", (json_int_t)decode_tokens, "decode_ms", decode_ms));
}

void target_measure(const target *t, json_t *record)
{
    reattn_stats s;
    reattn_session_get_stats(t->session, &s);
    target_timings(s.prompt_tokens, s.prompt_ms, s.decode_tokens, s.decode_ms, record);
    target_bytes(t->eval->model, t->session, record);
}
