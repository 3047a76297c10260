/* cmd_bench.c - reattn bench e2e: prompt and decode speed of policies at growing depth.
 *
 * A policy has one session. Depths ascend, so each token is prefilled once: at a depth a prompt and then single tokens
 * are timed, the session is rewound to the depth, and filled on to the next one. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "generate.h"
#include "interrupt.h"
#include "load.h"
#include "numbers.h"
#include "progress.h"

enum { MAX_POLICIES = 16, MAX_DEPTHS = 64, MAX_REPEATS = 100 };

typedef struct row {
    const char *policy;
    int64_t depth;
    double prompt_rate, decode_rate;  /* tokens a second, median */
    double select_ms, attend_ms;      /* a token of decode, median */
    double prompt_ratio, decode_ratio; /* to native at this depth; 0 = not measured */
    uint64_t store_bytes;
} row;

typedef struct bench {
    const options *opt;
    char policies[MAX_POLICIES][24];
    int n_policies;
    int64_t depths[MAX_DEPTHS];
    int n_depths;
    const char *source; /* what the tokens are */
    reattn_model *model;
    int32_t *tokens; /* [n_tokens] the text, repeated up to the deepest token that is needed */
    int64_t n_tokens;
    row *rows; /* [n_rows] */
    int n_rows, n_threads;
} bench;

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int64_t n)
{
    qsort(values, (size_t)n, sizeof *values, by_value);
    return n % 2 ? values[n / 2] : 0.5 * (values[n / 2 - 1] + values[n / 2]);
}

/* ---------------------------------------------------------------------------------------------- input -------- */

static int read_policies(bench *b)
{
    for (const char *s = b->opt->policies; *s; s += *s == ',') {
        int len = (int)strcspn(s, ",");
        reattn_session_params check = b->opt->session;
        reattn_error err;
        if (b->n_policies == MAX_POLICIES)
            return cli_fail(EXIT_USAGE, "--policy takes at most %d policies", MAX_POLICIES);
        char *name = b->policies[b->n_policies++];
        snprintf(name, sizeof b->policies[0], "%.*s", len, s);
        if (reattn_option_set(&check, "policy", name, &err))
            return cli_fail_error(&err);
        s += len;
    }
    return b->n_policies ? EXIT_DONE : cli_fail(EXIT_USAGE, "--policy needs at least one policy");
}

static int read_depths(bench *b)
{
    return numbers_read("--depths", b->opt->depths, 0, b->depths, MAX_DEPTHS, &b->n_depths);
}

static int read_tokens(bench *b)
{
    const options *opt = b->opt;
    text source = {0};
    int64_t timed = opt->bench_prompt > opt->bench_predict ? opt->bench_prompt : opt->bench_predict;
    int64_t needed = b->depths[b->n_depths - 1] + timed, have = 0;
    int rc = load_files(opt, &source);
    b->source = opt->n_files ? opt->files[0] : "the built-in text, repeated";
    /* Without a file: the options' help texts, which every build has. */
    for (const arg *a = args_table; !opt->n_files && a->names && !rc; a++)
        if (!load_append_part(&source, a->help, strlen(a->help)))
            rc = cli_fail(EXIT_FAILED, "out of memory");
    if (!rc)
        rc = load_tokens(b->model, source.data, source.len, true, &b->tokens, &have);
    text_free(&source);
    if (rc)
        return rc;
    if (!have)
        return cli_fail(EXIT_FAILED, "%s: there is no text in it", b->source);
    if (have < needed) {
        int32_t *grown = realloc(b->tokens, (size_t)needed * sizeof *grown);
        if (!grown)
            return cli_fail(EXIT_FAILED, "out of memory");
        b->tokens = grown;
        for (int64_t i = have; i < needed; i++)
            grown[i] = grown[i - have];
    }
    b->n_tokens = needed;
    return EXIT_DONE;
}

/* -------------------------------------------------------------------------------------------- measure -------- */

static int check(int code, const reattn_error *err)
{
    if (interrupt_pending())
        return cli_fail(EXIT_INTERRUPTED, "interrupted");
    return code ? cli_fail(EXIT_FAILED, "%s", err->msg) : EXIT_DONE;
}

static int fill(const bench *b, reattn_session *s, const char *policy, int64_t depth)
{
    char label[64];
    reattn_error err;
    int64_t have = reattn_session_length(s);
    if (have == depth)
        return EXIT_DONE;
    snprintf(label, sizeof label, "%s, filling", policy);
    progress bar = progress_start(label, b->opt->quiet);
    int code = reattn_session_prompt(s, b->tokens + have, depth - have, progress_step, &bar, &err);
    progress_clear();
    return check(code, &err);
}

static int time_prompt(const bench *b, reattn_session *s, int64_t depth, double *ms)
{
    reattn_error err;
    double start = now_ms();
    int code = reattn_session_prompt(s, b->tokens + depth, b->opt->bench_prompt, NULL, NULL, &err);
    *ms = now_ms() - start;
    return check(code ? code : reattn_session_rewind(s, depth, &err), &err);
}

static int time_decode(const bench *b, reattn_session *s, int64_t depth, double *ms, double *select, double *attend)
{
    reattn_error err;
    reattn_stats stats;
    int code = 0;
    int64_t n = b->opt->bench_predict;
    reattn_session_reset_stats(s);
    double start = now_ms();
    for (int64_t i = 0; i < n && !code && !interrupt_pending(); i++)
        code = reattn_session_decode(s, b->tokens[depth + i], &err);
    *ms = now_ms() - start;
    reattn_session_get_stats(s, &stats);
    *select = stats.select_ms / (double)n;
    *attend = stats.attend_ms / (double)n;
    return check(code ? code : reattn_session_rewind(s, depth, &err), &err);
}

static int measure_depth(bench *b, reattn_session *s, const char *policy, int64_t depth)
{
    const options *opt = b->opt;
    double prompt[MAX_REPEATS], decode[MAX_REPEATS], select[MAX_REPEATS], attend[MAX_REPEATS];
    int rc = fill(b, s, policy, depth);
    for (int64_t i = 0; i < opt->repeats && !rc; i++)
        rc = time_prompt(b, s, depth, &prompt[i]);
    for (int64_t i = 0; i < opt->repeats && !rc; i++)
        rc = time_decode(b, s, depth, &decode[i], &select[i], &attend[i]);
    if (rc)
        return rc;
    reattn_stats stats;
    reattn_session_get_stats(s, &stats);
    b->rows[b->n_rows++] = (row){.policy = policy,
                                 .depth = depth,
                                 .prompt_rate = generate_rate(opt->bench_prompt, median(prompt, opt->repeats)),
                                 .decode_rate = generate_rate(opt->bench_predict, median(decode, opt->repeats)),
                                 .select_ms = median(select, opt->repeats),
                                 .attend_ms = median(attend, opt->repeats),
                                 .store_bytes = stats.store_bytes};
    return EXIT_DONE;
}

static int measure_policy(bench *b, const char *policy)
{
    options opt = *b->opt;
    reattn_session *s;
    snprintf(opt.session.policy, sizeof opt.session.policy, "%s", policy);
    int rc = load_session(&opt, b->model, b->n_tokens, &s);
    if (rc)
        return rc;
    b->n_threads = reattn_session_get_params(s)->n_threads;
    interrupt_watch(s);
    for (int i = 0; i < b->n_depths && !rc; i++)
        rc = measure_depth(b, s, policy, b->depths[i]);
    interrupt_watch(NULL);
    reattn_session_free(s);
    return rc;
}

static void compare(bench *b)
{
    for (row *r = b->rows; r < b->rows + b->n_rows; r++)
        for (const row *n = b->rows; n < b->rows + b->n_rows; n++)
            if (load_is_native(n->policy) && n->depth == r->depth) {
                r->prompt_ratio = n->prompt_rate > 0 ? r->prompt_rate / n->prompt_rate : 0;
                r->decode_ratio = n->decode_rate > 0 ? r->decode_rate / n->decode_rate : 0;
            }
}

/* --------------------------------------------------------------------------------------------- output -------- */

static void print_table(const bench *b)
{
    const options *opt = b->opt;
    printf("%s, %d threads, CPU level %s\n", load_name(b->model), b->n_threads, reattn_cpu_level());
    printf("text: %s; prompt %lld tokens, decode %lld tokens, median of %lld; \"x\" is the ratio to native\n\n",
           b->source, (long long)opt->bench_prompt, (long long)opt->bench_predict, (long long)opt->repeats);
    printf("policy         |    depth | prefill t/s |      x | decode t/s |      x | select ms/tok | attend ms/tok | "
           "store MiB\n");
    printf("---------------|---------:|------------:|-------:|-----------:|-------:|--------------:|--------------:|"
           "---------:\n");
    for (const row *r = b->rows; r < b->rows + b->n_rows; r++) {
        char prompt[16] = "-", decode[16] = "-";
        if (r->prompt_ratio > 0)
            snprintf(prompt, sizeof prompt, "%.2f", r->prompt_ratio);
        if (r->decode_ratio > 0)
            snprintf(decode, sizeof decode, "%.2f", r->decode_ratio);
        printf("%-14s | %8lld | %11.1f | %6s | %10.1f | %6s | %13.2f | %13.2f | %9.1f\n", r->policy,
               (long long)r->depth, r->prompt_rate, prompt, r->decode_rate, decode, r->select_ms, r->attend_ms,
               (double)r->store_bytes / (1 << 20));
    }
}

static json_t *ratio(double x)
{
    return x > 0 ? json_real(x) : json_null();
}

static int print_json(const bench *b)
{
    const options *opt = b->opt;
    json_t *rows = json_array();
    for (const row *r = b->rows; r < b->rows + b->n_rows; r++)
        json_array_append_new(
            rows, json_pack("{s:s, s:I, s:f, s:o, s:f, s:o, s:f, s:f, s:I}", "policy", r->policy, "depth",
                            (json_int_t)r->depth, "prompt_per_second", r->prompt_rate, "prompt_ratio",
                            ratio(r->prompt_ratio), "predicted_per_second", r->decode_rate, "predicted_ratio",
                            ratio(r->decode_ratio), "select_ms", r->select_ms, "attend_ms", r->attend_ms, "store_bytes",
                            (json_int_t)r->store_bytes));
    json_t *object = json_pack("{s:s, s:s, s:i, s:s, s:I, s:I, s:I, s:o}", "model", load_name(b->model), "cpu_level",
                               reattn_cpu_level(), "threads", b->n_threads, "text", b->source, "prompt_tokens",
                               (json_int_t)opt->bench_prompt, "predicted_tokens", (json_int_t)opt->bench_predict,
                               "repeats", (json_int_t)opt->repeats, "rows", rows);
    int failed = !object || json_dumpf(object, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) || putchar('\n') == EOF;
    json_decref(object);
    return failed ? cli_fail(EXIT_FAILED, "the JSON object could not be written") : EXIT_DONE;
}

static int measure(bench *b)
{
    bool native_only = true;
    int rc = read_policies(b);
    for (int i = 0; i < b->n_policies; i++)
        native_only = native_only && load_is_native(b->policies[i]);
    if (!rc)
        rc = read_depths(b);
    if (!rc)
        rc = load_model(b->opt, native_only, &b->model);
    if (!rc)
        rc = read_tokens(b);
    if (!rc && !(b->rows = calloc((size_t)(b->n_policies * b->n_depths), sizeof *b->rows)))
        rc = cli_fail(EXIT_FAILED, "out of memory");
    for (int i = 0; i < b->n_policies && !rc; i++)
        rc = measure_policy(b, b->policies[i]);
    if (rc && !b->n_rows)
        return rc;
    /* After an interruption too: what was measured is worth having. */
    compare(b);
    int printed = b->opt->json ? print_json(b) : (print_table(b), EXIT_DONE);
    return rc ? rc : printed;
}

int cmd_bench(const options *opt)
{
    bench b = {.opt = opt};
    int rc = measure(&b);
    free(b.rows);
    free(b.tokens);
    reattn_model_free(b.model);
    return rc;
}
