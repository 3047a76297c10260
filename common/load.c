/* load.c - see load.h. */
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool load_is_native(const char *policy)
{
    return !strcmp(policy, "native");
}

const char *load_name(const reattn_model *model)
{
    reattn_model_info info;
    reattn_model_get_info(model, &info);
    const char *slash = strrchr(info.path, '/');
    return slash ? slash + 1 : info.path;
}

int load_model(const options *opt, bool native, reattn_model **out)
{
    reattn_model_params params = reattn_model_params_default();
    reattn_error err;
    params.n_gpu_layers = (int)opt->gpu_layers;
    params.n_threads = opt->session.n_threads;
    int rc = native ? reattn_model_load_native(opt->model, &params, out, &err)
                    : reattn_model_load(opt->model, &params, out, &err);
    return rc ? cli_fail(EXIT_FAILED, "%s", err.msg) : EXIT_DONE;
}

int load_catalyst(const options *opt, const reattn_model *model, reattn_session *session)
{
    int32_t *tokens;
    int64_t n;
    reattn_error err;
    if (!opt->catalyst || !reattn_policy_drops(opt->session.policy))
        return EXIT_DONE;
    int rc = text_check("the text of --catalyst", opt->catalyst, strlen(opt->catalyst));
    if (!rc)
        rc = load_tokens(model, opt->catalyst, strlen(opt->catalyst), false, &tokens, &n);
    if (rc)
        return rc;
    if (reattn_session_set_catalyst(session, tokens, n, &err))
        rc = cli_fail_error(&err);
    free(tokens);
    return rc;
}

int load_try_session(const options *opt, reattn_model *model, int64_t room, reattn_session **out, reattn_error *err)
{
    reattn_session_params params = opt->session;
    reattn_model_info info;
    reattn_model_get_info(model, &info);
    if (load_is_native(params.policy) && !params.ctx_limit && room > info.n_ctx_train)
        params.ctx_limit = room;
    int code = reattn_session_params_resolve(&params, model, err);
    return code ? code : reattn_session_create(model, &params, out, err);
}

int load_session(const options *opt, reattn_model *model, int64_t room, reattn_session **out)
{
    reattn_error err;
    if (load_try_session(opt, model, room, out, &err))
        return cli_fail_error(&err);
    return load_catalyst(opt, model, *out);
}

int load_sampler(const options *opt, const reattn_model *model, reattn_sampler **out)
{
    reattn_sampler_params params = args_sampler(opt);
    reattn_error err;
    text grammar = {0};
    int rc = opt->grammar_file ? text_read(&grammar, opt->grammar_file) : EXIT_DONE;
    params.grammar = grammar.data;
    if (!rc && reattn_sampler_create(model, &params, out, &err))
        rc = cli_fail(EXIT_FAILED, "%s%s%s", opt->grammar_file ? opt->grammar_file : "", opt->grammar_file ? ": " : "",
                      err.msg);
    text_free(&grammar);
    return rc;
}

bool load_append_part(text *t, const char *next, size_t n)
{
    if (t->len) {
        while (t->len && t->data[t->len - 1] == '\n')
            t->len--;
        if (!text_append(t, "\n\n", 2))
            return false;
    }
    return text_append(t, next, n);
}

int load_files(const options *opt, text *out)
{
    int rc = EXIT_DONE;
    for (int i = 0; i < opt->n_files && !rc; i++) {
        text file = {0};
        rc = text_read(&file, opt->files[i]);
        if (!rc && !load_append_part(out, file.data ? file.data : "", file.len))
            rc = cli_fail(EXIT_FAILED, "out of memory");
        text_free(&file);
    }
    return rc;
}

int load_tokens(const reattn_model *model, const char *text, size_t n, bool add_special, int32_t **tokens,
                int64_t *count)
{
    int64_t cap = (int64_t)n / 3 + 64;
    reattn_error err;
    for (*tokens = NULL;;) {
        int32_t *grown = realloc(*tokens, (size_t)cap * sizeof **tokens);
        if (!grown) {
            free(*tokens);
            return cli_fail(EXIT_FAILED, "out of memory");
        }
        *tokens = grown;
        *count = reattn_tokenize(model, text, n, add_special, true, *tokens, cap, &err);
        if (*count < 0) {
            free(*tokens);
            return cli_fail(EXIT_FAILED, "%s", err.msg);
        }
        if (*count <= cap)
            return EXIT_DONE;
        cap = *count;
    }
}

void load_bytes_text(uint64_t bytes, char *buf, size_t cap)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes;
    int u = 0;
    for (; v >= 1024 && u < 4; u++)
        v /= 1024;
    snprintf(buf, cap, u && v < 100 ? "%.1f %s" : "%.0f %s", v, units[u]);
}

void load_scope_text(const reattn_session_params *p, char *buf, size_t cap)
{
    const long long trained = p->ctx_train;
    if (reattn_policy_drops(p->policy)) {
        snprintf(buf, cap, "at most %lld tokens held of %lld, %lld stay when it is full", (long long)p->pot, trained,
                 (long long)p->pot_keep);
        return;
    }
    if (!strcmp(p->policy, "reattention") || !strcmp(p->policy, "infllm")) {
        snprintf(buf, cap, "scope %lld + %lld x %lld + %lld = %lld of %lld", (long long)p->keep,
                 (long long)p->recall_max, (long long)p->recall_span, (long long)p->local,
                 (long long)(p->keep + p->recall_max * p->recall_span + p->local), trained);
        return;
    }
    const reattn_policy_info *info = reattn_policy_list();
    while (info->name && strcmp(info->name, p->policy))
        info++;
    snprintf(buf, cap, "%s", info->name ? info->rule : "");
}

int load_announce(const reattn_model *model, const reattn_session_params *params)
{
    reattn_memory memory;
    reattn_error err;
    char scope[160], bytes[32], type_k[16], type_v[16];
    if (reattn_session_memory(model, params, 1000, &memory, &err))
        return cli_fail_error(&err);
    load_scope_text(params, scope, sizeof scope);
    load_bytes_text(memory.bytes_per_1000 + memory.device_bytes_per_1000, bytes, sizeof bytes);
    reattn_option_get(params, "cache-type-k", type_k, sizeof type_k);
    reattn_option_get(params, "cache-type-v", type_v, sizeof type_v);
    cli_note("%s | %s: %s | chunk %lld | store %s%s%s, %s per 1000 tokens", load_name(model), params->policy, scope,
             (long long)params->chunk, type_k, strcmp(type_k, type_v) ? "/" : "", strcmp(type_k, type_v) ? type_v : "",
             bytes);
    return EXIT_DONE;
}
