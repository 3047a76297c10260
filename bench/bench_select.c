/* bench_select.c - reattn bench select: exact top-k over a store, against the machine's roofs and against the law.
 *
 * Each call is on another layer than the one before, so that keys come from memory. Calls with top_k and calls with 1,
 * which only look for the maximum, alternate. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "check.h"
#include "cuda.h"
#include "dump.h"
#include "kv/row.h"
#include "law.h"
#include "lines.h"
#include "measure.h"
#include "roof.h"
#include "select/topk.h"

static const int64_t STEADY = 65536; /* from so many keys on, scratch must not grow */

typedef struct row {
    int64_t keys, queries;
    const char *type;
    int n_layer;
    double ms, max_ms;            /* a call with top_k, and with 1 */
    double key_bytes;             /* that the scan reads of a key of a KV head */
    double bytes_rate, flop_rate; /* a second */
    double rescored;              /* share of the pairs */
    size_t scratch;
    bool equal; /* to the law */
} row;

typedef struct bench {
    bench_lines l;
    bench_roof roof;

    /* The line at hand. */
    reattn__store *store;
    int n_layer;
    float *q, *q_before;      /* [n_layer][T][H][D] */
    reattn_hit *seeds, *hits; /* [n_layer][T][H][top_k], [T][H][top_k] */
    reattn__buffer work, max_work;
} bench;

/* What a scan reads of one key: all of it, as long as no type has planes of which it needs but one. */
static double scan_bytes(int type, int D)
{
    return (double)reattn__store_scan_bytes(type, D);
}

static int search(bench *b, int layer, const float *q, int top_k, const reattn_hit *seeds, reattn_hit *hits,
                  int64_t *rescored, reattn__buffer *work, reattn_error *err)
{
    const reattn__layer *s = b->l.shape;
    int64_t at = layer * b->l.T * s->H;
    reattn__topk_args args = {
        .q = q + at * s->D,
        .T = b->l.T,
        .H = s->H,
        .src = {.store = b->store, .layer = layer, .Hk = s->Hk, .D = s->D, .Dv = s->Dv},
        .against = REATTN__KEYS,
        .lo = 0,
        .hi = b->l.keys,
        .top_k = top_k,
        .n_threads = b->l.r->n_threads,
        .seeds = seeds ? seeds + at * top_k : NULL,
        .hits = hits,
        .rescored = rescored,
        .work = work,
    };
    return reattn__topk(&args, err);
}

/* ----------------------------------------------------------------------------------------------- law --------- */

typedef struct layer_keys {
    const bench *b;
    int layer;
} layer_keys;

static int read_keys(void *ctx, int64_t first, int64_t count, float *k)
{
    const layer_keys *l = ctx;
    bench_data_dense(l->b->store, l->b->l.shape, l->layer, first, count, k, NULL);
    return REATTN_OK;
}

static int check_law(bench *b, int layer, bool *equal, reattn_error *err)
{
    const bench_lines *l = &b->l;
    layer_keys keys = {b, layer};
    const float *q = b->q + layer * l->T * l->shape->H * l->shape->D;
    int code = search(b, layer, b->q, l->r->top_k, b->seeds, b->hits, NULL, &b->work, err);
    return code ? code
                : bench_law_select(l->shape, q, l->T, l->keys, l->r->top_k, l->r->n_threads, read_keys, &keys, b->hits,
                                   equal, err);
}

/* ------------------------------------------------------------------------------------------- measure --------- */

static int timed(bench *b, int *turn, int top_k, const reattn_hit *seeds, int64_t *rescored, reattn__buffer *work,
                 double *ms, reattn_error *err)
{
    int layer = (*turn)++ % b->n_layer;
    double start = reattn__now_ms();
    int code = search(b, layer, b->q, top_k, seeds, b->hits, rescored, work, err);
    *ms = reattn__now_ms() - start;
    return code;
}

static int measure_calls(bench *b, row *row, reattn_error *err)
{
    static bench_clock top, max;
    int turn = 0, code = REATTN_OK;
    int64_t rescored = 0;
    double warm;
    for (int i = 0; i < 2 && code == REATTN_OK; i++)
        code = timed(b, &turn, i ? 1 : b->l.r->top_k, NULL, NULL, i ? &b->max_work : &b->work, &warm, err);
    bench_clock_start(&top, b->l.r->repeats);
    bench_clock_start(&max, b->l.r->repeats);
    while (code == REATTN_OK && bench_clock_goes_on(&top)) {
        code = timed(b, &turn, b->l.r->top_k, b->seeds, &rescored, &b->work, &top.ms[top.n++], err);
        if (code == REATTN_OK)
            code = timed(b, &turn, 1, NULL, NULL, &b->max_work, &max.ms[max.n++], err);
    }
    if (code != REATTN_OK)
        return code;
    double pairs = (double)b->l.T * b->l.shape->H * (double)b->l.keys;
    row->ms = bench_median(top.ms, top.n);
    row->max_ms = bench_median(max.ms, max.n);
    row->bytes_rate = row->key_bytes * b->l.shape->Hk * (double)b->l.keys / row->ms * 1e3;
    row->flop_rate = 2 * b->l.shape->D * pairs / row->ms * 1e3;
    row->rescored = (double)rescored / top.n / pairs;
    row->scratch = b->work.bytes;
    return REATTN_OK;
}

static void free_line(bench *b)
{
    free(b->q);
    free(b->q_before);
    free(b->seeds);
    free(b->hits);
    b->q = b->q_before = NULL;
    b->seeds = b->hits = NULL;
    reattn__buffer_free(&b->work);
    reattn__buffer_free(&b->max_work);
}

/* Queries of every layer, and what those before them chose. */
static int prepare_line(bench *b, reattn_error *err)
{
    const reattn__layer *s = b->l.shape;
    int64_t list = b->l.T * s->H, row = list * s->D;
    int top_k = b->l.r->top_k, code = REATTN_OK;
    b->q = malloc((size_t)(b->n_layer * row) * sizeof *b->q);
    b->q_before = malloc((size_t)(b->n_layer * row) * sizeof *b->q);
    b->hits = malloc((size_t)(list * top_k) * sizeof *b->hits);
    reattn_hit *seeds = malloc((size_t)(b->n_layer * list * top_k) * sizeof *seeds);
    if (!b->q || !b->q_before || !b->hits || !seeds)
        code = reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    for (int l = 0; l < b->n_layer && code == REATTN_OK; l++) {
        code = bench_data_queries(b->l.data, l, b->l.T, false, b->q + l * row, err);
        if (code == REATTN_OK && b->l.r->seeded)
            code = bench_data_queries(b->l.data, l, b->l.T, true, b->q_before + l * row, err);
        if (code == REATTN_OK && b->l.r->seeded)
            code = search(b, l, b->q_before, top_k, NULL, seeds + l * list * top_k, NULL, &b->work, err);
    }
    if (b->l.r->seeded)
        b->seeds = seeds;
    else
        free(seeds);
    return code;
}

static void print_head(const bench *b)
{
    const reattn__layer *s = b->l.shape;
    printf("select: %s\n", bench_data_name(b->l.data));
    printf(
        "%d query heads, %d KV heads, head size %d, top %d%s, %d threads, median of at least %d calls, each on another "
        "layer\nthan the one before: no keys are left in the cache (%.0f MiB) if \"round\", the MiB of all layers, "
        "is much more\n\n",
        s->H, s->Hk, s->D, b->l.r->top_k, b->l.r->seeded ? " seeded" : "", b->l.r->n_threads, b->l.r->repeats,
        (double)bench_cache_bytes() / (1 << 20));
    printf("    keys | queries | type | level  |  round |        ms | B/key |   GB/s | %%read | GFLOP/s | %%peak | "
           "re-scored %% | over max %% | scratch KiB | law\n");
}

/* What the scans of all layers read together. */
static double round_bytes(const bench *b, const row *r)
{
    return (double)r->n_layer * b->l.shape->Hk * (double)r->keys * r->key_bytes;
}

static void print_row(void *ctx)
{
    const bench *b = ctx;
    const row *r = (const row *)b->l.rows + b->l.n_rows;
    if (b->l.n_rows == 0)
        print_head(b);
    printf("%8lld | %7lld | %-4s | %-6s | %6.1f | %9.3f | %5.0f | %6.2f | %5.1f | %7.2f | %5.1f | %11.4f | %10.1f | "
           "%11.1f "
           "| %s\n",
           (long long)r->keys, (long long)r->queries, r->type, reattn_cpu_level(), round_bytes(b, r) / (1 << 20), r->ms,
           r->key_bytes, r->bytes_rate * 1e-9, 100 * r->bytes_rate / b->roof.read, r->flop_rate * 1e-9,
           100 * r->flop_rate / b->roof.flops, 100 * r->rescored, 100 * (r->ms / r->max_ms - 1),
           (double)r->scratch / 1024, r->equal ? "equal" : "DIFFERS");
    fflush(stdout);
}

static int measure_line(void *ctx, reattn_error *err)
{
    bench *b = ctx;
    const bench_lines *l = &b->l;
    row *row = (struct row *)l->rows + l->n_rows;
    *row = (struct row){.keys = l->keys,
                        .queries = l->T,
                        .type = reattn__row_name(l->type_k),
                        .n_layer = b->n_layer,
                        .key_bytes = scan_bytes(l->type_k, l->shape->D),
                        .equal = true};
    bench_roof_measure(&b->roof);
    int code = prepare_line(b, err);
    if (code == REATTN_OK)
        code = measure_calls(b, row, err);
    if (code == REATTN_OK)
        code = check_law(b, 0, &row->equal, err);
    if (code == REATTN_OK && b->n_layer > 1)
        code = check_law(b, b->n_layer - 1, &row->equal, err);
    const bench_check check = {b->store, l->shape,      b->n_layer,      l->keys,    l->T,
                               b->q,     l->r->top_k, l->r->n_threads, l->r->check};
    if (code == REATTN_OK && l->r->check)
        code = bench_check_select(&check, err);
    if (code == REATTN_OK && l->r->dump)
        code = bench_dump(&check, l->r->dump, err);
    free_line(b);
    if (code == REATTN_OK)
        bench_roof_measure(&b->roof);
    return code;
}

static int open_store(void *ctx, reattn_error *err)
{
    bench *b = ctx;
    const bench_lines *l = &b->l;
    uint64_t touched = (uint64_t)scan_bytes(l->type_k, l->shape->D) * (uint64_t)l->shape->Hk * (uint64_t)l->keys;
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
    for (const row *r = b->l.rows, *end = r + b->l.n_rows; r < end; r++) {
        if (!r->equal)
            return reattn__fail(err, REATTN_E_INTERNAL,
                                "top-%d of %lld %s keys and %lld queries is not what the law says", b->l.r->top_k,
                                (long long)r->keys, r->type, (long long)r->queries);
        for (const row *o = b->l.rows; o < r; o++)
            if (o->queries == r->queries && o->type == r->type && o->keys >= STEADY && r->scratch > o->scratch)
                return reattn__fail(err, REATTN_E_INTERNAL,
                                    "scratch grows with the keys: %zu bytes for %lld, %zu bytes for %lld", o->scratch,
                                    (long long)o->keys, r->scratch, (long long)r->keys);
    }
    return REATTN_OK;
}

static int print_json(const bench *b, reattn_error *err)
{
    const reattn__layer *s = b->l.shape;
    json_t *rows = json_array();
    for (const row *r = b->l.rows, *end = r + b->l.n_rows; r < end; r++)
        json_array_append_new(
            rows,
            json_pack("{s:I, s:I, s:s, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:b}", "keys",
                      (json_int_t)r->keys, "queries", (json_int_t)r->queries, "type", r->type, "layers", r->n_layer,
                      "round_mib", round_bytes(b, r) / (1 << 20), "ms", r->ms, "bytes_per_key", r->key_bytes,
                      "gb_per_second", r->bytes_rate * 1e-9, "read_share", r->bytes_rate / b->roof.read,
                      "gflop_per_second", r->flop_rate * 1e-9, "peak_share", r->flop_rate / b->roof.flops,
                      "rescored_share", r->rescored, "max_ms", r->max_ms, "over_max", r->ms / r->max_ms - 1,
                      "scratch_bytes", (json_int_t)r->scratch, "equal", (int)r->equal));
    json_t *object = json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:b, s:f, s:f, s:o}", "bench", "select",
                               "keys_of", bench_data_name(b->l.data), "cpu_level", reattn_cpu_level(), "threads",
                               b->l.r->n_threads, "heads", s->H, "kv_heads", s->Hk, "head_dim", s->D, "top_k",
                               b->l.r->top_k, "seeded", (int)b->l.r->seeded, "read_gb_per_second", b->roof.read * 1e-9,
                               "peak_gflop_per_second", b->roof.flops * 1e-9, "rows", rows);
    return bench_print_json(object, err);
}

static int start(void *ctx, reattn_error *err)
{
    bench *b = ctx;
    return bench_roof_open(&b->roof, b->l.r->n_threads, err);
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
    bench_roof_close(&((bench *)ctx)->roof);
}

int bench_select(const bench_request *request, reattn_error *err)
{
    static const bench_kind kind = {sizeof(row), start, open_store, measure_line, print_row, close_store, finish, stop};
    bench b = {0};
    if (request->cuda)
        return bench_cuda_select(request, err);
    return bench_lines_run(request, &kind, &b, err);
}
