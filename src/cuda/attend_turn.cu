/* attend_turn.cu - before attention of many queries: keys of the scope and queries are rotated once, into scratch, in
 * the type of the store. What makes logarithms to base 2 of scores is multiplied into a query row, which then is scaled
 * to 1 .. 2 by a power of two before it is rounded: no size of it overflows, and giving the scale back is exact. */
#include "attend_mma.cuh"

using namespace reattn_cuda;

namespace
{

enum { TURN_THREADS = 256, ROWS_OF_BLOCK = TURN_THREADS / WARP };

/* A thread takes eight pairs of a key of the scope; those of a KV head follow each other. */
template <int KIND> __device__ void turn_key(const attention &a, int hk, int64_t at)
{
    const int per = a.D / 16;
    const int64_t i = at / per;
    if (i >= scope_count(a, hk))
        return;
    const int64_t token = scope_token(a, hk, (int)i);
    turn_pairs<KIND>(a, a.k + (token * a.Hk + hk) * a.D, a.cs + (a.original ? token : i) * a.D,
                     a.k_turned + (hk * a.most + i) * a.D, (int)(at % per) * 8);
}

/* A warp takes a query row. */
template <int KIND> __device__ void turn_query(const attention &a, int64_t at)
{
    const int lane = threadIdx.x % WARP, half = a.D / 2;
    if (at >= a.rows)
        return;
    const int64_t per_head = a.T * a.g, hk = at / per_head, t = at % per_head / a.g;
    const float *q = a.q + (t * a.H + hk * a.g + at % a.g) * a.D;
    const float *cs = a.cs + query_position(a, scope_count(a, (int)hk), t) * a.D;
    const float scale = a.scale * LOG2_E;
    float most = 0, x[4], y[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int p = i * WARP + lane;
        if (p >= half)
            break;
        const int from = pair_first(a, p);
        const float u = q[from], w = q[from + pair_step(a, p)], c = cs[p], s = cs[half + p];
        x[i] = (u * c - w * s) * scale;
        y[i] = (u * s + w * c) * scale;
        most = fmaxf(most, fmaxf(fabsf(x[i]), fabsf(y[i])));
    }
    const float size = fminf(row_size(warp_max(most)), 0x1p90f), inverse = 1 / size; /* so that size * score is finite */
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int p = i * WARP + lane;
        if (p >= half)
            break;
        const int from = pair_first(a, p);
        a.q_turned[at * a.D + from] = narrow<KIND>(x[i] * inverse);
        a.q_turned[at * a.D + from + pair_step(a, p)] = narrow<KIND>(y[i] * inverse);
    }
    if (lane == 0)
        a.q_scale[at] = size;
}

template <int KIND> __global__ void __launch_bounds__(TURN_THREADS) turn_kernel(const __grid_constant__ attention a)
{
    const unsigned query_blocks = (unsigned)((a.rows + ROWS_OF_BLOCK - 1) / ROWS_OF_BLOCK);
    wait_for_previous();
    let_next_start();
    if (blockIdx.x < query_blocks) {
        turn_query<KIND>(a, (int64_t)blockIdx.x * ROWS_OF_BLOCK + threadIdx.x / WARP);
        return;
    }
    const unsigned per_head = (unsigned)((a.most * (a.D / 16) + TURN_THREADS - 1) / TURN_THREADS);
    const unsigned at = blockIdx.x - query_blocks;
    turn_key<KIND>(a, (int)(at / per_head), (int64_t)(at % per_head) * TURN_THREADS + threadIdx.x);
}

} // namespace

cudaError_t reattn_cuda::launch_turn(const attention &a, cudaStream_t stream)
{
    const int64_t query_blocks = (a.rows + ROWS_OF_BLOCK - 1) / ROWS_OF_BLOCK;
    const int64_t key_blocks = (a.most * (a.D / 16) + TURN_THREADS - 1) / TURN_THREADS * a.Hk;
    if (query_blocks + key_blocks > INT32_MAX)
        return cudaErrorInvalidValue;
    return launch_next(a.type == F16 ? turn_kernel<F16> : turn_kernel<BF16>, (unsigned)(query_blocks + key_blocks),
                       TURN_THREADS, 0, stream, a);
}
