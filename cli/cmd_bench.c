/* cmd_bench.c - reattn bench e2e: prompt and decode speed of policies at growing depth.
 *
 * A policy has one session, or as many as --sessions asks for. Depths ascend, so each token is prefilled once: at a
 * depth a prompt and then single tokens are timed, the session is rewound to the depth, and filled on to the next
 * one. */
#include <bench/bench.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "interrupt.h"
#include "load.h"
#include "numbers.h"
#include "progress.h"
#include "report.h"
#include "unused.h"

enum { MAX_DEPTH = 1 << 30, MAX_POLICIES = 16, MAX_REPEATS = 100, MAX_SESSIONS = 64 };
enum { APART = 509 }; /* tokens between the beginnings of what sessions read */

/* What is measured: a policy, or the policy native with other settings than the options say. */
typedef struct entry {
    char name[32], policy[24];
    int flash, type_k, type_v;
} entry;

typedef struct bench {
    const options *opt;
    entry entries[2 * MAX_POLICIES];
    int n_entries;
    numbers depths;     /* ascending */
    numbers counts;     /* of --sessions, ascending */
    int most;           /* sessions of a policy */
    const char *source; /* what the tokens are */
    reattn_model *model;
    int32_t *tokens; /* [n_tokens] the text, repeated up to the deepest token that is needed */
    int64_t n_tokens;
    bench_report report;
} bench;

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

/* llama.cpp's other settings that can be had: it has no q8_0 values without flash attention. */
static void add_variants(bench *b)
{
    static const entry variants[] = {
        {"native-nofa-f16", "native", REATTN_FLASH_OFF, REATTN_F16, REATTN_F16},
        {"native-fa-q8_0", "native", REATTN_FLASH_ON, REATTN_Q8_0, REATTN_Q8_0},
        {"native-nofa-q8_0k", "native", REATTN_FLASH_OFF, REATTN_Q8_0, REATTN_F16},
    };
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++)
        b->entries[b->n_entries++] = variants[i];
}

static int read_policies(bench *b)
{
    const reattn_session_params *p = &b->opt->session;
    bool variants = b->opt->native_variants;
    for (const char *s = b->opt->policies; *s; s += *s == ',') {
        int len = (int)strcspn(s, ",");
        reattn_session_params check = *p;
        reattn_error err;
        if (b->n_entries >= MAX_POLICIES)
            return cli_fail(EXIT_USAGE, "--policy takes at most %d policies", MAX_POLICIES);
        entry *e = &b->entries[b->n_entries++];
        *e = (entry){.flash = p->flash, .type_k = p->type_k, .type_v = p->type_v};
        snprintf(e->name, sizeof e->name, "%.*s", len, s);
        if (reattn_option_set(&check, "policy", e->name, &err))
            return cli_fail_error(&err);
        snprintf(e->policy, sizeof e->policy, "%s", check.policy);
        if (load_is_native(e->policy) && variants) {
            add_variants(b);
            variants = false;
        }
        s += len;
    }
    if (variants)
        return cli_fail(EXIT_USAGE, "--native-variants needs native among the policies: --policy native,...");
    const char *policies[2 * MAX_POLICIES];
    for (int i = 0; i < b->n_entries; i++)
        policies[i] = b->entries[i].policy;
    unused_check(b->opt, policies, b->n_entries);
    return b->n_entries ? EXIT_DONE : cli_fail(EXIT_USAGE, "--policy needs at least one policy");
}

static int read_depths(bench *b)
{
    int rc = numbers_read("--depths", b->opt->depths, 0, MAX_DEPTH, &b->depths);
    numbers_sort(&b->depths);
    if (!rc && b->opt->sessions)
        rc = numbers_read("--sessions", b->opt->sessions, 1, MAX_SESSIONS, &b->counts);
    numbers_sort(&b->counts);
    b->most = b->counts.n ? (int)b->counts.v[b->counts.n - 1] : 1;
    return rc;
}

static int read_tokens(bench *b)
{
    const options *opt = b->opt;
    text source = {0};
    int64_t timed = opt->bench_prompt > opt->bench_predict ? opt->bench_prompt : opt->bench_predict;
    int64_t needed = b->depths.v[b->depths.n - 1] + timed + (b->most - 1) * APART, have = 0;
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

/* Of session i of a policy. */
static const int32_t *text_of(const bench *b, int i)
{
    return b->tokens + i * APART;
}

static int fill(const bench *b, reattn_session *s, int i, const char *name, int64_t depth)
{
    char label[64];
    reattn_error err;
    int64_t have = reattn_session_length(s), most = b->opt->synthetic;
    int64_t read = most && depth > most ? most : depth;
    int code = 0;
    if (have < read) {
        snprintf(label, sizeof label, "%s, filling", name);
        progress bar = progress_start(label, b->opt->quiet);
        code = reattn_session_prompt(s, text_of(b, i) + have, read - have, progress_step, &bar, &err);
        progress_clear();
        have = read;
    }
    if (!code && have < depth)
        code = bench_stretch(s, most, depth, 0.01f, &err);
    return check(code, &err);
}

/* n tokens at a depth, in milliseconds a token; then the session is as it was. */
static int time_steps(const bench *b, reattn_session *s, int64_t depth, bool decode, bench_time *time)
{
    reattn_error err;
    reattn_stats stats;
    int64_t n = decode ? b->opt->bench_predict : b->opt->bench_prompt;
    int code = 0;
    reattn_session_reset_stats(s);
    double start = clock_ms();
    if (!decode)
        code = reattn_session_prompt(s, b->tokens + depth, n, NULL, NULL, &err);
    for (int64_t i = 0; i < n && decode && !code && !interrupt_pending(); i++)
        code = reattn_session_decode(s, b->tokens[depth + i], &err);
    double ms = clock_ms() - start;
    reattn_session_get_stats(s, &stats);
    *time = (bench_time){ms / (double)n, stats.select_ms / (double)n, stats.attend_ms / (double)n,
                         stats.append_ms / (double)n, stats.device_ms / (double)n};
    return check(code ? code : reattn_session_rewind(s, depth, &err), &err);
}

/* The median of each part. */
static int measure_steps(const bench *b, reattn_session *s, int64_t depth, bool decode, bench_time *time)
{
    enum { PARTS = sizeof(bench_time) / sizeof(double) };
    double values[PARTS][MAX_REPEATS], middle[PARTS];
    int rc = EXIT_DONE;
    for (int64_t i = 0; i < b->opt->repeats && !rc; i++) {
        double parts[PARTS];
        rc = time_steps(b, s, depth, decode, time);
        memcpy(parts, time, sizeof parts);
        for (int p = 0; p < PARTS; p++)
            values[p][i] = parts[p];
    }
    for (int p = 0; p < PARTS && !rc; p++)
        middle[p] = median(values[p], b->opt->repeats);
    if (!rc)
        memcpy(time, middle, sizeof middle);
    return rc;
}

/* n tokens of each of several sessions at a depth, in milliseconds; then the sessions are as they were. */
static int time_many(const bench *b, reattn_session *const *s, int n, int64_t depth, bool together, double *ms)
{
    int32_t tokens[MAX_SESSIONS];
    reattn_error err;
    int code = 0;
    double start = clock_ms();
    for (int64_t t = 0; t < b->opt->bench_predict && !code && !interrupt_pending(); t++) {
        for (int i = 0; i < n; i++)
            tokens[i] = text_of(b, i)[depth + t];
        if (together)
            code = reattn_session_decode_many(s, tokens, n, NULL, &err);
        for (int i = 0; i < n && !together && !code; i++)
            code = reattn_session_decode(s[i], tokens[i], &err);
    }
    *ms = clock_ms() - start;
    for (int i = 0; i < n && !code; i++)
        code = reattn_session_rewind(s[i], depth, &err);
    return check(code, &err);
}

static int measure_many(bench *b, reattn_session *const *s, const entry *e, int64_t depth)
{
    int rc = EXIT_DONE;
    for (int i = 1; i < b->most && !rc; i++) {
        interrupt_watch(s[i]);
        rc = fill(b, s[i], i, e->name, depth);
    }
    interrupt_watch(s[0]);
    for (int c = 0; c < b->counts.n && !rc; c++) {
        double ms[2][MAX_REPEATS];
        const int n = (int)b->counts.v[c];
        for (int64_t r = 0; r < b->opt->repeats && !rc; r++)
            for (int together = 0; together < 2 && !rc; together++)
                rc = time_many(b, s, n, depth, together, &ms[together][r]);
        const double tokens = 1e3 * (double)(n * b->opt->bench_predict);
        if (!rc)
            b->report.many[b->report.n_many++] =
                (bench_many){.name = e->name,
                             .depth = depth,
                             .synthetic = b->opt->synthetic && depth > b->opt->synthetic,
                             .n_sessions = n,
                             .together = tokens / median(ms[1], b->opt->repeats),
                             .in_turn = tokens / median(ms[0], b->opt->repeats)};
    }
    return rc;
}

static int measure_depth(bench *b, reattn_session *s, const entry *e, int64_t depth)
{
    bench_row row = {.name = e->name,
                     .native = load_is_native(e->policy),
                     .depth = depth,
                     .synthetic = b->opt->synthetic && depth > b->opt->synthetic};
    int rc = fill(b, s, 0, e->name, depth);
    if (!rc)
        rc = measure_steps(b, s, depth, false, &row.prompt);
    if (!rc)
        rc = measure_steps(b, s, depth, true, &row.decode);
    if (rc)
        return rc;
    reattn_stats stats;
    reattn_session_get_stats(s, &stats);
    row.store_bytes = stats.store_bytes;
    b->report.rows[b->report.n_rows++] = row;
    return EXIT_DONE;
}

static int measure_entry(bench *b, const entry *e)
{
    options opt = *b->opt;
    reattn_session *s[MAX_SESSIONS] = {NULL};
    snprintf(opt.session.policy, sizeof opt.session.policy, "%s", e->policy);
    opt.session.flash = e->flash;
    opt.session.type_k = e->type_k;
    opt.session.type_v = e->type_v;
    int rc = EXIT_DONE;
    interrupt_note(); /* making and freeing sessions takes a while: what was measured before is not to be lost */
    for (int i = 0; i < b->most && !rc; i++)
        rc = load_session(&opt, b->model, b->n_tokens, &s[i]);
    if (!rc) {
        b->report.n_threads = reattn_session_get_params(s[0])->n_threads;
        interrupt_watch(s[0]);
        rc = check(REATTN_OK, NULL);
    }
    for (int i = 0; i < b->depths.n && !rc; i++) {
        rc = measure_depth(b, s[0], e, b->depths.v[i]);
        if (!rc && b->counts.n)
            rc = measure_many(b, s, e, b->depths.v[i]);
    }
    interrupt_note();
    for (int i = 0; i < b->most; i++)
        reattn_session_free(s[i]);
    return rc;
}

static int measure(bench *b)
{
    bool native_only = true;
    int rc = read_policies(b);
    for (int i = 0; i < b->n_entries; i++)
        native_only = native_only && load_is_native(b->entries[i].policy);
    if (!rc)
        rc = read_depths(b);
    if (!rc)
        rc = report_open(&b->report, b->opt);
    if (!rc)
        rc = load_model(b->opt, native_only, &b->model);
    if (!rc)
        rc = read_tokens(b);
    const size_t n_rows = (size_t)(b->n_entries * b->depths.n);
    if (!rc && !(b->report.rows = calloc(n_rows, sizeof *b->report.rows)))
        rc = cli_fail(EXIT_FAILED, "out of memory");
    if (!rc && b->counts.n && !(b->report.many = calloc(n_rows * (size_t)b->counts.n, sizeof *b->report.many)))
        rc = cli_fail(EXIT_FAILED, "out of memory");
    for (int i = 0; i < b->n_entries && !rc; i++)
        rc = measure_entry(b, &b->entries[i]);
    interrupt_watch(NULL);
    if (rc && !b->report.n_rows)
        return rc;
    /* After an interruption too: what was measured is worth having. */
    b->report.model = load_name(b->model);
    b->report.text = b->source;
    int printed = report_print(&b->report);
    return rc ? rc : printed;
}

int cmd_bench(const options *opt)
{
    bench b = {.opt = opt};
    int rc = measure(&b);
    if (b.report.csv)
        fclose(b.report.csv);
    free(b.report.rows);
    free(b.report.many);
    numbers_free(&b.depths);
    numbers_free(&b.counts);
    free(b.tokens);
    reattn_model_free(b.model);
    return rc;
}
