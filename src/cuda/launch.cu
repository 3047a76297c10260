/* launch.cu - see launch.cuh. */
#include "launch.cuh"

extern "C" {
#include "base/base.h"
}

namespace
{

__global__ void probe_kernel()
{
}

} // namespace

namespace reattn_cuda
{

/* Code for older devices does not wait. Asked at every launch, so that each device's answer is kept: 1 no, 2 yes. */
bool launches_overlap()
{
    static int known[DEVICES];
    int device = 0;
    if (cudaGetDevice(&device) != cudaSuccess || device < 0 || device >= DEVICES)
        return false;
    int answer = __atomic_load_n(&known[device], __ATOMIC_RELAXED);
    if (!answer) {
        cudaFuncAttributes code;
        answer = cudaFuncGetAttributes(&code, probe_kernel) == cudaSuccess && code.ptxVersion >= 90 ? 2 : 1;
        __atomic_store_n(&known[device], answer, __ATOMIC_RELAXED);
    }
    return answer == 2;
}

int failed(cudaError_t code, const char *what, reattn_error *err)
{
    if (code == cudaSuccess)
        return REATTN_OK;
    int kind =
        code == cudaErrorMemoryAllocation ? REATTN_E_NOMEM
        : code == cudaErrorNoDevice || code == cudaErrorInsufficientDriver || code == cudaErrorNoKernelImageForDevice
            ? REATTN_E_UNSUPPORTED
            : REATTN_E_INTERNAL;
    return reattn__fail(err, kind, "CUDA: %s failed: %s", what, cudaGetErrorString(code));
}

} // namespace reattn_cuda
