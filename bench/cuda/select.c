/* select.c - reattn bench select --device cuda: exact top-k on a GPU, against its copy rate and against the law.
 *
 * Every hit of a timed call is compared with the law on the device, those of a few queries with the law on the CPU. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../cuda.h"
#include "../law.h"
#include "../measure.h"
#include "base/base.h"
#include "cuda/select.h"
#include "device.h"

typedef struct row {
    int64_t keys, queries;
    const char *type;
    double ms;
    double key_bytes;             /* that the scan reads of a key of a KV head */
    double bytes_rate, flop_rate; /* a second */
    double candidates;            /* keys a query and head that the scan wrote down */
    int64_t law_rows;             /* (query, head) pairs left to the law */
    size_t scratch;
    bool equal;
} row;

typedef struct bench {
    bench_lines l;
    bench_device device;
    void *k, *index;
    reattn__cuda_select_args args; /* of the line at hand */
} bench;

static int start(void *ctx, reattn_error *err)
{
    bench *b = ctx;
    const bench_request *r = b->l.r;
    if (r->seeded || r->check || r->dump)
        return reattn__fail(err, REATTN_E_ARG, "--seeds, --check and --dump go with --device cpu");
    int code = bench_device_open(&b->device, err);
    return code ? code : bench_device_roof(&b->device, err);
}

static int open_keys(void *ctx, reattn_error *err)
{
    bench *b = ctx;
    const bench_lines *l = &b->l;
    const reattn__layer *s = l->shape;
    if (l->type_k != REATTN_F16 && l->type_k != REATTN_SPLIT)
        return reattn__fail(err, REATTN_E_ARG,
                            "--device cuda: -ctk is f16, or split: f16 and an 8-bit copy that is scanned");
    const int plane = l->type_k == REATTN_SPLIT;
    int code = bench_device_rows(l, &b->k, NULL, err);
    if (code == REATTN_OK)
        code = bench_device_put(&b->index, NULL, reattn__cuda_index_bytes(l->keys, s->Hk, s->D, plane), err);
    b->args = (reattn__cuda_select_args){.keys = {.k = b->k,
                                                  .M = l->keys,
                                                  .stride_key = (int64_t)s->Hk * s->D,
                                                  .stride_head = s->D,
                                                  .capacity = l->keys,
                                                  .index = b->index,
                                                  .type = REATTN__CUDA_F16,
                                                  .Hk = s->Hk,
                                                  .D = s->D,
                                                  .plane = plane},
                                         .H = s->H,
                                         .top_k = l->r->top_k,
                                         .plane = plane};
    return code ? code : reattn__cuda_index_make(&b->args.keys, 0, NULL, err);
}

static void close_keys(void *ctx)
{
    bench *b = ctx;
    cudaFree(b->k);
    cudaFree(b->index);
    b->k = b->index = NULL;
}

static int search(void *ctx, reattn_error *err)
{
    return reattn__cuda_select(&((bench *)ctx)->args, NULL, err);
}

static int read_keys(void *ctx, int64_t first, int64_t count, float *k)
{
    const bench *b = ctx;
    const int64_t row = (int64_t)b->l.shape->Hk * b->l.shape->D;
    return bench_device_read(b->k, first * row, count * row, k);
}

/* What was found last, and the law of the device on the same queries; then the law of the CPU. */
static int check_law(bench *b, const float *q, row *row, reattn_error *err)
{
    const bench_lines *l = &b->l;
    const size_t n = (size_t)(l->T * l->shape->H * l->r->top_k);
    reattn_hit *found = malloc(2 * n * sizeof *found), *law = found + n;
    if (!found)
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    int code = bench_device_failed(cudaMemcpy(found, b->args.hits, n * sizeof *found, cudaMemcpyDeviceToHost),
                                   "reading hits", err);
    b->args.path = REATTN__CUDA_BRUTE;
    if (code == REATTN_OK)
        code = search(b, err);
    if (code == REATTN_OK)
        code = bench_device_failed(cudaMemcpy(law, b->args.hits, n * sizeof *law, cudaMemcpyDeviceToHost),
                                   "reading hits", err);
    b->args.path = REATTN__CUDA_AUTO;
    row->equal = true;
    for (size_t i = 0; i < n && code == REATTN_OK; i++)
        if (found[i].pos != law[i].pos || (law[i].pos >= 0 && !(found[i].score == law[i].score)))
            row->equal = false;
    if (code == REATTN_OK)
        code = bench_law_select(l->shape, q, l->T, l->keys, l->r->top_k, l->r->n_threads, read_keys, b, found,
                                &row->equal, err);
    free(found);
    return code;
}

static int measure(bench *b, const float *q, row *row, reattn_error *err)
{
    const bench_lines *l = &b->l;
    const reattn__layer *s = l->shape;
    reattn__cuda_report report;
    double pairs = (double)l->T * s->H * (double)l->keys;
    int code = bench_device_time(&b->device, l->r->repeats, search, b, &row->ms, err);
    if (code == REATTN_OK)
        code = reattn__cuda_select_report(&b->args, NULL, &report, err);
    if (code == REATTN_OK)
        code = check_law(b, q, row, err);
    if (code != REATTN_OK)
        return code;
    row->bytes_rate = row->key_bytes * s->Hk * (double)l->keys / row->ms * 1e3;
    row->flop_rate = 2 * s->D * pairs / row->ms * 1e3;
    row->candidates = (double)report.candidates / ((double)l->T * s->H);
    row->law_rows = report.brute_rows;
    row->scratch = b->args.work_bytes;
    return REATTN_OK;
}

static int measure_line(void *ctx, reattn_error *err)
{
    bench *b = ctx;
    const bench_lines *l = &b->l;
    const reattn__layer *s = l->shape;
    row *row = (struct row *)l->rows + l->n_rows;
    bench_device_call call;
    *row = (struct row){.keys = l->keys,
                        .queries = l->T,
                        .type = b->args.plane ? "split" : "f16",
                        .key_bytes = b->args.plane ? s->D : 2 * s->D};
    b->args.T = l->T;
    b->args.work_bytes = reattn__cuda_select_bytes(&b->args);
    int code = bench_device_call_open(l, (size_t)(l->T * s->H * l->r->top_k) * sizeof(reattn_hit), b->args.work_bytes,
                                      &call, err);
    b->args.q = call.q, b->args.hits = call.out, b->args.work = call.work;
    if (code == REATTN_OK)
        code = measure(b, call.queries, row, err);
    bench_device_call_close(&call);
    return code ? code : bench_device_roof(&b->device, err);
}

static void print_row(void *ctx)
{
    const bench *b = ctx;
    const reattn__layer *s = b->l.shape;
    const row *r = (const row *)b->l.rows + b->l.n_rows;
    if (b->l.n_rows == 0)
        printf("select: %s, on %s\n%d query heads, %d KV heads, head size %d, top %d, median of at least %d calls, the "
               "cache overwritten before each\n\n    keys | queries | type  |       ms | B/key |   GB/s | %%copy | "
               "TFLOP/s | candidates | left to law | scratch KiB | law\n",
               bench_data_name(b->l.data), b->device.name, s->H, s->Hk, s->D, b->l.r->top_k, b->l.r->repeats);
    printf("%8lld | %7lld | %-5s | %8.4f | %5.0f | %6.0f | %5.1f | %7.2f | %10.1f | %11lld | %11.1f | %s\n",
           (long long)r->keys, (long long)r->queries, r->type, r->ms, r->key_bytes, r->bytes_rate * 1e-9,
           100 * r->bytes_rate / b->device.copy, r->flop_rate * 1e-12, r->candidates, (long long)r->law_rows,
           (double)r->scratch / 1024, r->equal ? "equal" : "DIFFERS");
    fflush(stdout);
}

static int print_json(const bench *b, reattn_error *err)
{
    const reattn__layer *s = b->l.shape;
    json_t *rows = json_array();
    for (const row *r = b->l.rows, *end = r + b->l.n_rows; r < end; r++)
        json_array_append_new(rows, json_pack("{s:I, s:I, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:b}", "keys",
                                              (json_int_t)r->keys, "queries", (json_int_t)r->queries, "type", r->type,
                                              "ms", r->ms, "bytes_per_key", r->key_bytes, "gb_per_second",
                                              r->bytes_rate * 1e-9, "copy_share", r->bytes_rate / b->device.copy,
                                              "tflop_per_second", r->flop_rate * 1e-12, "candidates_per_row",
                                              r->candidates, "law_rows", (json_int_t)r->law_rows, "scratch_bytes",
                                              (json_int_t)r->scratch, "equal", (int)r->equal));
    return bench_print_json(json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:f, s:o}", "bench", "select", "keys_of",
                                      bench_data_name(b->l.data), "device", b->device.name, "heads", s->H, "kv_heads",
                                      s->Hk, "head_dim", s->D, "top_k", b->l.r->top_k, "copy_gb_per_second",
                                      b->device.copy * 1e-9, "rows", rows),
                            err);
}

static int finish(void *ctx, reattn_error *err)
{
    const bench *b = ctx;
    int code = REATTN_OK;
    if (b->l.r->json)
        code = print_json(b, err);
    else
        printf("\nthis device: copies %.0f GB/s, read and written\n", b->device.copy * 1e-9);
    for (const row *r = b->l.rows, *end = r + b->l.n_rows; r < end && code == REATTN_OK; r++)
        if (!r->equal)
            code =
                reattn__fail(err, REATTN_E_INTERNAL, "top-%d of %lld %s keys and %lld queries is not what the law says",
                             b->l.r->top_k, (long long)r->keys, r->type, (long long)r->queries);
    return code;
}

static void stop(void *ctx)
{
    bench_device_close(&((bench *)ctx)->device);
}

int bench_cuda_select(const bench_request *request, reattn_error *err)
{
    static const bench_kind kind = {sizeof(row), start, open_keys, measure_line, print_row, close_keys, finish, stop};
    bench b = {0};
    return bench_lines_run(request, &kind, &b, err);
}
