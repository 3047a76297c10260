/* cmd_kernels.c - reattn bench select and bench attend: reads the lists, loads what is asked for, calls bench/. */
#include <bench/bench.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load.h"
#include "numbers.h"

enum { MOST_TYPES = 32, MOST_KEYS = 1 << 30 };

typedef struct lists {
    numbers keys, queries;
    int types_k[MOST_TYPES], types_v[MOST_TYPES];
} lists;

/* Types separated by commas, as the engine's option takes them one by one. */
static int read_types(const char *option, const char *text, int *out, int *n)
{
    *n = 0;
    for (const char *s = text; *s; s += *s == ',') {
        char word[32];
        int len = (int)strcspn(s, ",");
        reattn_session_params params;
        reattn_error err;
        snprintf(word, sizeof word, "%.*s", len, s);
        if (reattn_option_set(&params, option, word, &err))
            return cli_fail_error(&err);
        if (*n == MOST_TYPES)
            return cli_fail(EXIT_USAGE, "--%s takes at most %d types", option, MOST_TYPES);
        out[(*n)++] = !strcmp(option, "cache-type-k") ? params.type_k : params.type_v;
        s += len;
    }
    return *n ? EXIT_DONE : cli_fail(EXIT_USAGE, "--%s needs at least one type", option);
}

static int read_lists(const options *opt, lists *l, bench_request *r)
{
    int n_v = 0;
    int rc = numbers_read("--keys", opt->keys, 1, MOST_KEYS, &l->keys);
    if (!rc)
        rc = numbers_read("--queries", opt->queries, 1, MOST_KEYS, &l->queries);
    if (!rc)
        rc = read_types("cache-type-k", opt->types_k, l->types_k, &r->n_types);
    if (!rc)
        rc = read_types("cache-type-v", opt->types_v, l->types_v, &n_v);
    for (int i = n_v; i < MOST_TYPES && !rc; i++)
        l->types_v[i] = l->types_v[n_v - 1];
    numbers_sort(&l->keys);
    numbers_sort(&l->queries);
    r->keys = l->keys.v;
    r->n_keys = l->keys.n;
    r->queries = l->queries.v;
    r->n_queries = l->queries.n;
    r->types_k = l->types_k;
    r->types_v = l->types_v;
    return rc;
}

static int load_text(const options *opt, reattn_model *model, int32_t **tokens, int64_t *n)
{
    text source = {0};
    int rc = load_files(opt, &source);
    if (!rc)
        rc = load_tokens(model, source.data ? source.data : "", source.len, true, tokens, n);
    text_free(&source);
    return rc;
}

static int measure(const options *opt, int (*bench)(const bench_request *, reattn_error *))
{
    lists l = {0};
    reattn_error err;
    reattn_model *model = NULL;
    int32_t *tokens = NULL;
    bench_request r = {.heads = (int)opt->heads,
                       .kv_heads = (int)opt->kv_heads,
                       .dim = (int)opt->head_dim,
                       .text = opt->n_files ? opt->files[0] : NULL,
                       .seed = (uint64_t)opt->data_seed,
                       .scope = opt->scope,
                       .top_k = (int)opt->hits,
                       .seeded = opt->seeded,
                       .check = opt->check,
                       .dump = opt->dump,
                       .cuda = !strcmp(opt->device, "cuda"),
                       .repeats = (int)opt->repeats,
                       .n_threads = (int)opt->threads,
                       .json = opt->json};
    int rc = read_lists(opt, &l, &r);
    if (!rc && !r.cuda && strcmp(opt->device, "cpu"))
        rc = cli_fail(EXIT_USAGE, "--device %s: it is cpu or cuda", opt->device);
    if (!rc && opt->n_files && !opt->model)
        rc = cli_fail(EXIT_USAGE, "-f needs a model whose keys for the text are taken: -m FILE");
    if (!rc && opt->model)
        rc = load_model(opt, false, &model);
    if (!rc && opt->n_files)
        rc = load_text(opt, model, &tokens, &r.n_tokens);
    r.model = model;
    r.tokens = tokens;
    if (!rc && bench(&r, &err))
        rc = cli_fail_error(&err);
    free(tokens);
    numbers_free(&l.keys);
    numbers_free(&l.queries);
    reattn_model_free(model);
    return rc;
}

int cmd_bench_select(const options *opt)
{
    return measure(opt, bench_select);
}

int cmd_bench_attend(const options *opt)
{
    return measure(opt, bench_attend);
}
