/* batch.cuh - one launch for several sessions: a kernel takes the arguments of each, and the grid's z says whose block
 * it is. That there may be but one costs nothing that could be measured. */
#ifndef REATTN_CUDA_BATCH_CUH
#define REATTN_CUDA_BATCH_CUH

#include "launch.cuh"
#include "select.h"

namespace reattn_cuda
{

enum { MANY = REATTN__CUDA_MANY }; /* their arguments stay below 4 KB, which is what all devices take */

template <class arguments> struct batch {
    arguments at[MANY];
};

template <class arguments> __device__ __forceinline__ const arguments &of_session(const batch<arguments> &all)
{
    return all.at[blockIdx.z];
}

/* Queues a kernel for n sessions; blocks are those of the session that needs most. */
template <class arguments, class... more, class... others>
cudaError_t launch_batch(void (*kernel)(batch<arguments>, more...), dim3 blocks, int threads, size_t shared,
                         cudaStream_t stream, const arguments *each, int n, const others &...rest)
{
    static_assert(sizeof(batch<arguments>) <= 4000, "a kernel's arguments");
    batch<arguments> all; /* those of others are not read */
    for (int i = 0; i < n; i++)
        all.at[i] = each[i];
    blocks.z = (unsigned)n;
    return launch_next(kernel, blocks, threads, shared, stream, all, rest...);
}

} // namespace reattn_cuda

#endif
