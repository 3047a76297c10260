/* append.cu - what a step brings goes where it is needed: one kernel, its blocks in two parts. The first copy rows; a
 * warp of the others takes a query row of the window and scores the keys that newly fell into the middle by the law. */
#include "scan.cuh"
#include "store.h"

using namespace reattn_cuda;

namespace
{

enum { THREADS = 256, WARPS = THREADS / WARP, FEW_KEYS = 4, D_MAX = 256, PER = D_MAX / WARP };

struct task {
    reattn__cuda_tensor q, k, v;
    int64_t T, n, forget;
    int H, Hk, D, type, number;
    uint16_t *k_out, *v_out;   /* of token n on */
    uint16_t *k_near, *v_near; /* of a tier, or NULL */
    unsigned ring, keep;       /* of it */
    float *q_out, *remember;
    int *bad;
    /* the window */
    const uint16_t *keys; /* of the middle; or, if wrap is not 0, where token t is in row t % wrap */
    int64_t first;        /* token of the middle */
    unsigned wrap;
    const float *x;
    reattn_hit *hits, *none;
    int64_t rows, skip, from, upto;
    int top_k;
    unsigned copy_blocks;
};

/* A row: a lane gets values lane, lane + 32, ... */
__device__ void read(const reattn__cuda_tensor &x, int64_t t, int head, int D, int lane, float (&y)[PER])
{
    const int64_t at = t * x.stride_token + head * x.stride_head + lane;
    if (x.half)
#pragma unroll
        for (int i = 0; i < PER; i++)
            y[i] = i * WARP + lane < D ? __half2float(((const __half *)x.data)[at + i * WARP]) : 0.0f;
    else
#pragma unroll
        for (int i = 0; i < PER; i++)
            y[i] = i * WARP + lane < D ? ((const float *)x.data)[at + i * WARP] : 0.0f;
}

/* A warp takes a row: keys, then values, then queries. What the store holds is always finite. */
__device__ void copy_rows(const task &s)
{
    const int lane = threadIdx.x % WARP, step = s.copy_blocks * WARPS;
    const int key_rows = (int)s.T * s.Hk, rows = 2 * key_rows + (int)s.T * s.H;
#pragma unroll 1
    for (int i = blockIdx.x * WARPS + threadIdx.x / WARP; i < rows; i += step) {
        const int what = i >= 2 * key_rows ? 1 : i < key_rows ? 2 : 3; /* query, key, value */
        const int row = what == 1 ? i - 2 * key_rows : what == 2 ? i : i - key_rows, heads = what == 1 ? s.H : s.Hk;
        const int64_t t = row / heads;
        float x[PER];
        read(what == 1 ? s.q : what == 2 ? s.k : s.v, t, row % heads, s.D, lane, x);
        float *q = s.q_out + (int64_t)row * s.D;
        float *also = what == 1 && s.remember && t >= s.forget ? s.remember + (row - s.forget * s.H) * s.D : NULL;
        uint16_t *kv = (what == 2 ? s.k_out : s.v_out) + (int64_t)row * s.D, *near = NULL, *first = NULL;
        if (what != 1 && s.k_near) {
            const unsigned token = (unsigned)(s.n + t), head = (unsigned)(row % heads);
            uint16_t *rows = what == 2 ? s.k_near : s.v_near;
            near = rows + ((int64_t)(token % s.ring) * s.Hk + head) * s.D;
            first = token < s.keep ? rows + ((int64_t)(s.ring + token) * s.Hk + head) * s.D : NULL;
        }
        if (what == 1 && s.none && lane < s.top_k)
            s.none[(int64_t)row * s.top_k + lane] = {-1, 0};
        bool bad = false;
#pragma unroll
        for (int j = 0; j < PER; j++) {
            const int d = j * WARP + lane;
            if (d >= s.D)
                break;
            if (what == 1) {
                bad |= !isfinite(x[j]);
                q[d] = x[j];
                if (also)
                    also[d] = x[j];
                continue;
            }
            uint16_t bits = s.type == F16 ? __half_as_ushort(__float2half_rn(x[j]))
                                          : __bfloat16_as_ushort(__float2bfloat16_rn(x[j]));
            if (!isfinite(load_value(&bits, s.type, 0))) {
                bad = true;
                bits = 0;
            }
            kv[d] = bits;
            if (near)
                near[d] = bits;
            if (first)
                first[d] = bits;
        }
        if (bad) {
            *s.bad = 4 * s.number + what;
            __threadfence_system();
        }
    }
}

/* Where a key of the middle is, in rows. */
__device__ __forceinline__ int64_t row_of(const task &s, int64_t key)
{
    return s.wrap ? (unsigned)(s.first + key) % s.wrap : key;
}

/* As `law` in scan.cuh: float64, in order of d. */
__device__ double score_of(const task &s, const float *q, int hk, int64_t key)
{
    const uint4 *k = (const uint4 *)(s.keys + (row_of(s, key) * s.Hk + hk) * s.D);
    double sum = 0.0;
#pragma unroll 1
    for (int d = 0; d < s.D; d += 32, k += 4) {
        const uint4 raw[4] = {__ldg(k), __ldg(k + 1), __ldg(k + 2), __ldg(k + 3)};
        const float4 *from = (const float4 *)(q + d);
        float x[32];
#pragma unroll
        for (int i = 0; i < 8; i++)
            *(float4 *)(x + 4 * i) = from[i];
#pragma unroll
        for (int i = 0; i < 32; i++)
            sum = fma((double)x[i], (double)load_value(raw, s.type, i), sum);
    }
    return sum;
}

/* The same by a whole warp: products side by side, they are exact in float64; then their sum in order. */
__device__ double score_together(const task &s, const float *q, int hk, int64_t key, double *products, int lane)
{
    const int64_t row = (row_of(s, key) * s.Hk + hk) * s.D;
    __syncwarp();
#pragma unroll
    for (int i = 0; i < D_MAX / WARP; i++) {
        const int d = i * WARP + lane;
        if (d < s.D)
            products[d] = (double)q[d] * (double)load_value(s.keys, s.type, row + d);
    }
    __syncwarp();
    double sum = 0.0;
#pragma unroll 8
    for (int d = 0; d < s.D; d++)
        sum += products[d];
    return sum;
}

__device__ void catch_up(const task &s, int64_t row)
{
    const int lane = threadIdx.x % WARP, hk = (int)(row % s.H) / (s.H / s.Hk);
    if (row >= s.rows || row / s.H == s.skip)
        return;
    reattn_hit *hits = s.hits + row * s.top_k;
    warp_top top;
    top.clear();
    if (lane < s.top_k) {
        const reattn_hit hit = hits[lane];
        top.pos = (int)hit.pos;
        top.score = top.pos < 0 ? -INFINITY : hit.score;
    }
    bool changed = false;
    auto learn = [&](double score, int64_t key) {
        if (!top.takes(score, (int)key, s.top_k))
            return;
        top.insert(score, (int)key, lane);
        changed = true;
    };
    if (s.upto - s.from <= FEW_KEYS) {
        __shared__ double products[WARPS][D_MAX];
#pragma unroll 1
        for (int64_t key = s.from; key < s.upto; key++)
            learn(score_together(s, s.x + row * s.D, hk, key, products[threadIdx.x / WARP], lane), key);
    } else {
#pragma unroll 1
        for (int64_t base = s.from; base < s.upto; base += WARP) {
            const int64_t key = base + lane;
            const double mine = key < s.upto ? score_of(s, s.x + row * s.D, hk, key) : 0.0;
#pragma unroll 1
            for (int i = 0; i < WARP && base + i < s.upto; i++)
                learn(__shfl_sync(ALL, mine, i), base + i);
        }
    }
    if (changed)
        top.write(hits, s.top_k, lane);
}

__global__ void __launch_bounds__(THREADS) append_kernel(const __grid_constant__ batch<task> all)
{
    const task &s = of_session(all);
    wait_for_previous();
    let_next_start();
    if (blockIdx.x < s.copy_blocks)
        copy_rows(s);
    else
        catch_up(s, (int64_t)(blockIdx.x - s.copy_blocks) * WARPS + threadIdx.x / WARP);
}

task task_of(const reattn__cuda_append_args *a)
{
    const reattn__cuda_layer *l = a->layer;
    task s = {};
    s.q = a->q, s.k = a->k, s.v = a->v, s.T = a->T, s.n = l->n, s.forget = a->forget;
    s.H = a->H, s.Hk = l->Hk, s.D = l->D, s.type = l->type, s.number = a->number;
    s.k_out = (uint16_t *)l->k.at + l->n * l->Hk * l->D;
    s.v_out = (uint16_t *)l->v.at + l->n * l->Hk * l->D;
    if (l->tier) {
        s.k_near = (uint16_t *)l->tier->k, s.v_near = (uint16_t *)l->tier->v;
        s.ring = (unsigned)l->tier->ring, s.keep = (unsigned)l->tier->keep;
    }
    s.q_out = a->q_out, s.remember = a->remember, s.bad = a->bad, s.none = a->none, s.top_k = a->top_k;
    const int64_t rows = a->T * (2 * l->Hk + a->H);
    s.copy_blocks = (unsigned)REATTN__MIN((rows + WARPS - 1) / WARPS, (int64_t)1024);
    if (a->window && a->window->n > 0 && a->upto > a->window->upto) {
        s.keys = (const uint16_t *)l->k.at + l->first * l->Hk * l->D;
        if (l->tier && l->first + a->window->upto >= l->tier->from) /* they are near */
            s.keys = (const uint16_t *)l->tier->k, s.first = l->first, s.wrap = (unsigned)l->tier->ring;
        s.x = a->window->x, s.hits = a->window->hits, s.rows = a->window->n * a->H, s.skip = a->skip;
        s.from = a->window->upto, s.upto = a->upto;
    }
    return s;
}

} // namespace

extern "C" int reattn__cuda_append(const reattn__cuda_append_args *a, void *stream, reattn_error *err)
{
    return reattn__cuda_append_many(a, 1, stream, err);
}

extern "C" int reattn__cuda_append_many(const reattn__cuda_append_args *a, int n, void *stream, reattn_error *err)
{
    task s[MANY];
    unsigned blocks = 0;
    cudaStream_t on = (cudaStream_t)stream;
    if (n < 1 || n > MANY)
        return reattn__fail(err, REATTN_E_ARG, "%d steps in one launch: 1 to %d", n, (int)MANY);
    for (int i = 0; i < n; i++) {
        s[i] = task_of(&a[i]);
        blocks = REATTN__MAX(blocks, s[i].copy_blocks + (unsigned)((s[i].rows + WARPS - 1) / WARPS));
    }
    return failed(launch_batch(append_kernel, blocks, THREADS, 0, on, s, n), "storing a step", err);
}
