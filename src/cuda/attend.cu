/* attend.cu - attention over a scope: checks, scratch, which kernels, and the joining of partial states. */
#include "attend.cuh"

using namespace reattn_cuda;

namespace
{

enum { JOIN_WARPS = 16, MANY_ROWS = 1024 };

/* A block takes a row, a warp some of its parts. */
template <int D, int WARPS>
__global__ void __launch_bounds__(WARPS *WARP) join_kernel(const __grid_constant__ batch<attention> all)
{
    const attention &a = of_session(all);
    __shared__ float weight[SPLITS_MAX], sums[WARPS][D], tops[WARPS], totals[WARPS];
    const int64_t row = blockIdx.x;
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    float top = -INFINITY, total = 0;
    wait_for_previous();
    let_next_start();
    for (int i = threadIdx.x; i < a.splits; i += WARPS * WARP)
        top = fmaxf(top, a.ml[i * a.rows + row].x);
    for (int i = WARP / 2; i > 0; i /= 2)
        top = fmaxf(top, __shfl_xor_sync(ALL, top, i));
    if (lane == 0)
        tops[warp] = top;
    __syncthreads();
    for (int i = 0; i < WARPS; i++)
        top = fmaxf(top, tops[i]);
    for (int i = threadIdx.x; i < a.splits; i += WARPS * WARP) {
        const float2 ml = a.ml[i * a.rows + row];
        weight[i] = top > -INFINITY ? exp2f(ml.x - top) : 0.0f;
        total += weight[i] * ml.y;
    }
    for (int i = WARP / 2; i > 0; i /= 2)
        total += __shfl_xor_sync(ALL, total, i);
    if (lane == 0)
        totals[warp] = total;
    __syncthreads();
    total = 0;
    for (int i = 0; i < WARPS; i++)
        total += totals[i];
    constexpr int PER = (D / 4 + WARP - 1) / WARP;
    float4 sum[PER];
#pragma unroll
    for (int c = 0; c < PER; c++)
        sum[c] = {0, 0, 0, 0};
#pragma unroll 4
    for (int i = warp; i < a.splits; i += WARPS)
#pragma unroll
        for (int c = 0; c < PER; c++)
            if (c * WARP + lane < D / 4) {
                const float4 x = *(const float4 *)(a.o + (i * a.rows + row) * D + (c * WARP + lane) * 4);
                const float w = weight[i];
                sum[c].x += w * x.x, sum[c].y += w * x.y, sum[c].z += w * x.z, sum[c].w += w * x.w;
            }
#pragma unroll
    for (int c = 0; c < PER; c++)
        if (c * WARP + lane < D / 4)
            *(float4 *)(sums[warp] + (c * WARP + lane) * 4) = sum[c];
    __syncthreads();
    for (int d = threadIdx.x; d < D; d += WARPS * WARP) {
        float x = 0;
        for (int i = 0; i < WARPS; i++)
            x += sums[i][d];
        a.out[row / a.H * a.out_stride_token + row % a.H * a.out_stride_head + d] = total > 0 ? x / total : 0.0f;
    }
    if (threadIdx.x == 0 && a.lse)
        a.lse[row] = total > 0 ? (top + log2f(total)) / LOG2_E : -INFINITY;
}

template <int D> cudaError_t join(const attention *a, int n, cudaStream_t stream)
{
    if (a->splits > 4 && a->rows < MANY_ROWS)
        return launch_batch(join_kernel<D, JOIN_WARPS>, (unsigned)a->rows, JOIN_WARPS * WARP, 0, stream, a, n);
    return launch_batch(join_kernel<D, 1>, (unsigned)a->rows, WARP, 0, stream, a, n);
}

} // namespace

cudaError_t reattn_cuda::launch_join(const attention *a, int n, cudaStream_t stream)
{
    return for_head_size(a->D, [&](auto size) { return join<decltype(size)::value>(a, n, stream); });
}

namespace
{

int check(const reattn__cuda_attend_args *a, reattn_error *err)
{
    if (a->D != 64 && a->D != 96 && a->D != 128 && a->D != 256)
        return reattn__fail(err, REATTN_E_UNSUPPORTED, "heads of %d values: the CUDA kernels know 64, 96, 128 and 256",
                            a->D);
    if (a->Hk < 1 || a->H < 1 || a->H % a->Hk)
        return reattn__fail(err, REATTN_E_ARG, "%d query heads are no multiple of %d KV heads", a->H, a->Hk);
    if (a->T < 1 || a->scope.most < a->T || a->n < a->T || a->n > INT32_MAX || a->scope.most > a->n ||
        (a->scope.lists != 1 && a->scope.lists != a->Hk) || a->n_rot < 0 || a->n_rot > a->D || a->n_rot % 2 ||
        !a->scope.tokens != !a->scope.count || (int64_t)a->T * a->H > INT32_MAX / 2 || a->scope.sure < 0 ||
        a->scope.sure > a->scope.most)
        return reattn__fail(err, REATTN_E_ARG, "%lld queries over %lld of %lld tokens in %d lists: out of range",
                            (long long)a->T, (long long)a->scope.most, (long long)a->n, a->scope.lists);
    return REATTN_OK;
}

int set_up(const reattn__cuda_attend_args *args, attention *a, size_t *bytes, reattn_error *err)
{
    bool wgmma;
    int device, SMs, code = check(args, err);
    if (code)
        return code;
    cudaError_t found = cudaGetDevice(&device);
    if (found == cudaSuccess)
        found = cudaDeviceGetAttribute(&SMs, cudaDevAttrMultiProcessorCount, device);
    if (found == cudaSuccess)
        found = know_wgmma(device, &wgmma);
    code = failed(found, "looking at the device", err);
    if (code)
        return code;
    const reattn__cuda_scope *scope = &args->scope;
    *a = attention{};
    a->q = args->q, a->cs = args->cs, a->k = (const uint16_t *)args->k, a->v = (const uint16_t *)args->v;
    a->tokens = scope->tokens, a->count = scope->count, a->room = scope->room, a->lists = scope->lists;
    a->alike = scope->alike, a->ring = scope->ring;
    a->held = scope->ring ? scope->rows : args->n;
    a->head = scope->tokens ? 0 : scope->head, a->skip = scope->skip, a->most = scope->most,
    a->original = scope->original, a->positions = scope->positions;
    if (scope->tokens && args->T == 1) {
        a->early = (int)scope->sure;
        a->likely = scope->ring ? NULL : scope->likely, a->n_likely = scope->n_likely,
        a->likely_room = scope->likely_room;
    }
    a->T = args->T, a->n = args->n, a->rows = args->T * args->H, a->type = args->type, a->H = args->H, a->Hk = args->Hk;
    a->g = args->H / args->Hk, a->D = args->D, a->neox = args->neox, a->n_rot = args->n_rot, a->scale = args->scale;
    a->out = args->out, a->lse = args->lse;
    a->out_stride_token = args->out_stride_token, a->out_stride_head = args->out_stride_head;
    a->wgmma = wgmma && args->T > 1;
    a->among = REATTN__MAX(args->among, 1);
    const int splits = args->T == 1 ? few_splits(*a, SMs) : wgmma ? wgmma_attend_splits(*a, SMs) : many_splits(*a, SMs);
    a->splits = REATTN__MIN(splits, (int)SPLITS_MAX);
    char *at = (char *)args->work;
    auto take = [&](size_t size) {
        char *here = at;
        at += (size + 255) / 256 * 256;
        return here;
    };
    if (!a->wgmma || a->splits > 1) {
        a->ml = (float2 *)take(sizeof(float2) * a->splits * a->rows);
        a->o = (float *)take(sizeof(float) * a->splits * a->rows * a->D);
    }
    if (args->T > 1) {
        a->q_scale = (float *)take(sizeof(float) * a->rows);
        a->q_turned = (uint16_t *)take(sizeof(uint16_t) * a->rows * a->D);
        a->k_turned = (uint16_t *)take(sizeof(uint16_t) * a->Hk * a->most * a->D);
    }
    *bytes = (size_t)(at - (char *)args->work);
    return REATTN_OK;
}

} // namespace

extern "C" size_t reattn__cuda_attend_bytes(const reattn__cuda_attend_args *args)
{
    attention a;
    size_t bytes;
    return set_up(args, &a, &bytes, NULL) ? 0 : bytes;
}

/* One query; if its scope is being made, with last tokens to begin with. */
static bool can_share(const reattn__cuda_attend_args *a)
{
    return a->T == 1 && a->among > 1 && (!a->scope.tokens || a->scope.sure > 0) && !a->scope.positions;
}

extern "C" bool reattn__cuda_attend_together(const reattn__cuda_attend_args *a, const reattn__cuda_attend_args *b)
{
    return can_share(a) && can_share(b) && a->type == b->type && a->H == b->H && a->Hk == b->Hk && a->D == b->D &&
           !a->scope.tokens == !b->scope.tokens && a->scope.lists == b->scope.lists &&
           a->scope.alike == b->scope.alike && a->among == b->among;
}

extern "C" int reattn__cuda_attend_many(const reattn__cuda_attend_args *args, int n, void *stream, reattn_error *err)
{
    attention a[MANY];
    cudaStream_t on = (cudaStream_t)stream;
    if (n < 1 || n > MANY)
        return reattn__fail(err, REATTN_E_ARG, "%d queries in one launch: 1 to %d", n, (int)MANY);
    for (int i = 0; i < n; i++) {
        size_t bytes;
        const int code = set_up(&args[i], &a[i], &bytes, err);
        if (code)
            return code;
        if (n > 1 && !reattn__cuda_attend_together(&args[0], &args[i]))
            return reattn__fail(err, REATTN_E_ARG, "queries 0 and %d of %d are not alike", i, n);
        if (args[i].work_bytes < bytes)
            return reattn__fail(err, REATTN_E_ARG, "attention needs %zu bytes of scratch, %zu were given", bytes,
                                args[i].work_bytes);
    }
    int code = REATTN_OK;
    if (args->T > 1)
        code = failed(launch_turn(*a, on), "rotating keys and queries", err);
    if (code == REATTN_OK)
        code = failed(args->T == 1 ? launch_few(a, n, on)
                      : a->wgmma   ? launch_many_wgmma(*a, on)
                                   : launch_many(*a, on),
                      "attention", err);
    if (code || (a->wgmma && a->splits == 1))
        return code;
    return failed(launch_join(a, n, on), "joining partial attention", err);
}

extern "C" int reattn__cuda_attend(const reattn__cuda_attend_args *args, void *stream, reattn_error *err)
{
    return reattn__cuda_attend_many(args, 1, stream, err);
}
