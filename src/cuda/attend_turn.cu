/* attend_turn.cu - before attention of many queries: keys of the scope and queries are rotated once, into scratch. */
#include "attend_turn.cuh"

using namespace reattn_cuda;

namespace
{

/* A thread takes eight pairs of a key of the scope; those of a KV head follow each other. */
template <int KIND> __device__ void turn_key(const attention &a, int hk, int64_t thread)
{
    const int per = a.D / 16, first = (int)(thread % per) * 8;
    const int64_t i = thread / per;
    if (i >= scope_count(a, hk))
        return;
    const int64_t token = scope_token(a, hk, (int)i);
    float u[8], w[8];
    read_pairs<KIND>(a, a.k + (token * a.Hk + hk) * a.D, first, u, w);
    rotate_pairs(a, a.cs + (a.original ? key_position(a, hk, (int)i) : i) * a.D + first, u, w);
    write_pairs<KIND>(a, a.k_turned + (hk * a.most + i) * a.D, first, u, w);
}

/* A thread takes eight pairs of a query row; all threads of a warp come. */
template <int KIND> __device__ void turn_query(const attention &a, int64_t thread)
{
    const int lanes = lanes_of_row(a.D), first = (int)(thread % lanes) * 8;
    const int64_t at = thread / lanes;
    const bool there = at < a.rows && first < a.D / 2;
    float u[8], w[8], most = 0;
    if (there) {
        const int per_head = (int)a.T * a.g, hk = (int)at / per_head, in_head = (int)at % per_head, t = in_head / a.g;
        read_pairs(a, a.q + ((int64_t)t * a.H + hk * a.g + in_head % a.g) * a.D, first, u, w);
        rotate_pairs(a, a.cs + query_position(a, scope_count(a, hk), t) * a.D + first, u, w);
        most = largest_of(u, w);
    }
    const float size = row_size(largest_of_row(most, lanes));
    if (!there)
        return;
#pragma unroll
    for (int i = 0; i < 8; i++)
        u[i] /= size, w[i] /= size;
    write_pairs<KIND>(a, a.q_turned + at * a.D, first, u, w);
    if (first == 0)
        a.q_scale[at] = size * (a.scale * LOG2_E);
}

/* Blocks of one key's heads follow each other, so that its rotations are read from memory once. */
template <int KIND> __global__ void __launch_bounds__(TURN_THREADS) turn_kernel(const __grid_constant__ attention a)
{
    const unsigned query_blocks = blocks_for(a.rows * lanes_of_row(a.D));
    wait_for_previous();
    let_next_start();
    if (blockIdx.x < query_blocks) {
        turn_query<KIND>(a, (int64_t)blockIdx.x * TURN_THREADS + threadIdx.x);
        return;
    }
    const unsigned at = blockIdx.x - query_blocks;
    turn_key<KIND>(a, (int)(at % a.Hk), (int64_t)(at / a.Hk) * TURN_THREADS + threadIdx.x);
}

} // namespace

cudaError_t reattn_cuda::launch_turn(const attention &a, cudaStream_t stream)
{
    const int64_t blocks = blocks_for(a.rows * lanes_of_row(a.D)) + (int64_t)blocks_for(a.most * (a.D / 16)) * a.Hk;
    if (blocks > INT32_MAX)
        return cudaErrorInvalidValue;
    return launch_next(a.type == F16 ? turn_kernel<F16> : turn_kernel<BF16>, (unsigned)blocks, TURN_THREADS, 0, stream,
                       a);
}
