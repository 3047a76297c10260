/* attend.c - reattn bench attend --device cuda: attention over a scope on a GPU, against its copy rate and the law. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../cuda.h"
#include "../law.h"
#include "../measure.h"
#include "../scope.h"
#include "base/base.h"
#include "cuda/attend.h"
#include "cuda/select.h"
#include "cuda/turns.h"
#include "device.h"

typedef struct row {
    int64_t keys, queries;
    double ms;
    double key_bytes;             /* of K and V of a KV head */
    double bytes_rate, flop_rate; /* a second */
    double error, allowed;        /* largest |out - law| / |law| of a query */
    size_t scratch;
} row;

typedef struct bench {
    bench_lines l;
    bench_device device;
    reattn_session_params scope; /* keep, recall_span, recall_max, local */
    reattn__cuda_turns turns;
    void *k, *v, *tokens, *count;
    reattn__plan plan;
    reattn_span spans[BENCH_SPANS];
    reattn__cuda_attend_args args; /* of the line at hand */
} bench;

static int start(void *ctx, reattn_error *err)
{
    bench *b = ctx;
    const reattn__layer *s = b->l.shape;
    int code = bench_scope_cut(b->l.r, &b->scope, err);
    if (code == REATTN_OK)
        code = bench_device_open(&b->device, err);
    if (code == REATTN_OK)
        code = bench_device_roof(&b->device, err);
    if (code == REATTN_OK)
        code = reattn__cuda_turns_open(&b->turns, &s->rope, s->D, err);
    return code ? code : reattn__cuda_turns_need(&b->turns, b->l.r->scope, NULL, err);
}

/* The tokens of the scope, in order. */
static int put_scope(bench *b, reattn_error *err)
{
    const reattn_session_params *p = &b->scope;
    const int32_t count = (int32_t)b->l.r->scope;
    int32_t *tokens = malloc((size_t)count * sizeof *tokens), n = 0;
    if (!tokens)
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    bench_scope_spans(p, b->l.keys, b->l.r->seed, b->spans);
    for (int64_t i = 0; i < p->keep; i++)
        tokens[n++] = (int32_t)i;
    for (int64_t i = 0; i < p->recall_max; i++)
        for (int64_t j = 0; j < b->spans[i].count; j++)
            tokens[n++] = (int32_t)(b->spans[i].first + j);
    for (int64_t i = b->l.keys - p->local; i < b->l.keys; i++)
        tokens[n++] = (int32_t)i;
    int code = bench_device_put(&b->tokens, tokens, (size_t)n * sizeof *tokens, err);
    if (code == REATTN_OK)
        code = bench_device_put(&b->count, &n, sizeof n, err);
    free(tokens);
    return code;
}

static int open_keys(void *ctx, reattn_error *err)
{
    bench *b = ctx;
    const bench_lines *l = &b->l;
    const reattn__layer *s = l->shape;
    if ((l->type_k != REATTN_F16 && l->type_k != REATTN_SPLIT) || l->type_v != REATTN_F16)
        return reattn__fail(err, REATTN_E_ARG, "--device cuda: keys and values are f16: -ctk f16 -ctv f16");
    if (s->Dv != s->D)
        return reattn__fail(err, REATTN_E_UNSUPPORTED, "--device cuda: keys of %d, values of %d dimensions", s->D,
                            s->Dv);
    int code = bench_device_rows(l, &b->k, &b->v, err);
    if (code == REATTN_OK)
        code = put_scope(b, err);
    b->args = (reattn__cuda_attend_args){
        .k = b->k,
        .v = b->v,
        .type = REATTN__CUDA_F16,
        .H = s->H,
        .Hk = s->Hk,
        .D = s->D,
        .n = l->keys,
        .scale = s->kq_scale,
        .cs = b->turns.cs,
        .neox = s->rope.kind == REATTN_ROPE_NEOX,
        .n_rot = s->rope.n_rot,
        .scope = {.tokens = b->tokens, .count = b->count, .room = l->r->scope, .most = l->r->scope, .lists = 1},
        .out_stride_token = (int64_t)s->H * s->D,
        .out_stride_head = s->D,
    };
    return code;
}

static void close_keys(void *ctx)
{
    bench *b = ctx;
    cudaFree(b->k);
    cudaFree(b->v);
    cudaFree(b->tokens);
    cudaFree(b->count);
    b->k = b->v = b->tokens = b->count = NULL;
}

static int attend(void *ctx, reattn_error *err)
{
    return reattn__cuda_attend(&((bench *)ctx)->args, NULL, err);
}

/* One query is attended to in f32. Many are rotated with their keys and rounded to half precision: twice what that may
 * lose is allowed, which depends on how large scores are. */
static int check_law(bench *b, const float *q, row *row, reattn_error *err)
{
    double loss = 0;
    const bench_lines *l = &b->l;
    const reattn__layer *s = l->shape;
    const int64_t rows = l->keys * s->Hk * s->D, n_out = l->T * s->H * s->D;
    const reattn__step step = {.params = &b->scope, .T = l->T, .n = l->keys};
    float *k = malloc((size_t)rows * sizeof *k), *v = malloc((size_t)rows * sizeof *v);
    float *out = malloc((size_t)n_out * sizeof *out);
    int code = k && v && out ? REATTN_OK : reattn__fail(err, REATTN_E_NOMEM, "out of memory for the law");
    if (code == REATTN_OK)
        code = bench_device_failed(cudaMemcpy(out, b->args.out, (size_t)n_out * sizeof *out, cudaMemcpyDeviceToHost),
                                   "reading the output", err);
    if (code == REATTN_OK && (bench_device_read(b->k, 0, rows, k) || bench_device_read(b->v, 0, rows, v)))
        code = reattn__fail(err, REATTN_E_NOMEM, "keys and values could not be read back");
    if (code == REATTN_OK)
        code = reattn__plan_start(&b->plan, 1, b->scope.recall_max, err);
    if (code == REATTN_OK) {
        reattn__plan_scope(&b->plan, 0, &step, b->spans, b->scope.recall_max);
        code = bench_law_attend(s, q, k, v, l->T, l->keys, b->plan.lists, l->r->n_threads, out,
                                &row->error, l->T > 1 ? &loss : NULL, err);
    }
    row->allowed = 1e-4 + 2 * loss;
    free(k);
    free(v);
    free(out);
    return code;
}

static int measure(bench *b, const float *q, row *row, reattn_error *err)
{
    const bench_lines *l = &b->l;
    const reattn__layer *s = l->shape;
    int code = bench_device_time(&b->device, l->r->repeats, attend, b, &row->ms, err);
    if (code == REATTN_OK)
        code = check_law(b, q, row, err);
    /* A query sees the scope but for the tokens of this step that come after it. */
    double T = (double)l->T, pairs = T * (double)l->r->scope - T * (T - 1) / 2;
    row->bytes_rate = row->key_bytes * s->Hk * (double)l->r->scope / row->ms * 1e3;
    row->flop_rate = 4 * s->D * s->H * pairs / row->ms * 1e3;
    row->scratch = b->args.work_bytes;
    return code;
}

static int measure_line(void *ctx, reattn_error *err)
{
    bench *b = ctx;
    const bench_lines *l = &b->l;
    const reattn__layer *s = l->shape;
    row *row = (struct row *)l->rows + l->n_rows;
    bench_device_call call;
    *row = (struct row){.keys = l->keys, .queries = l->T, .key_bytes = 4 * s->D};
    b->args.T = l->T;
    b->args.work_bytes = reattn__cuda_attend_bytes(&b->args);
    int code = bench_device_call_open(l, (size_t)(l->T * s->H * s->D) * sizeof(float), b->args.work_bytes, &call, err);
    b->args.q = call.q, b->args.out = call.out, b->args.work = call.work;
    if (code == REATTN_OK)
        code = measure(b, call.queries, row, err);
    bench_device_call_close(&call);
    return code ? code : bench_device_roof(&b->device, err);
}

static void print_row(void *ctx)
{
    const bench *b = ctx;
    const reattn__layer *s = b->l.shape;
    const reattn_session_params *p = &b->scope;
    const row *r = (const row *)b->l.rows + b->l.n_rows;
    if (b->l.n_rows == 0)
        printf(
            "attend: %s, on %s\n%d query heads, %d KV heads, head size %d, f16, scope %lld + %lld x %lld + %lld = %lld "
            "keys, median of at least %d calls, the cache overwritten before each\n\n"
            "    keys | queries |       ms | B/key |   GB/s | %%copy | TFLOP/s | scratch KiB | error\n",
            bench_data_name(b->l.data), b->device.name, s->H, s->Hk, s->D, (long long)p->keep, (long long)p->recall_max,
            (long long)p->recall_span, (long long)p->local, (long long)b->l.r->scope, b->l.r->repeats);
    printf("%8lld | %7lld | %8.4f | %5.0f | %6.0f | %5.1f | %7.2f | %11.1f | %.1e%s\n", (long long)r->keys,
           (long long)r->queries, r->ms, r->key_bytes, r->bytes_rate * 1e-9, 100 * r->bytes_rate / b->device.copy,
           r->flop_rate * 1e-12, (double)r->scratch / 1024, r->error, r->error <= r->allowed ? "" : " TOO LARGE");
    fflush(stdout);
}

static int print_json(const bench *b, reattn_error *err)
{
    const reattn__layer *s = b->l.shape;
    json_t *rows = json_array();
    for (const row *r = b->l.rows, *end = r + b->l.n_rows; r < end; r++)
        json_array_append_new(
            rows, json_pack("{s:I, s:I, s:s, s:f, s:f, s:f, s:f, s:f, s:I, s:o}", "keys", (json_int_t)r->keys,
                            "queries", (json_int_t)r->queries, "type", "f16/f16", "ms", r->ms, "bytes_per_key",
                            r->key_bytes, "gb_per_second", r->bytes_rate * 1e-9, "copy_share",
                            r->bytes_rate / b->device.copy, "tflop_per_second", r->flop_rate * 1e-12, "scratch_bytes",
                            (json_int_t)r->scratch, "error", isfinite(r->error) ? json_real(r->error) : json_null()));
    return bench_print_json(json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:I, s:f, s:o}", "bench", "attend", "keys_of",
                                      bench_data_name(b->l.data), "device", b->device.name, "heads", s->H, "kv_heads",
                                      s->Hk, "head_dim", s->D, "scope", (json_int_t)b->l.r->scope, "copy_gb_per_second",
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
        if (!(r->error <= r->allowed))
            code = reattn__fail(err, REATTN_E_INTERNAL,
                                "attention of %lld queries differs from the law by %.1e, more than %.0e",
                                (long long)r->queries, r->error, r->allowed);
    return code;
}

static void stop(void *ctx)
{
    bench *b = ctx;
    reattn__plan_free(&b->plan);
    reattn__cuda_turns_close(&b->turns);
    bench_device_close(&b->device);
}

int bench_cuda_attend(const bench_request *request, reattn_error *err)
{
    static const bench_kind kind = {sizeof(row), start, open_keys, measure_line, print_row, close_keys, finish, stop};
    bench b = {0};
    return bench_lines_run(request, &kind, &b, err);
}
