/* eval.c - see eval.h. */
#include "eval.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "configs.h"
#include "load.h"

/* With --url there is one configuration, and it is the server's. */
static int start_server(eval *e)
{
    const options *opt = e->opt;
    if (opt->model || opt->eval.policies || opt->eval.configs.n || opt->eval.chat)
        return cli_fail(EXIT_USAGE,
                        "%s is not for --url: the server has its own model and settings, and the text is sent as it is",
                        opt->model           ? "-m"
                        : opt->eval.policies ? "--policy"
                        : opt->eval.chat     ? "--chat"
                                             : "--config");
    int rc = server_open(opt->eval.url, opt->eval.api_key, &e->server);
    if (!rc && !server_counts(e->server))
        cli_note("the server cannot count tokens (/tokenize): a token is taken to have 4 bytes");
    return rc ? rc : configs_server(opt, &e->configs, &e->n_configs);
}

static const char *model_name(const eval *e)
{
    return e->server ? server_model(e->server) : load_name(e->model);
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Models are told apart by the names of their files. */
static int check_models(const options *opt)
{
    const arg_list *m = &opt->models;
    for (int i = 0; i < m->n; i++)
        for (int k = 0; k < i; k++)
            if (!strcmp(base_name(m->items[i]), base_name(m->items[k])))
                return cli_fail(EXIT_USAGE, "two models are named %s: results tell them apart by their files' names",
                                base_name(m->items[i]));
    return EXIT_DONE;
}

static int start_model(eval *e)
{
    bool native_only = true;
    options opt = *e->opt;
    if (opt.models.n)
        opt.model = opt.models.items[e->model_at];
    for (int i = 0; i < e->n_configs; i++)
        native_only = native_only && load_is_native(e->configs[i].opt.session.policy);
    int rc = load_model(&opt, native_only && !opt.eval.kl, &e->model);
    return rc ? rc : configs_resolve(e->configs, e->n_configs, e->model);
}

int eval_start(eval *e, const options *opt, const char *task)
{
    e->opt = opt;
    e->task = task;
    if (opt->eval.url)
        return start_server(e);
    int rc = configs_read(opt, &e->configs, &e->n_configs);
    if (!rc)
        rc = check_models(opt);
    if (!rc && opt->template_file)
        rc = opt->eval.chat ? text_read(&e->template, opt->template_file)
                            : cli_fail(EXIT_USAGE, "--chat-template-file needs --chat");
    return rc ? rc : start_model(e);
}

int eval_next_model(eval *e, bool *more)
{
    *more = e->model_at + 1 < e->opt->models.n;
    if (!*more)
        return EXIT_DONE;
    reattn_model_free(e->model);
    e->model = NULL;
    e->model_at++;
    e->done = e->total = e->cases_left = 0;
    return start_model(e);
}

int eval_refuse(eval *e, const config *c, const reattn_error *err)
{
    if (!e->tolerant)
        return cli_fail(EXIT_FAILED, "%s: %s", c->name, err->msg);
    snprintf(e->refused, sizeof e->refused, "%s", err->msg);
    return EVAL_REFUSED;
}

void eval_end(eval *e)
{
    results_close(e->results);
    configs_free(e->configs, e->n_configs);
    text_free(&e->template);
    server_close(e->server);
    reattn_model_free(e->model);
}

static uint64_t model_bytes(const eval *e)
{
    reattn_model_info info;
    reattn_model_get_info(e->model, &info);
    return info.file_bytes;
}

json_t *eval_settings(const eval *e)
{
    reattn_model_info info;
    if (e->server)
        return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "record", "settings", "task", e->task, "version",
                         REATTN_VERSION, "model", server_model(e->server), "tokens",
                         server_counts(e->server) ? "counted" : "estimated", "prompt", "raw");
    if (e->opt->models.n)
        return json_pack("{s:s, s:s, s:s, s:s}", "record", "settings", "task", e->task, "version", REATTN_VERSION,
                         "prompt", e->opt->eval.chat ? "chat" : "raw");
    reattn_model_get_info(e->model, &info);
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:s}", "record", "settings", "task", e->task, "version", REATTN_VERSION,
                     "model", load_name(e->model), "model_bytes", (json_int_t)info.file_bytes, "prompt",
                     e->opt->eval.chat ? "chat" : "raw");
}

json_t *eval_case(const eval *e, const config *c, const char *id)
{
    json_t *one = json_pack("{s:s, s:s, s:s, s:s, s:O, s:s}", "record", "case", "id", id, "task", e->task, "config",
                            c->name, "options", c->options, "model", model_name(e));
    if (one && e->opt->models.n)
        json_object_set_new(one, "model_bytes", json_integer((json_int_t)model_bytes(e)));
    return one;
}

void eval_id(const eval *e, const config *c, const char *name, char *buf, size_t cap)
{
    if (e->opt->models.n)
        snprintf(buf, cap, "%s/%s/%s/%s", e->task, model_name(e), c->name, name);
    else
        snprintf(buf, cap, "%s/%s/%s", e->task, c->name, name);
}

int eval_has(const eval *e, const config *c, const char *id, bool *has)
{
    int rc = results_has(e->results, id, c->options, has);
    const json_t *bytes = rc || !*has ? NULL : json_object_get(results_find(e->results, id), "model_bytes");
    if (!bytes || (uint64_t)json_integer_value(bytes) == model_bytes(e))
        return rc;
    return cli_fail(EXIT_USAGE, "%s was asked of another model named %s: choose another --out", id, model_name(e));
}

int eval_open_results(eval *e, json_t *settings)
{
    return results_open(e->opt->out, settings, e->opt->eval.timings, &e->results);
}

int eval_plan(eval *e, const config *c, const char *id, int64_t tokens)
{
    bool has;
    int rc = eval_has(e, c, id, &has);
    if (!rc && !has) {
        e->total += tokens;
        e->cases_left++;
    }
    return rc;
}

void eval_run(eval *e)
{
    e->bar = progress_start(e->task, e->opt->quiet);
    size_t there = json_array_size(results_cases(e->results));
    if (!e->opt->quiet && e->opt->models.n > 1)
        cli_note("%s: %d cases to run, %zu of all models are there already", model_name(e), e->cases_left, there);
    else if (!e->opt->quiet)
        cli_note("%d cases to run, %zu are there already", e->cases_left, there);
}

int eval_interrupted(const eval *e)
{
    size_t there = json_array_size(results_cases(e->results));
    if (e->opt->out)
        return cli_fail(EXIT_INTERRUPTED, "interrupted; %zu cases are in %s, and the same command goes on", there,
                        e->opt->out);
    return cli_fail(EXIT_INTERRUPTED, "interrupted after %zu cases; with --out a run can be continued", there);
}

int eval_read_haystacks(const options *opt, haystack **out, int *n)
{
    const char *typed = opt->eval.haystack;
    int most = 1, rc = EXIT_DONE;
    for (const char *s = typed; *s; s++)
        most += *s == ',';
    haystack *list = calloc((size_t)most, sizeof *list);
    if (!list)
        return cli_fail(EXIT_FAILED, "out of memory");
    *out = list;
    *n = 0;
    for (const char *s = typed; *s && !rc;) {
        char name[4096];
        size_t len = strcspn(s, ",");
        snprintf(name, sizeof name, "%.*s", (int)len, s);
        rc = haystack_load(name, &list[(*n)++]);
        s += len + (s[len] == ',');
    }
    return rc || *n ? rc : cli_fail(EXIT_USAGE, "--haystack needs at least one text");
}

void eval_free_haystacks(haystack *list, int n)
{
    for (int i = 0; i < n; i++)
        haystack_free(&list[i]);
    free(list);
}

/* N stands for 1 .. N. */
int eval_read_seeds(const options *opt, numbers *out)
{
    enum { MOST = 1000000 };
    char range[32];
    int rc = numbers_read("--seeds", opt->eval.seeds, 1, MOST, out);
    if (rc || strpbrk(opt->eval.seeds, ",:"))
        return rc;
    snprintf(range, sizeof range, "1:%lld", (long long)out->v[0]);
    numbers_free(out);
    return numbers_read("--seeds", range, 1, MOST, out);
}

bool eval_progress(int64_t done, int64_t total, void *user)
{
    eval *e = user;
    (void)total; /* of the text at hand */
    return progress_step(e->done + done, e->total > e->done + done ? e->total : e->done + done + 1, &e->bar);
}

/* The value of {name}, which is n bytes long; NULL if there is none of that name. */
static const char *value_of(va_list pairs, const char *name, size_t n)
{
    for (const char *key; (key = va_arg(pairs, const char *));) {
        const char *value = va_arg(pairs, const char *);
        if (strlen(key) == n && !memcmp(key, name, n))
            return value;
    }
    return NULL;
}

bool eval_fill(text *out, const char *template, ...)
{
    bool fine = true;
    while (*template && fine) {
        size_t plain = strcspn(template, "{"), name = strcspn(template + plain, "}");
        const char *value = NULL;
        if (template[plain] && template[plain + name]) {
            va_list pairs;
            va_start(pairs, template);
            value = value_of(pairs, template + plain + 1, name - 1);
            va_end(pairs);
        }
        if (!value && template[plain]) /* a brace that is one */
            plain++;
        fine = text_append(out, template, plain) && (!value || text_append(out, value, strlen(value)));
        template += plain + (value ? name + 1 : 0);
    }
    return fine;
}

int eval_wrap(const eval *e, const char *body, const char *lead, bool plain, text *out)
{
    out->len = 0;
    char *formatted = NULL;
    reattn_error err;
    const reattn_message message = {"user", body};
    if (e->opt->eval.chat && !plain &&
        reattn_chat_format(e->model, e->template.data, &message, 1, true, &formatted, &err))
        return cli_fail(EXIT_FAILED, "%s", err.msg);
    const char *sent = formatted ? formatted : body;
    bool fine = text_append(out, sent, strlen(sent)) && (!lead || text_append(out, lead, strlen(lead)));
    reattn_free(formatted);
    return fine ? EXIT_DONE : cli_fail(EXIT_FAILED, "out of memory");
}

int eval_count(const eval *e, const char *sent, size_t n, int64_t *count)
{
    int32_t *tokens;
    if (e->server)
        return server_count(e->server, sent, n, count);
    int rc = load_tokens(e->model, sent, n, true, &tokens, count);
    if (!rc)
        free(tokens);
    return rc;
}
