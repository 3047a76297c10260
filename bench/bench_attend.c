/* bench_attend.c - reattn bench attend: attention over a scope, against the machine's roofs and against the law.
 *
 * The scope is that of a session: the first tokens, spans, the last tokens. Each call is on another layer, with spans
 * of its own, than the one before. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attend/turned.h"
#include "base/base.h"
#include "cpu/ref.h"
#include "data.h"
#include "kv/row.h"
#include "measure.h"
#include "policy/policy.h"
#include "roof.h"

enum { SAMPLES = 4, SPANS = 127 };

/* Far above rounding in f32, or, for split keys, twice that of a weight to half precision; far below any other mistake. */
static double tolerance_of(const char *type)
{
    return strncmp(type, "split", 5) == 0 ? 0x1p-10 : 1e-4;
}

typedef struct row {
    int64_t keys, queries;
    char type[24];
    int n_layer;
    double ms;
    double key_bytes;             /* of K and V of a KV head */
    double bytes_rate, flop_rate; /* a second */
    double error;                 /* largest |out - law| / |law| of a query */
    size_t scratch;
} row;

typedef struct bench {
    const bench_request *r;
    bench_data *data;
    const reattn__layer *shape;
    bench_roof roof;
    reattn__rope_table rope;
    reattn_session_params scope; /* keep, recall_span, recall_max, local */
    row *rows;
    int n_rows;

    /* The line at hand. */
    reattn__store *store;
    int n_layer;
    int64_t keys, T;
    float *q, *out;      /* [n_layer][T][H][D], [T][H][Dv] */
    reattn__plan *plans; /* [n_layer] */
    reattn_span *spans;  /* [n_layer][SPANS] */
    reattn__turned *turned; /* [n_layer] rotated keys, kept from call to call as a session keeps them from step to step */
    reattn__buffer work[REATTN__ATTEND_BUFFERS];
} bench;

static int attend(bench *b, int layer, reattn_error *err)
{
    const reattn__layer *s = b->shape;
    reattn__attend_args args = {
        .q = b->q + layer * b->T * s->H * s->D,
        .T = b->T,
        .q_first = b->keys - b->T,
        .H = s->H,
        .src = {.store = b->store, .layer = layer, .Hk = s->Hk, .D = s->D, .Dv = s->Dv},
        .scale = s->kq_scale,
        .rope = &b->rope,
        .turned = &b->turned[layer],
        .lists = b->plans[layer].lists,
        .n_list = 1,
        .n_threads = b->r->n_threads,
        .out = b->out,
        .work = b->work,
    };
    return reattn__attend(&args, err);
}

/* ----------------------------------------------------------------------------------------------- law --------- */

typedef struct law {
    const bench *b;
    int layer;
    float *k, *v; /* [keys][Hk][D], [keys][Hk][Dv] */
    double error[SAMPLES];
} law;

/* One sampled query. */
static int law_task(void *ctx, int64_t task, int worker)
{
    law *l = ctx;
    const bench *b = l->b;
    const reattn__layer *s = b->shape;
    const reattn__run_list *list = b->plans[l->layer].lists;
    const int64_t t = task * (b->T - 1) / (SAMPLES - 1), n_out = (int64_t)s->H * s->Dv;
    reattn_run *runs = malloc((size_t)list->n * sizeof *runs);
    double *want = malloc((size_t)n_out * sizeof *want), diff = 0, norm = 0;
    int code = runs && want ? REATTN_OK : REATTN_E_NOMEM;
    (void)worker;
    for (int64_t i = 0; i < list->n && code == REATTN_OK; i++) {
        runs[i] = list->runs[i];
        runs[i].q_pos += t * runs[i].q_step;
    }
    if (code == REATTN_OK)
        code = reattn__ref_attend(b->q + (l->layer * b->T + t) * s->H * s->D, l->k, l->v, 1, b->keys - b->T + t,
                                  b->keys, s->H, s->Hk, s->D, s->Dv, s->kq_scale, &s->rope, runs, list->n, want, NULL);
    for (int64_t i = 0; i < n_out && code == REATTN_OK; i++) {
        double d = (double)b->out[t * n_out + i] - want[i];
        diff += d * d;
        norm += want[i] * want[i];
    }
    l->error[task] = sqrt(diff / norm);
    free(runs);
    free(want);
    return code;
}

/* The first and the last query among them. Raises *error; a NaN stays. */
static int check_law(bench *b, int layer, double *error, reattn_error *err)
{
    const reattn__layer *s = b->shape;
    const int samples = b->T < SAMPLES ? 1 : SAMPLES;
    law l = {.b = b, .layer = layer};
    l.k = malloc((size_t)(b->keys * s->Hk * s->D) * sizeof *l.k);
    l.v = malloc((size_t)(b->keys * s->Hk * s->Dv) * sizeof *l.v);
    int code = l.k && l.v ? attend(b, layer, err) : reattn__fail(err, REATTN_E_NOMEM, "out of memory for the law");
    if (code == REATTN_OK) {
        bench_data_dense(b->store, s, layer, 0, b->keys, l.k, l.v);
        if (reattn__parallel(b->r->n_threads, samples, law_task, &l))
            code = reattn__fail(err, REATTN_E_NOMEM, "out of memory for the law");
    }
    for (int i = 0; i < samples && code == REATTN_OK; i++)
        if (!(l.error[i] <= *error))
            *error = l.error[i];
    free(l.k);
    free(l.v);
    return code;
}

/* ------------------------------------------------------------------------------------------- measure --------- */

/* Spans anywhere in the middle, one in each of as many equal parts of it. */
static int make_plan(bench *b, int layer, reattn_error *err)
{
    const reattn_session_params *p = &b->scope;
    const int64_t middle = b->keys - p->keep - p->local;
    const reattn__step step = {.params = p, .T = b->T, .n = b->keys};
    reattn_span *spans = b->spans + layer * SPANS;
    uint64_t state = b->r->seed + (uint64_t)layer;
    for (int64_t i = 0; i < p->recall_max; i++) {
        int64_t part = middle / p->recall_max, slack = part - p->recall_span;
        spans[i].first = p->keep + i * part + (int64_t)(bench_random(&state) % (uint64_t)(slack + 1));
        spans[i].count = p->recall_span;
    }
    int code = reattn__plan_start(&b->plans[layer], 1, p->recall_max, err);
    if (code == REATTN_OK)
        reattn__plan_scope(&b->plans[layer], 0, &step, spans, p->recall_max);
    return code;
}

static int prepare_line(bench *b, reattn_error *err)
{
    const reattn__layer *s = b->shape;
    int64_t row = b->T * s->H * s->D;
    int code = REATTN_OK;
    b->q = malloc((size_t)(b->n_layer * row) * sizeof *b->q);
    b->out = malloc((size_t)(b->T * s->H * s->Dv) * sizeof *b->out);
    b->plans = calloc((size_t)b->n_layer, sizeof *b->plans);
    b->spans = malloc((size_t)b->n_layer * SPANS * sizeof *b->spans);
    b->turned = calloc((size_t)b->n_layer, sizeof *b->turned);
    if (!b->turned || !b->q || !b->out || !b->plans || !b->spans)
        code = reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    for (int l = 0; l < b->n_layer && code == REATTN_OK; l++) {
        code = bench_data_queries(b->data, l, b->T, false, b->q + l * row, err);
        if (code == REATTN_OK)
            code = make_plan(b, l, err);
    }
    return code;
}

static void free_line(bench *b)
{
    for (int l = 0; l < b->n_layer && b->plans; l++)
        reattn__plan_free(&b->plans[l]);
    for (int l = 0; l < b->n_layer && b->turned; l++)
        reattn__turned_free(&b->turned[l]);
    for (int i = 0; i < REATTN__ATTEND_BUFFERS; i++)
        reattn__buffer_free(&b->work[i]);
    free(b->q);
    free(b->out);
    free(b->plans);
    free(b->spans);
    free(b->turned);
    b->q = b->out = NULL;
    b->plans = NULL;
    b->turned = NULL;
    b->spans = NULL;
}

static int measure_calls(bench *b, row *row, reattn_error *err)
{
    static bench_clock clock;
    int turn = 0, code = REATTN_OK;
    /* The first round finds no scratch, no table of rotations, and no keys rotated by a step before. */
    while (code == REATTN_OK && turn < b->n_layer)
        code = attend(b, turn++, err);
    bench_clock_start(&clock, b->r->repeats);
    while (code == REATTN_OK && bench_clock_goes_on(&clock)) {
        double start = reattn__now_ms();
        code = attend(b, turn++ % b->n_layer, err);
        clock.ms[clock.n++] = reattn__now_ms() - start;
    }
    if (code != REATTN_OK)
        return code;
    const reattn__layer *s = b->shape;
    /* A query sees the scope but for the tokens of this step that come after it. */
    double T = (double)b->T, pairs = T * (double)b->r->scope - T * (T - 1) / 2;
    row->ms = bench_median(clock.ms, clock.n);
    row->bytes_rate = row->key_bytes * s->Hk * (double)b->r->scope / row->ms * 1e3;
    row->flop_rate = 2 * (s->D + s->Dv) * s->H * pairs / row->ms * 1e3;
    for (int i = 0; i < REATTN__ATTEND_BUFFERS; i++)
        row->scratch += b->work[i].bytes;
    return REATTN_OK;
}

/* -------------------------------------------------------------------------------------------- output --------- */

/* What the calls of all layers read together. */
static double round_bytes(const bench *b, const row *r)
{
    return (double)r->n_layer * b->shape->Hk * (double)b->r->scope * r->key_bytes;
}

static void print_head(const bench *b)
{
    const reattn__layer *s = b->shape;
    const reattn_session_params *p = &b->scope;
    printf("attend: %s\n", bench_data_name(b->data));
    printf("%d query heads, %d KV heads, head size %d, scope %lld + %lld x %lld + %lld = %lld keys, %d threads, median "
           "of at least %d calls, each\non another layer than the one before: no keys are left in the cache (%.0f MiB) "
           "if \"round\", the MiB of all layers, is much more\n\n",
           s->H, s->Hk, s->D, (long long)p->keep, (long long)p->recall_max, (long long)p->recall_span,
           (long long)p->local, (long long)b->r->scope, b->r->n_threads, b->r->repeats,
           (double)bench_cache_bytes() / (1 << 20));
    printf(
        "    keys | queries | type      | level  |  round |        ms | B/key |   GB/s | %%read | GFLOP/s | %%peak | "
        "scratch KiB | error\n");
}

static void print_row(const bench *b, const row *r)
{
    printf("%8lld | %7lld | %-9s | %-6s | %6.1f | %9.3f | %5.0f | %6.2f | %5.1f | %7.2f | %5.1f | %11.1f | %.1e%s\n",
           (long long)r->keys, (long long)r->queries, r->type, reattn_cpu_level(), round_bytes(b, r) / (1 << 20), r->ms,
           r->key_bytes, r->bytes_rate * 1e-9, 100 * r->bytes_rate / b->roof.read, r->flop_rate * 1e-9,
           100 * r->flop_rate / b->roof.flops, (double)r->scratch / 1024, r->error,
           r->error <= tolerance_of(r->type) ? "" : " TOO LARGE");
    fflush(stdout);
}

static int print_json(const bench *b, reattn_error *err)
{
    const reattn__layer *s = b->shape;
    json_t *rows = json_array();
    for (const row *r = b->rows; r < b->rows + b->n_rows; r++)
        json_array_append_new(rows, json_pack("{s:I, s:I, s:s, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:o}",
                                              "keys", (json_int_t)r->keys, "queries", (json_int_t)r->queries, "type",
                                              r->type, "layers", r->n_layer, "round_mib", round_bytes(b, r) / (1 << 20),
                                              "ms", r->ms, "bytes_per_key", r->key_bytes, "gb_per_second",
                                              r->bytes_rate * 1e-9, "read_share", r->bytes_rate / b->roof.read,
                                              "gflop_per_second", r->flop_rate * 1e-9, "peak_share",
                                              r->flop_rate / b->roof.flops, "scratch_bytes", (json_int_t)r->scratch,
                                              "error", isfinite(r->error) ? json_real(r->error) : json_null()));
    return bench_print_json(json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:I, s:f, s:f, s:o}", "bench", "attend",
                                      "keys_of", bench_data_name(b->data), "cpu_level", reattn_cpu_level(), "threads",
                                      b->r->n_threads, "heads", s->H, "kv_heads", s->Hk, "head_dim", s->D, "scope",
                                      (json_int_t)b->r->scope, "read_gb_per_second", b->roof.read * 1e-9,
                                      "peak_gflop_per_second", b->roof.flops * 1e-9, "rows", rows),
                            err);
}

/* --------------------------------------------------------------------------------------------- lines --------- */

static int measure_line(bench *b, int type_k, int type_v, reattn_error *err)
{
    row *row = &b->rows[b->n_rows];
    *row = (struct row){.keys = b->keys,
                        .queries = b->T,
                        .n_layer = b->n_layer,
                        .key_bytes =
                            (double)(reattn__store_key_bytes(type_k, b->shape->D) + reattn__row_bytes(type_v, b->shape->Dv))};
    snprintf(row->type, sizeof row->type, "%s/%s", reattn__row_name(type_k), reattn__row_name(type_v));
    bench_roof_measure(&b->roof);
    int code = prepare_line(b, err);
    if (code == REATTN_OK)
        code = measure_calls(b, row, err);
    if (code == REATTN_OK)
        code = check_law(b, 0, &row->error, err);
    if (code == REATTN_OK && b->n_layer > 1)
        code = check_law(b, b->n_layer - 1, &row->error, err);
    free_line(b);
    if (code != REATTN_OK)
        return code;
    bench_roof_measure(&b->roof);
    if (!b->r->json && b->n_rows == 0)
        print_head(b);
    if (!b->r->json)
        print_row(b, row);
    b->n_rows++;
    return REATTN_OK;
}

/* All lines of one store. */
static int measure_store(bench *b, int type_k, int type_v, int64_t keys, reattn_error *err)
{
    const reattn__layer *s = b->shape;
    uint64_t touched = (uint64_t)(reattn__store_key_bytes(type_k, s->D) + reattn__row_bytes(type_v, s->Dv)) *
                       (uint64_t)s->Hk * (uint64_t)b->r->scope;
    int code = bench_data_store(b->data, type_k, type_v, keys, touched, &b->store, &b->n_layer, err);
    if (code != REATTN_OK)
        return code;
    b->keys = keys;
    for (int i = 0; i < b->r->n_queries && code == REATTN_OK; i++) {
        b->T = b->r->queries[i];
        code = measure_line(b, type_k, type_v, err);
    }
    reattn__store_free(b->store);
    return code;
}

/* As a session would cut the scope, but half of a small one is left to the last tokens. */
static int cut_scope(bench *b, reattn_error *err)
{
    reattn_session_params *p = &b->scope;
    int64_t scope = b->r->scope, most = b->r->queries[b->r->n_queries - 1];
    *p = reattn_session_params_default();
    p->keep = p->recall_span = 32; /* what they are by default once a policy is chosen */
    p->recall_max = REATTN__MIN(SPANS, (scope - p->keep) / 2 / p->recall_span);
    p->local = scope - p->keep - p->recall_max * p->recall_span;
    if (b->r->keys[0] < scope)
        return reattn__fail(err, REATTN_E_ARG, "--keys %lld are fewer than --scope %lld", (long long)b->r->keys[0],
                            (long long)scope);
    if (most > p->local)
        return reattn__fail(err, REATTN_E_ARG, "--queries %lld are more than the last %lld tokens of --scope %lld",
                            (long long)most, (long long)p->local, (long long)scope);
    return REATTN_OK;
}

static int verdict(const bench *b, reattn_error *err)
{
    for (const row *r = b->rows; r < b->rows + b->n_rows; r++)
        if (!(r->error <= tolerance_of(r->type)))
            return reattn__fail(err, REATTN_E_INTERNAL,
                                "attention of %lld queries over %s differs from the law by %.1e, more than %.0e",
                                (long long)r->queries, r->type, r->error, tolerance_of(r->type));
    return REATTN_OK;
}

static int measure(bench *b, reattn_error *err)
{
    const bench_request *r = b->r;
    int code = cut_scope(b, err);
    if (code == REATTN_OK)
        code = bench_data_open(r, &b->data, err);
    if (code == REATTN_OK)
        code = bench_roof_open(&b->roof, r->n_threads, err);
    if (code != REATTN_OK)
        return code;
    b->shape = bench_data_shape(b->data);
    b->rope.rope = b->shape->rope;
    b->rows = calloc((size_t)(r->n_keys * r->n_queries * r->n_types), sizeof *b->rows);
    if (!b->rows)
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    for (int i = 0; i < r->n_types && code == REATTN_OK; i++)
        for (int j = 0; j < r->n_keys && code == REATTN_OK; j++)
            code = measure_store(b, r->types_k[i], r->types_v[i], r->keys[j], err);
    if (code != REATTN_OK)
        return code;
    if (r->json)
        code = print_json(b, err);
    else
        printf("\nthis machine: reads %.1f GB/s, %.1f GFLOP/s of f32\n", b->roof.read * 1e-9, b->roof.flops * 1e-9);
    return code == REATTN_OK ? verdict(b, err) : code;
}

int bench_attend(const bench_request *request, reattn_error *err)
{
    bench_request r = *request;
    bench b = {.r = &r};
    if (r.n_threads == 0)
        r.n_threads = reattn__cores();
    int code = measure(&b, err);
    free(b.rows);
    reattn__rope_table_free(&b.rope);
    bench_roof_close(&b.roof);
    bench_data_close(b.data);
    return code;
}
