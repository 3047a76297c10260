/* attend_turn.cuh - what the rotations of keys and queries into scratch share: eight pairs a thread, in the type of the
 * store. A query row is scaled to 1 .. 2 before it is rounded, so that no size of it overflows. */
#ifndef REATTN_CUDA_ATTEND_TURN_CUH
#define REATTN_CUDA_ATTEND_TURN_CUH

#include "attend.cuh"

namespace reattn_cuda
{

enum { TURN_THREADS = 256 };

__host__ __device__ __forceinline__ unsigned blocks_for(int64_t threads)
{
    return (unsigned)((threads + TURN_THREADS - 1) / TURN_THREADS);
}

/* What a row whose largest value is `most` is divided by, so that it lies in 1 .. 2. */
__device__ __forceinline__ float row_size(float most)
{
    return most > 1e-30f && most < 1e38f ? exp2f((float)ilogbf(most)) : 1.0f;
}

/* Lanes that have a row of queries, eight pairs each: a power of two, so that some may have none. */
__host__ __device__ __forceinline__ int lanes_of_row(int D)
{
    return D <= 64 ? 4 : D <= 128 ? 8 : 16;
}

/* Eight pairs from `first` on, wherever they lie. */
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
__device__ __forceinline__ void read_pairs(const attention &a, const uint16_t *k, int first, float (&u)[8],
                                           float (&w)[8])
{
    if (!pairs_aligned(a)) {
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const int x = pair_first(a, first + i);
            u[i] = widen<KIND>(k[x]);
            w[i] = widen<KIND>(k[x + pair_step(a, first + i)]);
        }
        return;
    }
    const int x_at = pair_first(a, first), y_at = a.neox ? x_at + pair_step(a, first) : x_at + 8;
    unpack<KIND>(*(const uint4 *)(k + x_at), *(const uint4 *)(k + y_at), a.neox, u, w);
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

/* cs: the cosines of these pairs; their sines are D / 2 further. */
__device__ __forceinline__ void rotate_pairs(const attention &a, const float *cs, float (&u)[8], float (&w)[8])
{
    float c[8], s[8];
#pragma unroll
    for (int i = 0; i < 8; i += 4) {
        *(float4 *)(c + i) = *(const float4 *)(cs + i);
        *(float4 *)(s + i) = *(const float4 *)(cs + a.D / 2 + i);
    }
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const float x = u[i] * c[i] - w[i] * s[i];
        w[i] = u[i] * s[i] + w[i] * c[i];
        u[i] = x;
    }
}
__device__ __forceinline__ float largest_of(const float (&u)[8], const float (&w)[8])
{
    float most = 0;
#pragma unroll
    for (int i = 0; i < 8; i++)
        most = fmaxf(most, fmaxf(fabsf(u[i]), fabsf(w[i])));
    return most;
}
/* The largest of a row; all lanes of the warp come. */
__device__ __forceinline__ float largest_of_row(float most, int lanes)
{
    for (int i = lanes / 2; i > 0; i /= 2)
        most = fmaxf(most, __shfl_xor_sync(ALL, most, i));
    return most;
}

} // namespace reattn_cuda

#endif
