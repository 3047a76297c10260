/* wgmma.cuh - products of 16-bit matrices in sizes that attention wants: 64 rows, 64 to 256 columns, the left one in
 * shared memory or in registers, the right one with its rows or its columns in a row. See hopper.cuh. */
#ifndef REATTN_CUDA_WGMMA_CUH
#define REATTN_CUDA_WGMMA_CUH

#include "hopper.cuh"

namespace reattn_cuda
{

/* Matrix b [values x columns] in shared memory, the columns of a value in a row: pieces of 64 columns, swizzled by the
 * copy engine, `piece` bytes apart. */
__device__ __forceinline__ uint64_t turned_matrix(const void *p, int piece)
{
    return (uint64_t)((shared_address(p) & 0x3ffff) >> 4) | (uint64_t)(piece >> 4) << 16 | (uint64_t)(1024 >> 4) << 32 |
           1ull << 62;
}

/* Until at most N groups of products are under way. */
template <int N> __device__ __forceinline__ void wgmma_wait_until()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

#define REATTN_D0 "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9," REATTN_R8(1) REATTN_R8(2)
#define REATTN_D32 REATTN_D0 "%30,%31}"
#define REATTN_D48 REATTN_D0 REATTN_R8(3) "%40,%41,%42,%43,%44,%45,%46,%47}"
#define REATTN_D64 REATTN_D0 REATTN_R8(3) REATTN_R8(4) REATTN_R8(5) "%60,%61,%62,%63}"
#define REATTN_D128                                                                                                    \
    REATTN_D0 REATTN_R8(3) REATTN_R8(4) REATTN_R8(5) REATTN_R8(6) REATTN_R8(7) REATTN_R8(8) REATTN_R8(9) REATTN_R8(10) \
        REATTN_R8(11) "%120,%121,%122,%123,%124,%125,%126,%127}"
#define REATTN_A8(i)                                                                                                   \
    "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3]), "+f"(c[i + 4]), "+f"(c[i + 5]), "+f"(c[i + 6]),        \
        "+f"(c[i + 7])
#define REATTN_A16(i) REATTN_A8(i), REATTN_A8(i + 8)
#define REATTN_A32 REATTN_A16(0), REATTN_A16(16)
#define REATTN_A48 REATTN_A32, REATTN_A16(32)
#define REATTN_A64 REATTN_A48, REATTN_A16(48)
#define REATTN_A128 REATTN_A64, REATTN_A16(64), REATTN_A16(80), REATTN_A16(96), REATTN_A16(112)

#define REATTN_SHARED(n, type, regs, list, a_at, b_at, p_at)                                                           \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #p_at ", 0;\n"                                                   \
                 "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " " regs ", %" #a_at ", %" #b_at      \
                 ", p, 1, 1, 0, 0;\n}"                                                                                 \
                 : list                                                                                                \
                 : "l"(a), "l"(b), "r"(add))
#define REATTN_HELD(n, type, regs, list, a0, a1, a2, a3, b_at)                                                         \
    asm volatile("{\n.reg .pred p;\nsetp.eq.b32 p, 0, 0;\n"                                                            \
                 "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " " regs ", {%" #a0 ",%" #a1 ",%" #a2 \
                 ",%" #a3 "}, %" #b_at ", p, 1, 1, 1;\n}"                                                              \
                 : list                                                                                                \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))

/* c [64 x columns] = or += a [64 x 16] * b [columns x 16], transposed. */
template <int KIND> __device__ __forceinline__ void product_shared(float (&c)[32], uint64_t a, uint64_t b, int add)
{
    if constexpr (KIND == F16)
        REATTN_SHARED(64, "f16", REATTN_D32, REATTN_A32, 32, 33, 34);
    else
        REATTN_SHARED(64, "bf16", REATTN_D32, REATTN_A32, 32, 33, 34);
}
template <int KIND> __device__ __forceinline__ void product_shared(float (&c)[64], uint64_t a, uint64_t b, int add)
{
    if constexpr (KIND == F16)
        REATTN_SHARED(128, "f16", REATTN_D64, REATTN_A64, 64, 65, 66);
    else
        REATTN_SHARED(128, "bf16", REATTN_D64, REATTN_A64, 64, 65, 66);
}

/* c [64 x columns] += a [64 x 16] * b [16 x columns], a turned_matrix. */
template <int KIND> __device__ __forceinline__ void product_held(float (&c)[32], const uint32_t *a, uint64_t b)
{
    if constexpr (KIND == F16)
        REATTN_HELD(64, "f16", REATTN_D32, REATTN_A32, 32, 33, 34, 35, 36);
    else
        REATTN_HELD(64, "bf16", REATTN_D32, REATTN_A32, 32, 33, 34, 35, 36);
}
template <int KIND> __device__ __forceinline__ void product_held(float (&c)[48], const uint32_t *a, uint64_t b)
{
    if constexpr (KIND == F16)
        REATTN_HELD(96, "f16", REATTN_D48, REATTN_A48, 48, 49, 50, 51, 52);
    else
        REATTN_HELD(96, "bf16", REATTN_D48, REATTN_A48, 48, 49, 50, 51, 52);
}
template <int KIND> __device__ __forceinline__ void product_held(float (&c)[64], const uint32_t *a, uint64_t b)
{
    if constexpr (KIND == F16)
        REATTN_HELD(128, "f16", REATTN_D64, REATTN_A64, 64, 65, 66, 67, 68);
    else
        REATTN_HELD(128, "bf16", REATTN_D64, REATTN_A64, 64, 65, 66, 67, 68);
}
template <int KIND> __device__ __forceinline__ void product_held(float (&c)[128], const uint32_t *a, uint64_t b)
{
    if constexpr (KIND == F16)
        REATTN_HELD(256, "f16", REATTN_D128, REATTN_A128, 128, 129, 130, 131, 132);
    else
        REATTN_HELD(256, "bf16", REATTN_D128, REATTN_A128, 128, 129, 130, 131, 132);
}

#undef REATTN_SHARED
#undef REATTN_HELD

} // namespace reattn_cuda

#endif
