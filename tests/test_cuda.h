/* test_cuda.h - what the tests of CUDA kernels share: memory of the device, and values as it stores them. */
#ifndef REATTN_TEST_CUDA_H
#define REATTN_TEST_CUDA_H

#include <cuda_runtime_api.h>

#include "cpu/half.h"
#include "cuda/select.h"
#include "test_util.h"

/* A copy of `from`, or if it is NULL memory on which nothing may rest. */
static inline void *on_device(const void *from, size_t bytes)
{
    void *to = NULL;
    assert_int_equal(cudaMalloc(&to, bytes ? bytes : 1), cudaSuccess);
    if (from)
        assert_int_equal(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice), cudaSuccess);
    else
        assert_int_equal(cudaMemset(to, 0xff, bytes), cudaSuccess);
    assert_int_equal(cudaStreamSynchronize(NULL), cudaSuccess); /* either may return before, and streams may not wait */
    return to;
}

/* The same in the host's memory, for the device to read; cudaFreeHost() it. */
static inline void *on_host(const void *from, size_t bytes)
{
    void *to = NULL;
    assert_int_equal(cudaHostAlloc(&to, bytes ? bytes : 1, cudaHostAllocMapped), cudaSuccess);
    memcpy(to, from, bytes);
    return to;
}

/* x as a reattn__cuda_type; what f16 cannot hold is cut. */
static inline uint16_t to_type(float x, int type)
{
    if (type == REATTN__CUDA_F16)
        return reattn__float_to_half(fminf(fmaxf(x, -60000.0f), 60000.0f));
    uint32_t bits = reattn__f32_bits(x);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
static inline float from_type(uint16_t bits, int type)
{
    return type == REATTN__CUDA_F16 ? reattn__half_to_float(bits) : reattn__bf16_to_float(bits);
}
static inline float rounded(double x, int type)
{
    return from_type(to_type((float)x, type), type);
}

#endif
