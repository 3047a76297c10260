/* runs.cu - a plan's runs on the device: upload, checks, scratch, which kernels. See runs.h.
 *
 * For one query the layout's rows are written out as lists of tokens and positions, which attend_few.cu takes: once for
 * all layers of a step. */
#include <stdlib.h>
#include <string.h>

#include "flash_wgmma.cuh"
#include "runs.cuh"
#include "runs.h"

using namespace reattn_cuda;

/* The plan as it was given, to know it again. */
struct plan_key {
    reattn_run *runs; /* [n_run] of all lists */
    int64_t *counts;  /* [n_list] */
    float *q_scale;   /* [T], or NULL */
    int64_t n_run, T, n;
    int n_list, H, Hk, D;
};

struct reattn__cuda_runs {
    plan_key key;
    reattn__buffer key_memory;
    reattn__cuda_layout layout;
    bool set;
    cudaEvent_t uploaded; /* the image may be made anew */
    char *image;          /* device: the layout's, then q_scale */
    size_t image_room;
    int32_t *rows; /* device, one query: tokens [n_list][rows_most], then positions */
    size_t rows_room;
    int SMs;
    bool wgmma; /* many queries take the kernels of sm_90 */
};

namespace
{

enum { EXPAND_THREADS = 256 };

/* A thread takes a row. */
__global__ void expand_kernel(runs_view r, int64_t room, int32_t *tokens, int32_t *positions)
{
    const int list = blockIdx.y, row = blockIdx.x * EXPAND_THREADS + threadIdx.x;
    if (row >= r.rows[list])
        return;
    int token, position;
    find_row(r, list, row, token, position);
    tokens[list * room + row] = token;
    positions[list * room + row] = position;
}

size_t round_up(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

int take(void **at, size_t *room, size_t bytes, cudaStream_t stream, reattn_error *err)
{
    if (bytes <= *room)
        return REATTN_OK;
    void *more = NULL;
    int code = failed(cudaMalloc(&more, bytes + bytes / 4), "taking memory for a plan", err);
    if (code)
        return code;
    code = failed(cudaStreamSynchronize(stream), "a step", err); /* kernels may still use the old one */
    if (code) {
        cudaFree(more);
        return code;
    }
    cudaFree(*at);
    *at = more;
    *room = bytes + bytes / 4;
    return REATTN_OK;
}

bool same_plan(const plan_key *key, const reattn__cuda_given *plan)
{
    const reattn_run *runs = key->runs;
    for (int i = 0; i < plan->n_list; runs += plan->lists[i].n, i++) {
        if (key->counts[i] != plan->lists[i].n)
            return false;
        if (plan->lists[i].n && memcmp(runs, plan->lists[i].runs, sizeof *runs * (size_t)plan->lists[i].n))
            return false;
    }
    return !plan->q_scale == !key->q_scale &&
           (!plan->q_scale || !memcmp(plan->q_scale, key->q_scale, sizeof(float) * (size_t)key->T));
}

/* Copies the plan to where it is known again; without what says whose it is. */
int remember(reattn__cuda_runs *r, const reattn__cuda_given *plan, int64_t T, reattn_error *err)
{
    plan_key *key = &r->key;
    int64_t n = 0;
    for (int i = 0; i < plan->n_list; i++)
        n += plan->lists[i].n;
    const size_t runs = sizeof(reattn_run) * (size_t)n, counts = sizeof(int64_t) * (size_t)plan->n_list;
    char *at = (char *)reattn__buffer_need(&r->key_memory, runs + counts + sizeof(float) * (size_t)T);
    if (!at)
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory for a plan of %lld runs", (long long)n);
    key->runs = (reattn_run *)at, key->counts = (int64_t *)(at + runs), key->n_run = n;
    key->q_scale = plan->q_scale ? (float *)(at + runs + counts) : NULL;
    for (int i = 0; i < plan->n_list; i++) {
        memcpy(at, plan->lists[i].runs, sizeof(reattn_run) * (size_t)plan->lists[i].n);
        at += sizeof(reattn_run) * (size_t)plan->lists[i].n;
        key->counts[i] = plan->lists[i].n;
    }
    if (plan->q_scale)
        memcpy(key->q_scale, plan->q_scale, sizeof(float) * (size_t)T);
    return REATTN_OK;
}

/* What the kernels of a plan's layers have in common. */
attention shape_of(const reattn__cuda_runs *r)
{
    const plan_key *key = &r->key;
    attention a = {};
    a.lists = key->n_list, a.most = a.room = r->layout.rows_most, a.T = key->T, a.n = key->n, a.among = 1;
    a.H = key->H, a.Hk = key->Hk, a.g = key->H / key->Hk, a.D = key->D, a.rows = key->T * key->H;
    return a;
}

runs_view view_of(const reattn__cuda_runs *r)
{
    const reattn__cuda_layout *l = &r->layout;
    const char *host = (const char *)l->image.data;
    auto there = [&](const void *p) { return (const void *)(r->image + ((const char *)p - host)); };
    runs_view v = {};
    v.segment_first = (const int32_t *)there(l->segment_first), v.turn_first = (const int32_t *)there(l->turn_first);
    v.rows = (const int32_t *)there(l->rows), v.positions = (const int32_t *)there(l->positions);
    v.part_first = (const int32_t *)there(l->part_first);
    v.segments = (const reattn__cuda_segment *)there(l->segments), v.turns = (const reattn__cuda_turn *)there(l->turns);
    v.parts = (const reattn__cuda_part *)there(l->parts);
    v.q_factor = r->key.q_scale ? (const float *)(r->image + round_up(l->bytes)) : NULL;
    v.q_first = r->key.n - r->key.T, v.blocks = l->blocks, v.turns_most = l->turns_most;
    return v;
}

int upload(reattn__cuda_runs *r, cudaStream_t stream, reattn_error *err)
{
    const reattn__cuda_layout *l = &r->layout;
    const size_t factors = r->key.q_scale ? sizeof(float) * (size_t)r->key.T : 0;
    int code = take((void **)&r->image, &r->image_room, round_up(l->bytes) + factors, stream, err);
    if (code)
        return code;
    cudaError_t rc = cudaMemcpyAsync(r->image, l->image.data, l->bytes, cudaMemcpyHostToDevice, stream);
    if (rc == cudaSuccess && factors)
        rc = cudaMemcpyAsync(r->image + round_up(l->bytes), r->key.q_scale, factors, cudaMemcpyHostToDevice, stream);
    if (rc == cudaSuccess)
        rc = cudaEventRecord(r->uploaded, stream);
    code = failed(rc, "uploading a plan", err);
    if (code || r->key.T > 1 || l->rows_most == 0)
        return code;
    const int64_t room = l->rows_most;
    code = take((void **)&r->rows, &r->rows_room, 2 * sizeof(int32_t) * (size_t)(l->n_list * room), stream, err);
    if (code)
        return code;
    expand_kernel<<<dim3((unsigned)((room + EXPAND_THREADS - 1) / EXPAND_THREADS), l->n_list), EXPAND_THREADS, 0,
                    stream>>>(view_of(r), room, r->rows, r->rows + l->n_list * room);
    return failed(cudaGetLastError(), "writing out a plan", err);
}

int splits_of(const reattn__cuda_runs *r)
{
    const reattn__cuda_layout *l = &r->layout;
    if (r->key.T == 1)
        return l->n_cut > 0 ? l->n_cut : 1;
    const int64_t blocks = (int64_t)l->blocks * r->key.Hk;
    if (r->wgmma)
        return wide_splits(blocks, l->tiles_most, r->key.T * r->key.H, r->key.D, r->SMs);
    return flash_splits(blocks, l->tiles_most, r->SMs);
}

int set_up(const reattn__cuda_runs_args *args, attention *a, size_t *bytes, reattn_error *err)
{
    const reattn__cuda_runs *r = args->runs;
    if (!r->set || args->n_rot < 0 || args->n_rot > r->key.D || args->n_rot % 2)
        return reattn__fail(err, REATTN_E_ARG, "attention over a plan that was not set, or rotating %d values",
                            args->n_rot);
    const int splits = splits_of(r);
    if (splits > SPLITS_MAX)
        return reattn__fail(
            err, REATTN_E_UNSUPPORTED,
            "a query is rotated in %d ways, on a GPU in at most %d: the option that says how long chunks "
            "or groups are is too small for this text",
            splits, (int)SPLITS_MAX);
    *a = shape_of(r);
    a->q = args->q, a->k = (const uint16_t *)args->k, a->v = (const uint16_t *)args->v, a->type = args->type;
    a->neox = args->neox, a->n_rot = args->n_rot, a->scale = args->scale, a->splits = splits;
    a->out = args->out, a->lse = args->lse;
    a->out_stride_token = args->out_stride_token, a->out_stride_head = args->out_stride_head;
    char *at = (char *)args->work;
    auto place_next = [&](size_t size) {
        char *here = at;
        at += round_up(size);
        return here;
    };
    a->wgmma = r->wgmma && r->key.T > 1;
    if (!a->wgmma || a->splits > 1) {
        a->ml = (float2 *)place_next(sizeof(float2) * a->splits * a->rows);
        a->o = (float *)place_next(sizeof(float) * a->splits * a->rows * a->D);
    }
    if (r->key.n_list > 1)
        a->cs_of = (const float *const *)place_next(sizeof(float *) * r->key.n_list);
    if (r->key.T > 1) {
        a->q_scale = (float *)place_next(sizeof(float) * a->rows);
        a->q_turned = (uint16_t *)place_next(sizeof(uint16_t) * r->layout.turns_most * a->rows * a->D);
        a->k_turned = (uint16_t *)place_next(sizeof(uint16_t) * a->Hk * a->most * a->D);
    }
    *bytes = (size_t)(at - (char *)args->work);
    return REATTN_OK;
}

} // namespace

extern "C" int reattn__cuda_runs_create(reattn__cuda_runs **out, reattn_error *err)
{
    int device = 0;
    reattn__cuda_runs *r = (reattn__cuda_runs *)calloc(1, sizeof *r);
    if (!r)
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    cudaError_t found = cudaGetDevice(&device);
    if (found == cudaSuccess)
        found = cudaDeviceGetAttribute(&r->SMs, cudaDevAttrMultiProcessorCount, device);
    if (found == cudaSuccess)
        found = know_wgmma(device, &r->wgmma);
    if (found == cudaSuccess)
        found = cudaEventCreateWithFlags(&r->uploaded, cudaEventDisableTiming);
    const int code = failed(found, "looking at the device", err);
    if (code)
        free(r);
    else
        *out = r;
    return code;
}

extern "C" void reattn__cuda_runs_free(reattn__cuda_runs *r)
{
    if (!r)
        return;
    cudaEventDestroy(r->uploaded);
    cudaFree(r->image);
    cudaFree(r->rows);
    reattn__cuda_layout_free(&r->layout);
    reattn__buffer_free(&r->key_memory);
    free(r);
}

extern "C" uint64_t reattn__cuda_runs_bytes(const reattn__cuda_runs *r)
{
    return r->image_room + r->rows_room;
}

extern "C" int reattn__cuda_runs_set(reattn__cuda_runs *r, const reattn__cuda_given *plan, int64_t T, int64_t n, int H,
                                     int Hk, int D, void *stream, reattn_error *err)
{
    plan_key *key = &r->key;
    if (r->set && key->T == T && key->n == n && key->H == H && key->Hk == Hk && key->D == D &&
        key->n_list == plan->n_list && same_plan(key, plan))
        return REATTN_OK;
    if ((D != 64 && D != 96 && D != 128 && D != 256) || Hk < 1 || H < Hk || H % Hk || T < 1 || n < T ||
        n >= INT32_MAX / 2 || T * H > INT32_MAX / 2 || (plan->n_list != 1 && plan->n_list != Hk))
        return reattn__fail(err, REATTN_E_ARG,
                            "%lld queries of %d/%d heads of %d over %lld tokens in %d lists: out of range",
                            (long long)T, H, Hk, D, (long long)n, plan->n_list);
    r->set = false;
    int code = failed(cudaEventSynchronize(r->uploaded), "uploading a plan", err); /* of the one before */
    if (code == REATTN_OK)
        code = remember(r, plan, T, err);
    if (code)
        return code;
    key->T = T, key->n = n, key->H = H, key->Hk = Hk, key->D = D, key->n_list = plan->n_list;
    reattn__cuda_layout_args args = {plan->lists, plan->n_list, T, n, H / Hk, flash_rows(D), flash_keys(D), 0};
    if (r->wgmma)
        args.rows = wide_rows(D), args.tile = wide_keys(D);
    if (T == 1)
        args.cuts = few_splits(shape_of(r), r->SMs);
    code = reattn__cuda_layout_make(&r->layout, &args, err);
    if (code == REATTN_OK)
        code = upload(r, (cudaStream_t)stream, err);
    r->set = code == REATTN_OK;
    return code;
}

extern "C" int64_t reattn__cuda_runs_positions(const reattn__cuda_runs *r, int list)
{
    return r->layout.positions[list];
}

extern "C" int64_t reattn__cuda_runs_seen(const reattn__cuda_runs *r)
{
    return r->layout.seen;
}

extern "C" size_t reattn__cuda_runs_scratch(const reattn__cuda_runs_args *args)
{
    attention a;
    size_t bytes;
    return set_up(args, &a, &bytes, NULL) ? 0 : bytes;
}

extern "C" int reattn__cuda_runs_attend(const reattn__cuda_runs_args *args, void *on, reattn_error *err)
{
    const reattn__cuda_runs *r = args->runs;
    cudaStream_t stream = (cudaStream_t)on;
    attention a;
    size_t bytes;
    int code = set_up(args, &a, &bytes, err);
    if (code)
        return code;
    if (args->work_bytes < bytes)
        return reattn__fail(err, REATTN_E_ARG, "attention needs %zu bytes of scratch, %zu were given", bytes,
                            args->work_bytes);
    const runs_view v = view_of(r);
    if (!a.cs_of)
        a.cs = args->cs[0];
    else
        code = failed(cudaMemcpyAsync((void *)a.cs_of, args->cs, sizeof *args->cs * r->key.n_list,
                                      cudaMemcpyHostToDevice, stream),
                      "uploading a plan", err);
    if (code)
        return code;
    if (r->key.T > 1) {
        code = failed(launch_runs_turn(a, v, stream), "rotating keys and queries", err);
        if (code == REATTN_OK)
            code = failed(a.wgmma ? launch_runs_wgmma(a, v, stream) : launch_runs(a, v, stream), "attention", err);
    } else {
        const char *host = (const char *)r->layout.image.data;
        a.tokens = r->rows, a.positions = r->rows + (int64_t)r->key.n_list * a.room, a.count = v.rows, a.original = 1;
        a.cuts = (const reattn__cuda_cut *)(r->image + ((const char *)r->layout.cuts - host));
        a.scale *= r->key.q_scale ? r->key.q_scale[0] : 1.0f;
        code = failed(launch_few(&a, 1, stream), "attention", err);
    }
    if (code || (a.wgmma && a.splits == 1))
        return code;
    return failed(launch_join(&a, 1, stream), "joining partial attention", err);
}
