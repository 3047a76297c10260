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
#include "cuda.h"
#include "kv/row.h"
#include "law.h"
#include "lines.h"
#include "measure.h"
#include "policy/policy.h"
#include "roof.h"
#include "scope.h"

/* Far above rounding in f32, or, for split keys, twice that of a weight to half precision; far below any other
 * mistake. */
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
    bench_lines l;
    bench_roof roof;
    reattn__rope_table rope;
    reattn_session_params scope; /* keep, recall_span, recall_max, local */

    /* The line at hand. */
    reattn__store *store;
    int n_layer;
    float *q, *out;      /* [n_layer][T][H][D], [T][H][Dv] */
    reattn__plan *plans; /* [n_layer] */
    reattn_span *spans;  /* [n_layer][BENCH_SPANS] */
    reattn__turned *turned; /* [n_layer] rotated keys, kept from call to call as a session keeps them */
    reattn__buffer work[REATTN__ATTEND_BUFFERS];
} bench;

static int attend(bench *b, int layer, reattn_error *err)
{
    const reattn__layer *s = b->l.shape;
    reattn__attend_args args = {
        .q = b->q + layer * b->l.T * s->H * s->D,
        .T = b->l.T,
        .q_first = b->l.keys - b->l.T,
        .H = s->H,
        .src = {.store = b->store, .layer = layer, .Hk = s->Hk, .D = s->D, .Dv = s->Dv},
        .scale = s->kq_scale,
        .rope = &b->rope,
        .turned = &b->turned[layer],
        .lists = b->plans[layer].lists,
        .n_list = 1,
        .n_threads = b->l.r->n_threads,
        .out = b->out,
        .work = b->work,
    };
    return reattn__attend(&args, err);
}

/* ----------------------------------------------------------------------------------------------- law --------- */

/* The first and the last query among them. Raises *error; a NaN stays. */
static int check_law(bench *b, int layer, double *error, reattn_error *err)
{
    const bench_lines *l = &b->l;
    const reattn__layer *s = l->shape;
    float *k = malloc((size_t)(l->keys * s->Hk * s->D) * sizeof *k);
    float *v = malloc((size_t)(l->keys * s->Hk * s->Dv) * sizeof *v);
    int code = k && v ? attend(b, layer, err) : reattn__fail(err, REATTN_E_NOMEM, "out of memory for the law");
    if (code == REATTN_OK) {
        bench_data_dense(b->store, s, layer, 0, l->keys, k, v);
        code = bench_law_attend(s, b->q + layer * l->T * s->H * s->D, k, v, l->T, l->keys,
                                b->plans[layer].lists, l->r->n_threads, b->out, error, NULL, err);
    }
    free(k);
    free(v);
    return code;
}

/* ------------------------------------------------------------------------------------------- measure --------- */

static int make_plan(bench *b, int layer, reattn_error *err)
{
    const reattn_session_params *p = &b->scope;
    const reattn__step step = {.params = p, .T = b->l.T, .n = b->l.keys};
    reattn_span *spans = b->spans + layer * BENCH_SPANS;
    bench_scope_spans(p, b->l.keys, b->l.r->seed + (uint64_t)layer, spans);
    int code = reattn__plan_start(&b->plans[layer], 1, p->recall_max, err);
    if (code == REATTN_OK)
        reattn__plan_scope(&b->plans[layer], 0, &step, spans, p->recall_max);
    return code;
}

static int prepare_line(bench *b, reattn_error *err)
{
    const reattn__layer *s = b->l.shape;
    int64_t row = b->l.T * s->H * s->D;
    int code = REATTN_OK;
    b->q = malloc((size_t)(b->n_layer * row) * sizeof *b->q);
    b->out = malloc((size_t)(b->l.T * s->H * s->Dv) * sizeof *b->out);
    b->plans = calloc((size_t)b->n_layer, sizeof *b->plans);
    b->spans = malloc((size_t)b->n_layer * BENCH_SPANS * sizeof *b->spans);
    b->turned = calloc((size_t)b->n_layer, sizeof *b->turned);
    if (!b->turned || !b->q || !b->out || !b->plans || !b->spans)
        code = reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    for (int l = 0; l < b->n_layer && code == REATTN_OK; l++) {
        code = bench_data_queries(b->l.data, l, b->l.T, false, b->q + l * row, err);
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
    bench_clock_start(&clock, b->l.r->repeats);
    while (code == REATTN_OK && bench_clock_goes_on(&clock)) {
        double start = reattn__now_ms();
        code = attend(b, turn++ % b->n_layer, err);
        clock.ms[clock.n++] = reattn__now_ms() - start;
    }
    if (code != REATTN_OK)
        return code;
    const reattn__layer *s = b->l.shape;
    /* A query sees the scope but for the tokens of this step that come after it. */
    double T = (double)b->l.T, pairs = T * (double)b->l.r->scope - T * (T - 1) / 2;
    row->ms = bench_median(clock.ms, clock.n);
    row->bytes_rate = row->key_bytes * s->Hk * (double)b->l.r->scope / row->ms * 1e3;
    row->flop_rate = 2 * (s->D + s->Dv) * s->H * pairs / row->ms * 1e3;
    for (int i = 0; i < REATTN__ATTEND_BUFFERS; i++)
        row->scratch += b->work[i].bytes;
    return REATTN_OK;
}

/* -------------------------------------------------------------------------------------------- output --------- */

/* What the calls of all layers read together. */
static double round_bytes(const bench *b, const row *r)
{
    return (double)r->n_layer * b->l.shape->Hk * (double)b->l.r->scope * r->key_bytes;
}

static void print_head(const bench *b)
{
    const reattn__layer *s = b->l.shape;
    const reattn_session_params *p = &b->scope;
    printf("attend: %s\n", bench_data_name(b->l.data));
    printf("%d query heads, %d KV heads, head size %d, scope %lld + %lld x %lld + %lld = %lld keys, %d threads, median "
           "of at least %d calls, each\non another layer than the one before: no keys are left in the cache (%.0f MiB) "
           "if \"round\", the MiB of all layers, is much more\n\n",
           s->H, s->Hk, s->D, (long long)p->keep, (long long)p->recall_max, (long long)p->recall_span,
           (long long)p->local, (long long)b->l.r->scope, b->l.r->n_threads, b->l.r->repeats,
           (double)bench_cache_bytes() / (1 << 20));
    printf(
        "    keys | queries | type      | level  |  round |        ms | B/key |   GB/s | %%read | GFLOP/s | %%peak | "
        "scratch KiB | error\n");
}

static void print_row(void *ctx)
{
    const bench *b = ctx;
    const row *r = (const row *)b->l.rows + b->l.n_rows;
    if (b->l.n_rows == 0)
        print_head(b);
    printf("%8lld | %7lld | %-9s | %-6s | %6.1f | %9.3f | %5.0f | %6.2f | %5.1f | %7.2f | %5.1f | %11.1f | %.1e%s\n",
           (long long)r->keys, (long long)r->queries, r->type, reattn_cpu_level(), round_bytes(b, r) / (1 << 20), r->ms,
           r->key_bytes, r->bytes_rate * 1e-9, 100 * r->bytes_rate / b->roof.read, r->flop_rate * 1e-9,
           100 * r->flop_rate / b->roof.flops, (double)r->scratch / 1024, r->error,
           r->error <= tolerance_of(r->type) ? "" : " TOO LARGE");
    fflush(stdout);
}

static int print_json(const bench *b, reattn_error *err)
{
    const reattn__layer *s = b->l.shape;
    json_t *rows = json_array();
    for (const row *r = b->l.rows, *end = r + b->l.n_rows; r < end; r++)
        json_array_append_new(rows, json_pack("{s:I, s:I, s:s, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:o}",
                                              "keys", (json_int_t)r->keys, "queries", (json_int_t)r->queries, "type",
                                              r->type, "layers", r->n_layer, "round_mib", round_bytes(b, r) / (1 << 20),
                                              "ms", r->ms, "bytes_per_key", r->key_bytes, "gb_per_second",
                                              r->bytes_rate * 1e-9, "read_share", r->bytes_rate / b->roof.read,
                                              "gflop_per_second", r->flop_rate * 1e-9, "peak_share",
                                              r->flop_rate / b->roof.flops, "scratch_bytes", (json_int_t)r->scratch,
                                              "error", isfinite(r->error) ? json_real(r->error) : json_null()));
    return bench_print_json(json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:I, s:f, s:f, s:o}", "bench", "attend",
                                      "keys_of", bench_data_name(b->l.data), "cpu_level", reattn_cpu_level(), "threads",
                                      b->l.r->n_threads, "heads", s->H, "kv_heads", s->Hk, "head_dim", s->D, "scope",
                                      (json_int_t)b->l.r->scope, "read_gb_per_second", b->roof.read * 1e-9,
                                      "peak_gflop_per_second", b->roof.flops * 1e-9, "rows", rows),
                            err);
}

/* --------------------------------------------------------------------------------------------- lines --------- */

/* K and V of a KV head. */
static double bytes_of_key(const bench_lines *l)
{
    return (double)(reattn__store_key_bytes(l->type_k, l->shape->D) + reattn__row_bytes(l->type_v, l->shape->Dv));
}

static int measure_line(void *ctx, reattn_error *err)
{
    bench *b = ctx;
    const bench_lines *l = &b->l;
    row *row = (struct row *)l->rows + l->n_rows;
    *row = (struct row){.keys = l->keys,
                        .queries = l->T,
                        .n_layer = b->n_layer,
                        .key_bytes = bytes_of_key(l)};
    snprintf(row->type, sizeof row->type, "%s/%s", reattn__row_name(l->type_k), reattn__row_name(l->type_v));
    bench_roof_measure(&b->roof);
    int code = prepare_line(b, err);
    if (code == REATTN_OK)
        code = measure_calls(b, row, err);
    if (code == REATTN_OK)
        code = check_law(b, 0, &row->error, err);
    if (code == REATTN_OK && b->n_layer > 1)
        code = check_law(b, b->n_layer - 1, &row->error, err);
    free_line(b);
    if (code == REATTN_OK)
        bench_roof_measure(&b->roof);
    return code;
}

static int open_store(void *ctx, reattn_error *err)
{
    bench *b = ctx;
    const bench_lines *l = &b->l;
    uint64_t touched = (uint64_t)(bytes_of_key(l) * l->shape->Hk * (double)l->r->scope);
    return bench_data_store(l->data, l->type_k, l->type_v, l->keys, touched, &b->store, &b->n_layer, err);
}

static void close_store(void *ctx)
{
    bench *b = ctx;
    reattn__store_free(b->store);
    b->store = NULL;
}

static int verdict(const bench *b, reattn_error *err)
{
    for (const row *r = b->l.rows, *end = r + b->l.n_rows; r < end; r++)
        if (!(r->error <= tolerance_of(r->type)))
            return reattn__fail(err, REATTN_E_INTERNAL,
                                "attention of %lld queries over %s differs from the law by %.1e, more than %.0e",
                                (long long)r->queries, r->type, r->error, tolerance_of(r->type));
    return REATTN_OK;
}

static int start(void *ctx, reattn_error *err)
{
    bench *b = ctx;
    b->rope.rope = b->l.shape->rope;
    int code = bench_scope_cut(b->l.r, &b->scope, err);
    return code ? code : bench_roof_open(&b->roof, b->l.r->n_threads, err);
}

static int finish(void *ctx, reattn_error *err)
{
    bench *b = ctx;
    int code = REATTN_OK;
    if (b->l.r->json)
        code = print_json(b, err);
    else
        printf("\nthis machine: reads %.1f GB/s, %.1f GFLOP/s of f32\n", b->roof.read * 1e-9, b->roof.flops * 1e-9);
    return code == REATTN_OK ? verdict(b, err) : code;
}

static void stop(void *ctx)
{
    bench *b = ctx;
    reattn__rope_table_free(&b->rope);
    bench_roof_close(&b->roof);
}

int bench_attend(const bench_request *request, reattn_error *err)
{
    static const bench_kind kind = {sizeof(row), start, open_store, measure_line, print_row, close_store, finish, stop};
    bench b = {0};
    if (request->cuda)
        return bench_cuda_attend(request, err);
    return bench_lines_run(request, &kind, &b, err);
}
