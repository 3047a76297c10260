/* block_scan.cuh - sums over the threads of a block. */
#ifndef REATTN_CUDA_BLOCK_SCAN_CUH
#define REATTN_CUDA_BLOCK_SCAN_CUH

#include "scan.cuh"

namespace reattn_cuda
{

/* The sum of x of the threads before this one, of a block of WARP warps; *all gets that of all. sums: [WARP], in
 * shared memory. */
static __device__ int block_scan(int x, int *sums, int *all)
{
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    int sum = x;
    for (int i = 1; i < WARP; i *= 2) {
        const int left = __shfl_up_sync(ALL, sum, i);
        sum += lane >= i ? left : 0;
    }
    __syncthreads();
    if (lane == WARP - 1)
        sums[warp] = sum;
    __syncthreads();
    const int other = sums[lane];
    *all = __reduce_add_sync(ALL, other);
    return sum - x + __reduce_add_sync(ALL, lane < warp ? other : 0);
}

} // namespace reattn_cuda

#endif
