/* launch.cuh - kernels that start before the last one has ended, and what a CUDA call's failure becomes. */
#ifndef REATTN_CUDA_LAUNCH_CUH
#define REATTN_CUDA_LAUNCH_CUH

#include <cuda_runtime.h>

#include "reattn/error.h"

namespace reattn_cuda
{

/* Launches overlap: a kernel may start before its predecessor has ended. It waits here, in at least one block, before
 * it touches what that one writes or writes what that one reads. (All of ours do; so what came before the predecessor
 * has ended, too, when a kernel starts: but not if the predecessor said so before it waited itself.) ... */
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

/* Lets a kernel have so many bytes of shared memory that it asks for, always the same number; asks the driver once a
 * device. */
enum { DEVICES = 64 };
template <auto kernel> cudaError_t allow_shared(int bytes)
{
    static int allowed[DEVICES];
    int device = 0;
    cudaError_t code = cudaGetDevice(&device);
    const bool known = code == cudaSuccess && device >= 0 && device < DEVICES;
    if (code != cudaSuccess || (known && __atomic_load_n(&allowed[device], __ATOMIC_RELAXED)))
        return code;
    code = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (code == cudaSuccess && known)
        __atomic_store_n(&allowed[device], 1, __ATOMIC_RELAXED);
    return code;
}

/* Calls `of` with the head size as a constant: decltype(size)::value. The kernels know these four. */
template <int D> struct head_size {
    static constexpr int value = D;
};
template <class of_size> cudaError_t for_head_size(int D, const of_size &of)
{
    switch (D) {
    case 64:
        return of(head_size<64>{});
    case 96:
        return of(head_size<96>{});
    case 128:
        return of(head_size<128>{});
    case 256:
        return of(head_size<256>{});
    }
    return cudaErrorInvalidValue;
}

/* REATTN_OK, or an error that says what was being done. */
int failed(cudaError_t code, const char *what, reattn_error *err);

} // namespace reattn_cuda

#endif
