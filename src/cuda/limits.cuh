/* limits.cuh - what a context can be asked for. */
#ifndef REATTN_CUDA_LIMITS_CUH
#define REATTN_CUDA_LIMITS_CUH

#include "step.h"

namespace reattn_cuda
{

/* REATTN_OK; E_ARG, or E_UNSUPPORTED with what it is. */
int check_context(const reattn__cuda_context_args *args, reattn_error *err);
/* Tokens whose keys and values would fill the device; 0: there is none. */
int64_t fill_device(const reattn__cuda_context_args *args);

} // namespace reattn_cuda

#endif
