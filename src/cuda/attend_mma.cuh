/* attend_mma.cuh - what the kernels of many queries share before sm_90: tensor core instructions, and the inner loop of
 * a block of rows over tiles of keys. See attend_many.cu and runs_many.cu. */
#ifndef REATTN_CUDA_ATTEND_MMA_CUH
#define REATTN_CUDA_ATTEND_MMA_CUH

#include "attend.cuh"

namespace reattn_cuda
{

enum { FLASH_WARPS = 4, FLASH_THREADS = FLASH_WARPS * WARP };

template <int D> struct flash_shape {
    static constexpr int MT = D == 256 ? 1 : 2;         /* 16-row fragments of a warp */
    static constexpr int BM = FLASH_WARPS * 16 * MT;    /* rows of a block */
    static constexpr int BN = D == 256 ? 32 : 64;       /* keys of a tile */
    static constexpr int CHUNKS = D / 8;                /* 16-byte chunks of a row */
    static constexpr int PITCH = D == 96 ? 16 : CHUNKS; /* chunks from row to row, a multiple of 8 for the swizzle */
    static constexpr int Q_BYTES = BM * PITCH * 16, TILE_BYTES = BN * PITCH * 16;
    static constexpr int TILES = Q_BYTES + 4 * TILE_BYTES; /* bytes of shared memory: queries, two tiles of keys, two of
                                                              values */
};

static inline int flash_rows(int D)
{
    return D == 256 ? flash_shape<256>::BM : flash_shape<128>::BM;
}
static inline int flash_keys(int D)
{
    return D == 256 ? flash_shape<256>::BN : flash_shape<128>::BN;
}

/* Two blocks a multiprocessor, while a split has at least four tiles. */
static inline int flash_splits(int64_t blocks, int64_t tiles, int SMs)
{
    const int64_t splits = REATTN__MIN(2 * SMs / blocks, tiles / 4);
    return (int)(splits < 1 ? 1 : splits > 64 ? 64 : splits);
}

/* -------------------------------------------------------------------------------------------- instructions ----- */

__device__ __forceinline__ void matrices(uint32_t (&x)[4], uint32_t from)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(from)
                 : "memory");
}
__device__ __forceinline__ void matrices_turned(uint32_t (&x)[4], uint32_t from)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(from)
                 : "memory");
}
template <int KIND>
__device__ __forceinline__ void product(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    if constexpr (KIND == F16)
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    else
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <int KIND> __device__ __forceinline__ uint32_t pack(float lo, float hi)
{
    uint32_t x;
    if constexpr (KIND == F16)
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(x) : "f"(hi), "f"(lo));
    else
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(x) : "f"(hi), "f"(lo));
    return x;
}
/* Place of a chunk in a matrix in shared memory: eight rows of a column fall into eight places. */
template <int PITCH> __device__ __forceinline__ uint32_t place(int row, int chunk)
{
    return (uint32_t)(row * PITCH + (chunk ^ (row & 7))) * 16;
}

/* ------------------------------------------------------------------------------------------------- flash ------- */

/* A thread's share of its warp's rows: in fragment i it has rows row(i, 0) and row(i, 1) of the block. */
template <int D, int KIND> struct flash {
    typedef flash_shape<D> S;
    float o[S::MT][D / 8][4], m[S::MT][2],
        l[S::MT][2];      /* highest scores are kept without `size`, which is not negative */
    float size[S::MT][2]; /* what a row's scores are to be multiplied with */

    static __device__ __forceinline__ int row(int i, int j)
    {
        return (threadIdx.x / WARP * S::MT + i) * 16 + threadIdx.x % WARP / 4 + j * 8;
    }

    __device__ __forceinline__ void clear()
    {
#pragma unroll
        for (int i = 0; i < S::MT; i++) {
#pragma unroll
            for (int j = 0; j < 2; j++) {
                m[i][j] = -INFINITY;
                l[i][j] = 0;
            }
#pragma unroll
            for (int n = 0; n < D / 8; n++)
#pragma unroll
                for (int j = 0; j < 4; j++)
                    o[i][n][j] = 0;
        }
    }

    /* Takes in a tile. hides(i, j, key): whether row(i, j) does not see that key of the tile. */
    template <class fn>
    __device__ __forceinline__ void take(uint32_t q_tile, uint32_t k_tile, uint32_t v_tile, const fn &hides)
    {
        constexpr int MT = S::MT, BN = S::BN, PITCH = S::PITCH;
        const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
        float s[MT][BN / 8][4];
#pragma unroll
        for (int i = 0; i < MT; i++)
#pragma unroll
            for (int n = 0; n < BN / 8; n++)
#pragma unroll
                for (int j = 0; j < 4; j++)
                    s[i][n][j] = 0;
#pragma unroll
        for (int step = 0; step < D / 16; step++) {
            uint32_t x[MT][4];
#pragma unroll
            for (int i = 0; i < MT; i++)
                matrices(x[i], q_tile + place<PITCH>((warp * MT + i) * 16 + lane % 16, step * 2 + lane / 16));
#pragma unroll
            for (int n = 0; n < BN / 16; n++) {
                uint32_t y[4];
                matrices(y, k_tile + place<PITCH>(n * 16 + lane % 8 + lane / 16 * 8, step * 2 + lane / 8 % 2));
#pragma unroll
                for (int i = 0; i < MT; i++) {
                    product<KIND>(s[i][2 * n], x[i], y[0], y[1]);
                    product<KIND>(s[i][2 * n + 1], x[i], y[2], y[3]);
                }
            }
        }

        uint32_t p[MT][BN / 16][4];
#pragma unroll
        for (int i = 0; i < MT; i++) {
            float top[2] = {m[i][0], m[i][1]};
#pragma unroll
            for (int n = 0; n < BN / 8; n++)
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    if (hides(i, j / 2, n * 8 + lane % 4 * 2 + j % 2))
                        s[i][n][j] = -INFINITY;
                    top[j / 2] = fmaxf(top[j / 2], s[i][n][j]);
                }
            float shrink[2], sum[2] = {0, 0};
#pragma unroll
            for (int j = 0; j < 2; j++) {
                top[j] = fmaxf(top[j], __shfl_xor_sync(ALL, top[j], 1));
                top[j] = fmaxf(top[j], __shfl_xor_sync(ALL, top[j], 2));
                /* Where nothing was seen yet all weights are to be 0, not NaN. */
                shrink[j] = top[j] == -INFINITY ? 1.0f : power_of_2((m[i][j] - top[j]) * size[i][j]);
                m[i][j] = top[j];
                top[j] = top[j] == -INFINITY ? 0.0f : top[j];
            }
#pragma unroll
            for (int n = 0; n < BN / 8; n++) {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    s[i][n][j] = power_of_2((s[i][n][j] - top[j / 2]) * size[i][j / 2]); /* 1 at the top */
                    sum[j / 2] += s[i][n][j];
                }
                p[i][n / 2][n % 2 * 2] = pack<KIND>(s[i][n][0], s[i][n][1]);
                p[i][n / 2][n % 2 * 2 + 1] = pack<KIND>(s[i][n][2], s[i][n][3]);
            }
#pragma unroll
            for (int j = 0; j < 2; j++)
                l[i][j] = l[i][j] * shrink[j] + sum[j];
#pragma unroll
            for (int n = 0; n < D / 8; n++)
#pragma unroll
                for (int j = 0; j < 4; j++)
                    o[i][n][j] *= shrink[j / 2];
        }
#pragma unroll
        for (int n = 0; n < BN / 16; n++)
#pragma unroll
            for (int d = 0; d < D / 16; d++) {
                uint32_t y[4];
                matrices_turned(y, v_tile + place<PITCH>(n * 16 + lane % 16, d * 2 + lane / 16));
#pragma unroll
                for (int i = 0; i < MT; i++) {
                    product<KIND>(o[i][2 * d], p[i][n], y[0], y[1]);
                    product<KIND>(o[i][2 * d + 1], p[i][n], y[2], y[3]);
                }
            }
    }

    /* Writes the partial states of the block's rows, of which the first is first_row of `rows` of KV head hk. */
    __device__ __forceinline__ void write(const attention &a, int hk, int split, int first_row, int rows)
    {
        const int lane = threadIdx.x % WARP;
#pragma unroll
        for (int i = 0; i < S::MT; i++)
#pragma unroll
            for (int j = 0; j < 2; j++) {
                l[i][j] += __shfl_xor_sync(ALL, l[i][j], 1);
                l[i][j] += __shfl_xor_sync(ALL, l[i][j], 2);
                const int at = first_row + row(i, j);
                if (at >= rows)
                    continue;
                const int64_t to = split * a.rows + (int64_t)(at / a.g) * a.H + hk * a.g + at % a.g;
                if (lane % 4 == 0)
                    a.ml[to] = {m[i][j] == -INFINITY ? m[i][j] : m[i][j] * size[i][j], l[i][j]};
#pragma unroll
                for (int n = 0; n < D / 8; n++)
                    *(float2 *)(a.o + to * D + n * 8 + lane % 4 * 2) = {o[i][n][j * 2], o[i][n][j * 2 + 1]};
            }
    }
};

} // namespace reattn_cuda

#endif
