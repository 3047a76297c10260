/* attend_wgmma.cu - attention of many queries on sm_90. Keys and queries were rotated into scratch (attend_turn.cu) and
 * come from there in whole tiles. Values come from the store: of each tile a warp has a quarter, which it asks the copy
 * engine for where its tokens follow each other, and else copies itself, 16 bytes a lane. (Small boxes are slow: 8 rows
 * at a time the kernel took a fifth longer, single rows four times as long.) */
#include "boxes.cuh"
#include "flash_wgmma.cuh"

using namespace reattn_cuda;

namespace
{

struct maps {
    CUtensorMap q, k, v;
};

/* Which keys of a tile a thread's rows see. */
template <int BN> struct causal_view {
    int sees[2], all, tile;
    bool all_seen, copied; /* copied: values came by threads' own copies */
    __device__ __forceinline__ void meet(int t, int)
    {
        tile = t * BN;
        all_seen = tile + BN <= all;
    }
    __device__ __forceinline__ void meet_values() const
    {
        if (copied)
            asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    __device__ __forceinline__ bool hides(int j, int key) const { return tile + key > sees[j]; }
};

/* Token of key i; past the last one as if the text went on. */
[[maybe_unused]] __device__ __forceinline__ int token_of(const attention &a, int hk, int count, int i)
{
    return i < count ? scope_token(a, hk, i) : scope_token(a, hk, count - 1) + i - (count - 1);
}

/* A warp's quarter of a tile of values. */
template <int D>
__device__ __forceinline__ void copy_values(const attention &a, const CUtensorMap *map, int hk, int count, int tile,
                                            char *to, uint64_t *empty, int phase, uint64_t *full)
{
    typedef wide_shape<D> S;
    constexpr int QUARTER = S::BN / 4, CHUNKS = D / 8; /* of 16 bytes */
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const int token = token_of(a, hk, count, tile * S::BN + warp * QUARTER + lane % QUARTER);
    const int first = __shfl_sync(ALL, token, 0);
    const bool follow = __all_sync(ALL, token == first + lane % QUARTER);
    to += warp * QUARTER * 128;
    barrier_wait(empty, phase);
    __syncwarp();
    if (follow) {
        if (lane == 0) {
            barrier_expect(full, QUARTER * 128 * S::PIECES);
            for (int i = 0; i < S::PIECES; i++)
                copy_box(to + i * S::PIECE, map, i * BOX_VALUES, first, hk, full);
        } else {
            barrier_arrive(full);
        }
        return;
    }
    const uint32_t at = shared_address(to);
    const uint16_t *v = a.v + hk * D;
#pragma unroll 2
    for (int i = 0; i < QUARTER * CHUNKS / WARP; i++) {
        const int row = (i * WARP + lane) / CHUNKS, chunk = (i * WARP + lane) % CHUNKS;
        const int here = __shfl_sync(ALL, token, row);
        const bool there = here < a.held;
        copy16(at + chunk / 8 * S::PIECE + row * 128 + (chunk % 8 ^ row % 8) * 16,
               v + (int64_t)(there ? here : 0) * a.Hk * D + chunk * 8, there);
    }
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(shared_address(full)) : "memory");
}

template <int D, int KIND>
__global__ void __launch_bounds__(wide_shape<D>::THREADS, 1)
    attend_kernel(const __grid_constant__ maps map, const __grid_constant__ attention a)
{
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    typedef wide_shape<D> S;
    constexpr int BN = S::BN;
    extern __shared__ __align__(1024) char raw[];
    __shared__ wide_barriers bar;
    char *q_tile = raw, *k_tiles = raw + S::Q_BYTES, *v_tiles = k_tiles + S::STAGES * S::TILE_BYTES;
    const int hk = blockIdx.y, split = blockIdx.z, group = __shfl_sync(ALL, (int)threadIdx.x / 128 - 1, 0);
    const int rows = (int)(a.T * a.g), first_row = blockIdx.x * S::BM;
    const int groups = min(S::GROUPS, (rows - first_row + 63) / 64);
    open_barriers<D>(bar, groups, S::COPIERS);
    wait_for_previous();
    const int count = scope_count(a, hk), seen_by_0 = count - (int)a.T; /* query t sees keys 0 .. seen_by_0 + t */
    const int last_row = min(first_row + S::BM, rows) - 1;
    const int key_end = min(count, seen_by_0 + last_row / a.g + 1);
    const int tiles = (key_end + BN - 1) / BN, per_split = (tiles + a.splits - 1) / a.splits;
    const int begin = split * per_split, end = min(tiles, begin + per_split);

    if (group < 0) {
        few_registers(S::GROUPS);
        ring_place<S::STAGES> k_at = {0, 1}, v_at = {0, 1};
        auto copy_keys = [&](int tile) {
            barrier_wait(&bar.k_empty[k_at.stage], k_at.phase);
            barrier_expect(&bar.k_full[k_at.stage], S::TILE_BYTES);
            for (int i = 0; i < S::PIECES; i++)
                copy_box(k_tiles + k_at.stage * S::TILE_BYTES + i * S::PIECE, &map.k, i * BOX_VALUES, tile * BN, hk,
                         &bar.k_full[k_at.stage]);
            k_at.next();
        };
        if (threadIdx.x == 0 && begin < end) {
            barrier_expect(&bar.q_full, S::Q_BYTES);
            for (int i = 0; i < S::PIECES; i++)
                copy_box(q_tile + i * S::Q_PIECE, &map.q, i * BOX_VALUES, first_row, hk, &bar.q_full);
            copy_keys(begin);
        }
        for (int tile = begin; tile < end; tile++, v_at.next()) {
            if (threadIdx.x == 0 && tile + 1 < end)
                copy_keys(tile + 1);
            __syncwarp();
            copy_values<D>(a, &map.v, hk, count, tile, v_tiles + v_at.stage * S::TILE_BYTES, &bar.v_empty[v_at.stage],
                           v_at.phase, &bar.v_full[v_at.stage]);
        }
    } else {
        many_registers<S::GROUPS>();
        if (group >= groups)
            return;
        wide_flash<D, KIND> state;
        causal_view<BN> view;
        view.copied = a.tokens != NULL || a.skip != 0;
        state.clear();
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const int row = first_row + state.row(group, j);
            state.size[j] = row < rows ? a.q_scale[(int64_t)hk * rows + row] : 1.0f;
            view.sees[j] = seen_by_0 + min(row, rows - 1) / a.g;
        }
        view.all = min(count, seen_by_0 + (first_row + group * 64) / a.g + 1);
        if (begin < end)
            barrier_wait(&bar.q_full, 0);
        state.take(view, bar, q_tile, k_tiles, v_tiles, group, begin, end);
        state.write(a, hk, split, group, first_row, rows);
    }
#else
    __trap();
#endif
}

template <int D, int KIND> cudaError_t launch(const attention &a, cudaStream_t stream)
{
    typedef wide_shape<D> S;
    const int64_t rows = a.T * a.g, pitch = (int64_t)a.Hk * D;
    maps map;
    cudaError_t code = describe_boxes(&map.q, {a.q_turned, rows, D, rows * D, D, a.Hk, S::BM});
    if (code == cudaSuccess)
        code = describe_boxes(&map.k, {a.k_turned, a.most, D, a.most * D, D, a.Hk, S::BN});
    if (code == cudaSuccess)
        code = describe_boxes(&map.v, {a.v, a.held, pitch, D, D, a.Hk, S::BN / 4});
    if (code == cudaSuccess)
        code = allow_shared<attend_kernel<D, KIND>>(S::SHARED);
    if (code != cudaSuccess)
        return code;
    const dim3 blocks((unsigned)((rows + S::BM - 1) / S::BM), a.Hk, a.splits);
    return launch_next(attend_kernel<D, KIND>, blocks, S::THREADS, S::SHARED, stream, map, a);
}

template <int D> cudaError_t launch_typed(const attention &a, cudaStream_t stream)
{
    return a.type == F16 ? launch<D, F16>(a, stream) : launch<D, BF16>(a, stream);
}

} // namespace

namespace reattn_cuda
{

int wgmma_attend_splits(const attention &a, int SMs)
{
    const int64_t BM = wide_rows(a.D), BN = wide_keys(a.D);
    return wide_splits((a.T * a.g + BM - 1) / BM * a.Hk, (a.most + BN - 1) / BN, a.rows, a.D, SMs);
}

cudaError_t launch_many_wgmma(const attention &a, cudaStream_t stream)
{
    return for_head_size(a.D, [&](auto size) { return launch_typed<decltype(size)::value>(a, stream); });
}

} // namespace reattn_cuda
