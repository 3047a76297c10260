/* attend_many.cu - attention of many queries, with tensor cores (mma.sync, sm_80 and later).
 *
 * Keys and queries were rotated into scratch (attend_turn.cu). A block takes BM rows of one KV head (row = query * g +
 * head in its group: all heads of a group share the keys) and a stretch of the scope, tile by tile: keys come from
 * scratch, values straight from the store, two tiles in flight. */
#include "attend_mma.cuh"

using namespace reattn_cuda;

namespace
{

template <int D, int KIND>
__global__ void __launch_bounds__(FLASH_THREADS, D == 256 ? 1 : 2) flash_kernel(const __grid_constant__ attention a)
{
    typedef flash_shape<D> S;
    constexpr int BN = S::BN, PITCH = S::PITCH, CHUNKS = S::CHUNKS;
    extern __shared__ __align__(128) char raw[];
    const uint32_t q_tile = address(raw), k_tile = q_tile + S::Q_BYTES, v_tile = k_tile + 2 * S::TILE_BYTES;
    int *tokens = (int *)(raw + S::TILES); /* [3][BN] of the tiles that are copied next */
    const int hk = blockIdx.y, split = blockIdx.z;
    const int rows = (int)(a.T * a.g), first_row = blockIdx.x * S::BM;
    const int count = scope_count(a, hk), seen_by_0 = count - (int)a.T; /* query t sees keys 0 .. seen_by_0 + t */
    const int last_row = min(first_row + S::BM, rows) - 1;
    const int key_end = min(count, seen_by_0 + last_row / a.g + 1);
    const int tiles = (key_end + BN - 1) / BN, per_split = (tiles + a.splits - 1) / a.splits;
    const int begin = split * per_split, end = min(tiles, begin + per_split);
    const uint16_t *q = a.q_turned + (int64_t)hk * rows * D, *k = a.k_turned + hk * a.most * D, *v = a.v + hk * D;
    const int64_t pitch = (int64_t)a.Hk * D;

    auto look_up = [&](int tile) {
        if (threadIdx.x < BN && tile < end) {
            const int i = tile * BN + threadIdx.x;
            tokens[tile % 3 * BN + threadIdx.x] = i < count ? scope_token(a, hk, i) : 0;
        }
    };
    auto copy = [&](int tile, int stage) {
        if (tile < end)
            for (int i = threadIdx.x; i < BN * CHUNKS; i += FLASH_THREADS) {
                const int row = i / CHUNKS, chunk = i % CHUNKS, key = tile * BN + row;
                const bool there = key < count;
                const uint32_t to = stage * S::TILE_BYTES + place<PITCH>(row, chunk);
                copy16(k_tile + to, k + (int64_t)(there ? key : 0) * D + chunk * 8, there);
                copy16(v_tile + to, v + tokens[tile % 3 * BN + row] * pitch + chunk * 8, there);
            }
        copies_close();
    };

    look_up(begin);
    look_up(begin + 1);
    for (int i = threadIdx.x; i < S::BM * CHUNKS; i += FLASH_THREADS) {
        const int row = i / CHUNKS, chunk = i % CHUNKS, r = min(first_row + row, rows - 1);
        copy16(q_tile + place<PITCH>(row, chunk), q + (int64_t)r * D + chunk * 8, first_row + row < rows);
    }
    __syncthreads();
    copy(begin, begin & 1);

    flash<D, KIND> state;
    int sees[S::MT][2];
    state.clear();
#pragma unroll
    for (int i = 0; i < S::MT; i++)
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const int row = first_row + state.row(i, j);
            state.size[i][j] = row < rows ? a.q_scale[(int64_t)hk * rows + row] : 1.0f;
            sees[i][j] = seen_by_0 + min(row, rows - 1) / a.g;
        }
    for (int tile = begin; tile < end; tile++) {
        const int stage = tile & 1;
        copies_wait<0>();
        __syncthreads(); /* this tile is there; all are done with the one before */
        copy(tile + 1, stage ^ 1);
        look_up(tile + 2);
        const bool all_seen = tile * BN + BN <= min(count, seen_by_0 + first_row / a.g + 1);
        state.take(q_tile, k_tile + stage * S::TILE_BYTES, v_tile + stage * S::TILE_BYTES,
                   [&](int i, int j, int key) { return !all_seen && tile * BN + key > sees[i][j]; });
    }
    copies_wait<0>();
    state.write(a, hk, split, first_row, rows);
}

template <int D, int KIND> cudaError_t launch(const attention &a, cudaStream_t stream)
{
    typedef flash_shape<D> S;
    constexpr int SHARED = S::TILES + 3 * S::BN * 4;
    cudaError_t code = allow_shared<flash_kernel<D, KIND>>(SHARED);
    if (code != cudaSuccess)
        return code;
    const unsigned blocks = (unsigned)((a.T * a.g + S::BM - 1) / S::BM);
    flash_kernel<D, KIND><<<dim3(blocks, a.Hk, a.splits), FLASH_THREADS, SHARED, stream>>>(a);
    return cudaGetLastError();
}

template <int D> cudaError_t launch_typed(const attention &a, cudaStream_t stream)
{
    return a.type == F16 ? launch<D, F16>(a, stream) : launch<D, BF16>(a, stream);
}

} // namespace

namespace reattn_cuda
{

int many_splits(const attention &a, int SMs)
{
    const int64_t BM = flash_rows(a.D), BN = flash_keys(a.D);
    return flash_splits((a.T * a.g + BM - 1) / BM * a.Hk, (a.most + BN - 1) / BN, SMs);
}

cudaError_t launch_many(const attention &a, cudaStream_t stream)
{
    return for_head_size(a.D, [&](auto size) { return launch_typed<decltype(size)::value>(a, stream); });
}

} // namespace reattn_cuda
