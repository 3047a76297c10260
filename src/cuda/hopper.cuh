/* hopper.cuh - the instructions of sm_90 that have no name in CUDA C: barriers, bulk tensor copies, wgmma. */
#ifndef REATTN_CUDA_HOPPER_CUH
#define REATTN_CUDA_HOPPER_CUH

#include <cuda.h>
#include <stdint.h>

namespace reattn_cuda
{

__device__ __forceinline__ uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* ---------------------------------------------------------------------------------------- barriers ----------- */

__device__ __forceinline__ void barrier_init(uint64_t *bar, int count)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(bar)), "r"(count) : "memory");
}
__device__ __forceinline__ void barrier_expect(uint64_t *bar, int bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(bar)), "r"(bytes)
                 : "memory");
}
/* Of a barrier whose address in shared memory is known. */
__device__ __forceinline__ void arrive_at(uint32_t bar)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory");
}
__device__ __forceinline__ void wait_at(uint32_t bar, int phase)
{
    asm volatile("{\n.reg .pred done;\n"
                 "again:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@!done bra again;\n}" ::"r"(bar),
                 "r"(phase)
                 : "memory");
}
__device__ __forceinline__ void barrier_arrive(uint64_t *bar)
{
    arrive_at(shared_address(bar));
}
__device__ __forceinline__ void barrier_wait(uint64_t *bar, int phase)
{
    wait_at(shared_address(bar), phase);
}

/* A box of a tensor of three dimensions into shared memory; the barrier counts its bytes. */
__device__ __forceinline__ void copy_box(void *to, const CUtensorMap *map, int x, int y, int z, uint64_t *bar)
{
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::
            "r"(shared_address(to)),
        "l"(map), "r"(shared_address(bar)), "r"(x), "r"(y), "r"(z)
        : "memory");
}

/* So many bytes, a multiple of 16. */
__device__ __forceinline__ void copy_bytes(void *to, const void *from, int bytes, uint64_t *bar)
{
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                     shared_address(to)),
                 "l"(from), "r"(bytes), "r"(shared_address(bar))
                 : "memory");
}

/* ------------------------------------------------------------------------------------------- wgmma ----------- */

/* A matrix in shared memory: rows of SWIZZLE bytes, swizzled by the copy engine. */
template <int SWIZZLE> __device__ __forceinline__ uint64_t matrix(const void *p)
{
    static_assert(SWIZZLE == 128 || SWIZZLE == 64, "");
    return (uint64_t)((shared_address(p) & 0x3ffff) >> 4) | 1ull << 16 | (uint64_t)(8 * SWIZZLE >> 4) << 32 |
           (SWIZZLE == 128 ? 1ull : 2ull) << 62;
}

__device__ __forceinline__ void wgmma_fence()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
}

__device__ __forceinline__ void keep(float &x)
{
    asm volatile("" : "+f"(x)::"memory");
}
__device__ __forceinline__ void keep(int &x)
{
    asm volatile("" : "+r"(x)::"memory");
}

#define REATTN_R8(o) "%" #o "0,%" #o "1,%" #o "2,%" #o "3,%" #o "4,%" #o "5,%" #o "6,%" #o "7,%" #o "8,%" #o "9,"
#define REATTN_64                                                                                                      \
    "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9," REATTN_R8(1) REATTN_R8(2) REATTN_R8(3) REATTN_R8(4)                              \
        REATTN_R8(5) "%60,%61,%62,%63}"
#define REATTN_8(f, i)                                                                                                 \
    f(c[i]), f(c[i + 1]), f(c[i + 2]), f(c[i + 3]), f(c[i + 4]), f(c[i + 5]), f(c[i + 6]), f(c[i + 7])
#define REATTN_C(f)                                                                                                    \
    REATTN_8(f, 0), REATTN_8(f, 8), REATTN_8(f, 16), REATTN_8(f, 24), REATTN_8(f, 32), REATTN_8(f, 40),                \
        REATTN_8(f, 48), REATTN_8(f, 56)

/* c [64 x 128] = or += a [64 x 32 bytes] * b [128 x 32 bytes], transposed. */
template <int KIND> __device__ __forceinline__ void wgmma(float (&c)[64], uint64_t a, uint64_t b, int add)
{
    if constexpr (KIND == F16)
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
                     "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 " REATTN_64 ", %64, %65, p, 1, 1, 0, 0;\n}"
                     : REATTN_C("+f")
                     : "l"(a), "l"(b), "r"(add));
    else
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
                     "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " REATTN_64 ", %64, %65, p, 1, 1, 0, 0;\n}"
                     : REATTN_C("+f")
                     : "l"(a), "l"(b), "r"(add));
}
template <int KIND> __device__ __forceinline__ void wgmma(int (&c)[64], uint64_t a, uint64_t b, int add)
{
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k32.s32.s8.s8 " REATTN_64 ", %64, %65, p;\n}"
                 : REATTN_C("+r")
                 : "l"(a), "l"(b), "r"(add));
}

} // namespace reattn_cuda

#endif
