/* flash_wgmma.cuh - the inner loop of attention of many queries on sm_90: one warpgroup copies tiles of keys and of
 * values into shared memory, others of 64 rows each multiply them (wgmma). The scores of the next tile are multiplied
 * while this tile's become weights; weights stay in registers. See attend_wgmma.cu and runs_wgmma.cu. */
#ifndef REATTN_CUDA_FLASH_WGMMA_CUH
#define REATTN_CUDA_FLASH_WGMMA_CUH

#include "attend_mma.cuh"
#include "wgmma.cuh"

namespace reattn_cuda
{

/* The highest score is to have weight 1. If size * score is rounded once, with what is subtracted from it, it misses
 * that by 2^-18 at most where the highest is below this; else it is rounded twice. */
constexpr float FUSED_BELOW = 128;

template <int D> struct wide_shape {
    static constexpr int GROUPS = D == 64 ? 3 : 2; /* warpgroups that multiply */
    static constexpr int BM = GROUPS * 64;         /* rows of a block */
    static constexpr int BN = D == 256 ? 64 : 128; /* keys of a tile */
    static constexpr int PIECES = (D + 63) / 64;   /* of 64 values: 128 bytes of a row */
    static constexpr int STAGES = D == 64 ? 4 : 2;
    static constexpr int Q_PIECE = BM * 128, PIECE = BN * 128; /* bytes */
    static constexpr int Q_BYTES = PIECES * Q_PIECE, TILE_BYTES = PIECES * PIECE;
    static constexpr int SHARED = Q_BYTES + 2 * STAGES * TILE_BYTES;
    static constexpr int COPIERS = 128, THREADS = COPIERS + GROUPS * 128;
};

struct wide_barriers {
    enum { MOST = 4 };
    uint64_t q_full, k_full[MOST], k_empty[MOST], v_full[MOST], v_empty[MOST];
};

/* Place in a ring of tiles. */
template <int STAGES> struct ring_place {
    int stage, phase;
    __device__ __forceinline__ void next()
    {
        if (++stage == STAGES) {
            stage = 0;
            phase ^= 1;
        }
    }
};

/* A thread's share of its warpgroup's rows: row(0) and row(1) of the block. c[i] of a product is row i / 2 % 2, column
 * i / 4 * 8 + lane % 4 * 2 + i % 2. */
template <int D, int KIND> struct wide_flash {
    typedef wide_shape<D> S;
    static constexpr int BN = S::BN;
    float o[D / 2], s[BN / 2], m[2], l[2], size[2];
    uint32_t p[BN / 16][4];

    static __device__ __forceinline__ int row(int group, int j)
    {
        return group * 64 + threadIdx.x / WARP % 4 * 16 + threadIdx.x % WARP / 4 + j * 8;
    }
    __device__ __forceinline__ void clear()
    {
#pragma unroll
        for (int i = 0; i < D / 2; i++)
            o[i] = 0;
        m[0] = m[1] = -INFINITY;
        l[0] = l[1] = 0;
    }

    /* Begins s = q k. */
    __device__ __forceinline__ void score(uint64_t q, uint64_t k)
    {
#pragma unroll
        for (int i = 0; i < D / 16; i++)
            product_shared<KIND>(s, q + (i / 4 * S::Q_PIECE >> 4) + i % 4 * 2, k + (i / 4 * S::PIECE >> 4) + i % 4 * 2,
                                 i > 0);
        wgmma_commit();
    }
    /* Begins o += p v. */
    __device__ __forceinline__ void gather(uint64_t v)
    {
#pragma unroll
        for (int i = 0; i < BN / 16; i++)
            product_held<KIND>(o, p[i], v + (i * 2048 >> 4));
        wgmma_commit();
    }
    __device__ __forceinline__ void scores_are_there()
    {
#pragma unroll
        for (int i = 0; i < BN / 2; i++)
            keep(s[i]);
    }
    __device__ __forceinline__ void sums_are_there()
    {
#pragma unroll
        for (int i = 0; i < D / 2; i++)
            keep(o[i]);
    }

    /* Scores become weights; what was summed before is to be multiplied with `shrink`. hides(j, key): whether row(j)
     * does not see that key of the tile. */
    template <class fn> __device__ __forceinline__ void weigh(bool all_seen, const fn &hides, float (&shrink)[2])
    {
        if (!all_seen)
#pragma unroll
            for (int i = 0; i < BN / 2; i++)
                if (hides(i / 2 % 2, i / 4 * 8 + threadIdx.x % 4 * 2 + i % 2))
                    s[i] = -INFINITY;
        float top[2], here[2], from[2], sum[2][2] = {{0, 0}, {0, 0}};
#pragma unroll
        for (int j = 0; j < 2; j++) {
            float x = fmaxf(m[j], s[j * 2]), y = s[j * 2 + 1];
#pragma unroll
            for (int i = 4; i < BN / 2; i += 4) {
                x = fmaxf(x, s[i + j * 2]);
                y = fmaxf(y, s[i + j * 2 + 1]);
            }
            top[j] = fmaxf(x, y);
            top[j] = fmaxf(top[j], __shfl_xor_sync(ALL, top[j], 1));
            top[j] = fmaxf(top[j], __shfl_xor_sync(ALL, top[j], 2));
            /* Where nothing was seen yet all weights are to be 0, not NaN. */
            here[j] = top[j] == -INFINITY ? 0.0f : top[j];
            shrink[j] = power_of_2((m[j] - here[j]) * size[j]);
            m[j] = top[j];
            from[j] = here[j] * size[j];
        }
        if (__all_sync(ALL, fabsf(from[0]) < FUSED_BELOW && fabsf(from[1]) < FUSED_BELOW)) {
#pragma unroll
            for (int i = 0; i < BN / 2; i++) {
                s[i] = power_of_2(fmaf(s[i], size[i / 2 % 2], -from[i / 2 % 2]));
                sum[i / 2 % 2][i % 2] += s[i];
            }
        } else {
#pragma unroll
            for (int i = 0; i < BN / 2; i++) {
                s[i] = power_of_2((s[i] - here[i / 2 % 2]) * size[i / 2 % 2]);
                sum[i / 2 % 2][i % 2] += s[i];
            }
        }
#pragma unroll
        for (int j = 0; j < 2; j++)
            l[j] = l[j] * shrink[j] + (sum[j][0] + sum[j][1]);
    }
    __device__ __forceinline__ void round_weights()
    {
#pragma unroll
        for (int i = 0; i < BN / 2; i += 2)
            p[i / 8][i / 2 % 4] = pack<KIND>(s[i], s[i + 1]);
    }
    __device__ __forceinline__ void shrink_sums(const float (&shrink)[2])
    {
        if (!__any_sync(ALL, shrink[0] != 1.0f || shrink[1] != 1.0f)) /* mostly, once the best keys were seen */
            return;
#pragma unroll
        for (int i = 0; i < D / 2; i++)
            o[i] *= shrink[i / 2 % 2];
    }

    /* Takes in tiles begin .. end - 1. view.meet(tile, stage) is called when the keys are there, before they are
     * multiplied: then view.all_seen and view.hides(j, key) are of that tile; view.meet_values() when the
     * values are there. */
    template <class viewer>
    __device__ __forceinline__ void take(viewer &view, wide_barriers &bar, const char *q_tile, const char *k_tiles,
                                         const char *v_tiles, int group, int begin, int end)
    {
        const uint64_t q = matrix<128>(q_tile + group * 64 * 128);
        const int lane = threadIdx.x % WARP;
        ring_place<S::STAGES> k = {0, 0}, v = {0, 0};
        float shrink[2];
        auto hides = [&](int j, int key) { return view.hides(j, key); };
        if (begin >= end)
            return;
        barrier_wait(&bar.k_full[0], 0);
        view.meet(begin, 0);
        wgmma_fence();
        score(q, matrix<128>(k_tiles));
        wgmma_wait();
        scores_are_there();
        __syncwarp();
        if (lane == 0)
            barrier_arrive(&bar.k_empty[0]);
        k.next();
        weigh(view.all_seen, hides, shrink);
        round_weights();
        if (begin + 1 < end)
            barrier_wait(&bar.k_full[k.stage], k.phase);
        for (int tile = begin + 1; tile < end; tile++) {
            view.meet(tile, k.stage);
#pragma unroll
            for (int i = 0; i < BN / 2; i++)
                keep(s[i]);
            wgmma_fence();
            score(q, matrix<128>(k_tiles + k.stage * S::TILE_BYTES));
            barrier_wait(&bar.v_full[v.stage], v.phase);
            view.meet_values();
            gather(turned_matrix(v_tiles + v.stage * S::TILE_BYTES, S::PIECE));
            wgmma_wait_until<1>();
            scores_are_there();
            __syncwarp();
            if (lane == 0)
                barrier_arrive(&bar.k_empty[k.stage]);
            weigh(view.all_seen, hides, shrink);
            /* The compiler would wait for the products before it makes weights, were there no loop between. */
            k.next();
            if (tile + 1 < end)
                barrier_wait(&bar.k_full[k.stage], k.phase);
            wgmma_wait();
            sums_are_there();
            __syncwarp();
            if (lane == 0)
                barrier_arrive(&bar.v_empty[v.stage]);
            round_weights();
            shrink_sums(shrink);
            v.next();
        }
        barrier_wait(&bar.v_full[v.stage], v.phase);
        view.meet_values();
        wgmma_fence();
        gather(turned_matrix(v_tiles + v.stage * S::TILE_BYTES, S::PIECE));
        wgmma_wait();
        sums_are_there();
    }

    /* Writes the output of the warpgroup's rows, if nothing is to be joined, or their partial states. */
    __device__ __forceinline__ void write(const attention &a, int hk, int split, int group, int first_row, int rows)
    {
        const int lane = threadIdx.x % WARP;
#pragma unroll
        for (int j = 0; j < 2; j++) {
            l[j] += __shfl_xor_sync(ALL, l[j], 1);
            l[j] += __shfl_xor_sync(ALL, l[j], 2);
            const int at = first_row + row(group, j);
            if (at >= rows)
                continue;
            const int64_t t = at / a.g, h = hk * a.g + at % a.g, to = split * a.rows + t * a.H + h;
            if (a.splits > 1) {
                if (lane % 4 == 0)
                    a.ml[to] = {m[j] == -INFINITY ? m[j] : m[j] * size[j], l[j]};
#pragma unroll
                for (int n = 0; n < D / 8; n++)
                    *(float2 *)(a.o + to * D + n * 8 + lane % 4 * 2) = {o[n * 4 + j * 2], o[n * 4 + j * 2 + 1]};
                continue;
            }
            float *out = a.out + t * a.out_stride_token + h * a.out_stride_head + lane % 4 * 2;
            const float inverse = l[j] > 0 ? 1 / l[j] : 0.0f;
#pragma unroll
            for (int n = 0; n < D / 8; n++) {
                out[n * 8] = o[n * 4 + j * 2] * inverse;
                out[n * 8 + 1] = o[n * 4 + j * 2 + 1] * inverse;
            }
            if (a.lse && lane % 4 == 0)
                a.lse[to] = l[j] > 0 ? (m[j] * size[j] + log2f(l[j])) / LOG2_E : -INFINITY;
        }
    }
};

/* What all threads of a block begin with; `groups` of its warpgroups have rows, `copiers` threads copy values. */
template <int D> __device__ __forceinline__ void open_barriers(wide_barriers &bar, int groups, int copiers)
{
    if (threadIdx.x == 0) {
        barrier_init(&bar.q_full, 1);
        for (int i = 0; i < wide_shape<D>::STAGES; i++) {
            barrier_init(&bar.k_full[i], 1);
            barrier_init(&bar.k_empty[i], groups * 4);
            barrier_init(&bar.v_full[i], copiers);
            barrier_init(&bar.v_empty[i], groups * 4);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    __syncthreads();
}

/* Registers go from the warps that copy to those that multiply. */
__device__ __forceinline__ void few_registers(int groups)
{
    if (groups == 3)
        asm volatile("setmaxnreg.dec.sync.aligned.u32 32;");
    else
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
}
template <int GROUPS> __device__ __forceinline__ void many_registers()
{
    if constexpr (GROUPS == 3)
        asm volatile("setmaxnreg.inc.sync.aligned.u32 160;");
    else
        asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
}

static inline int wide_rows(int D)
{
    return D == 64 ? wide_shape<64>::BM : wide_shape<128>::BM;
}
static inline int wide_keys(int D)
{
    return D == 256 ? wide_shape<256>::BN : wide_shape<128>::BN;
}

/* As many splits as fill whole waves of blocks best. A tile takes some 2 us; a block takes a few tiles' time to start,
 * and what splits leave behind is written and read once more. */
static inline int wide_splits(int64_t blocks, int64_t tiles, int64_t rows, int D, int SMs)
{
    int best = 1;
    double best_time = 1e30;
    for (int splits = 1; splits <= 64 && (splits == 1 || tiles / splits >= 2); splits++) {
        const double waves = (double)((blocks * splits + SMs - 1) / SMs), per = (double)((tiles + splits - 1) / splits);
        const double join = splits > 1 ? 2 + (double)splits * (double)rows * D * 8 / 5e6 : 0;
        const double time = waves * (per + 2) + join;
        if (time < best_time) {
            best_time = time;
            best = splits;
        }
    }
    return best;
}

} // namespace reattn_cuda

#endif
