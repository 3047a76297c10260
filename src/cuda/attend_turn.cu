/* attend_turn.cu - before attention of many queries: keys of the scope and queries are rotated once, into scratch, in
 * the type of the store. A query row is scaled to 1 .. 2 before it is rounded, so that no size of it overflows. */
#include "attend_mma.cuh"

using namespace reattn_cuda;

namespace
{

enum { TURN_THREADS = 256 };

__host__ __device__ __forceinline__ unsigned blocks_for(int64_t threads)
{
    return (unsigned)((threads + TURN_THREADS - 1) / TURN_THREADS);
}

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

/* Lanes that have a row of queries, eight pairs each: a power of two, so that some may have none. */
__host__ __device__ __forceinline__ int lanes_of_row(int D)
{
    return D <= 64 ? 4 : D <= 128 ? 8 : 16;
}

/* Eight pairs of a query, wherever they lie. */
__device__ __forceinline__ void read_pairs(const attention &a, const float *q, int first, float (&u)[8], float (&w)[8])
{
    if (!pairs_aligned(a)) {
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const int x = pair_first(a, first + i);
            u[i] = q[x];
            w[i] = q[x + pair_step(a, first + i)];
        }
        return;
    }
    const int x_at = pair_first(a, first), y_at = a.neox ? x_at + pair_step(a, first) : x_at + 8;
    float x[8], y[8];
    *(float4 *)x = *(const float4 *)(q + x_at), *(float4 *)(x + 4) = *(const float4 *)(q + x_at + 4);
    *(float4 *)y = *(const float4 *)(q + y_at), *(float4 *)(y + 4) = *(const float4 *)(q + y_at + 4);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        u[i] = a.neox ? x[i] : i < 4 ? x[2 * i] : y[2 * i - 8];
        w[i] = a.neox ? y[i] : i < 4 ? x[2 * i + 1] : y[2 * i - 7];
    }
}
template <int KIND>
__device__ __forceinline__ void write_pairs(const attention &a, uint16_t *out, int first, const float (&u)[8],
                                            const float (&w)[8])
{
    uint16_t x[8], y[8];
#pragma unroll
    for (int i = 0; i < 8; i++)
        x[i] = narrow<KIND>(u[i]), y[i] = narrow<KIND>(w[i]);
    if (!pairs_aligned(a)) {
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const int at = pair_first(a, first + i);
            out[at] = x[i];
            out[at + pair_step(a, first + i)] = y[i];
        }
        return;
    }
    const int x_at = pair_first(a, first), y_at = a.neox ? x_at + pair_step(a, first) : x_at + 8;
    uint32_t to[8];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        to[i] = a.neox ? pack16(x[2 * i], x[2 * i + 1]) : pack16(x[i], y[i]);
        to[4 + i] = a.neox ? pack16(y[2 * i], y[2 * i + 1]) : pack16(x[4 + i], y[4 + i]);
    }
    *(uint4 *)(out + x_at) = {to[0], to[1], to[2], to[3]};
    *(uint4 *)(out + y_at) = {to[4], to[5], to[6], to[7]};
}

/* A thread takes eight pairs of a query row; all threads of a warp come. */
template <int KIND> __device__ void turn_query(const attention &a, int64_t thread)
{
    const int lanes = lanes_of_row(a.D), half = a.D / 2, first = (int)(thread % lanes) * 8;
    const int64_t at = thread / lanes;
    const bool there = at < a.rows && first < half;
    float u[8], w[8], most = 0;
    if (there) {
        const int per_head = (int)a.T * a.g, hk = (int)at / per_head, in_head = (int)at % per_head, t = in_head / a.g;
        const float *cs = a.cs + query_position(a, scope_count(a, hk), t) * a.D + first;
        read_pairs(a, a.q + ((int64_t)t * a.H + hk * a.g + in_head % a.g) * a.D, first, u, w);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const float c = cs[i], s = cs[half + i], x = u[i] * c - w[i] * s;
            w[i] = u[i] * s + w[i] * c;
            u[i] = x;
            most = fmaxf(most, fmaxf(fabsf(x), fabsf(w[i])));
        }
    }
    for (int i = lanes / 2; i > 0; i /= 2)
        most = fmaxf(most, __shfl_xor_sync(ALL, most, i));
    if (!there)
        return;
    const float size = row_size(most);
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
