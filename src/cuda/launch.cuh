/* launch.cuh - kernels that start before the last one has ended, and what a CUDA call's failure becomes. */
#ifndef REATTN_CUDA_LAUNCH_CUH
#define REATTN_CUDA_LAUNCH_CUH

#include <cuda_runtime.h>

#include "reattn/error.h"

namespace reattn_cuda
{

/* Launches overlap: a kernel may start before its predecessor has ended. It waits here, in at least one block, before
 * it touches what that one writes or writes what that one reads. (All of ours do; so what came before the predecessor
 * has ended, too, when a kernel starts.) ... */
__device__ __forceinline__ void wait_for_previous()
{
#if __CUDA_ARCH__ >= 900
    cudaGridDependencySynchronize();
#endif
}
/* ...and says here that its successor may start, or not until it ends: a kernel of many blocks that starts while all
 * multiprocessors are full finds its places on the few that are done first. */
__device__ __forceinline__ void let_next_start()
{
#if __CUDA_ARCH__ >= 900
    cudaTriggerProgrammaticLaunchCompletion();
#endif
}

/* Queues a kernel that waits for its predecessor, if the device and the code know how. */
bool launches_overlap();
template <class... parameters, class... arguments>
cudaError_t launch_next(void (*kernel)(parameters...), dim3 blocks, int threads, size_t shared,
                        cudaStream_t stream, arguments &&...args)
{
    cudaLaunchAttribute overlap = {};
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = blocks;
    config.blockDim = dim3((unsigned)threads);
    config.dynamicSmemBytes = shared;
    config.stream = stream;
    config.attrs = &overlap;
    config.numAttrs = launches_overlap() ? 1 : 0;
    return cudaLaunchKernelEx(&config, kernel, args...);
}

/* REATTN_OK, or an error that says what was being done. */
int failed(cudaError_t code, const char *what, reattn_error *err);

} // namespace reattn_cuda

#endif
