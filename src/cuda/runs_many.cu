/* runs_many.cu - attention of many queries over a plan's runs: as attend_many.cu, but what a block of rows looks at are
 * the parts that the host laid out (runs_layout.h), and queries were rotated once for each turn (runs_turn.cu). A block
 * has the rows of one turn in shared memory and exchanges them when a part wants others; those of a turn follow each
 * other. Tiles that no query of the block sees do not exist, and in tiles that all see nothing is compared. */
#include "attend_mma.cuh"
#include "runs.cuh"

using namespace reattn_cuda;

namespace
{

template <int D, int KIND>
__global__ void __launch_bounds__(FLASH_THREADS, D == 256 ? 1 : 2)
    runs_kernel(const __grid_constant__ attention a, const __grid_constant__ runs_view r)
{
    typedef flash_shape<D> S;
    constexpr int BN = S::BN, PITCH = S::PITCH, CHUNKS = S::CHUNKS;
    extern __shared__ __align__(128) char raw[];
    const uint32_t q_tile = address(raw), k_tile = q_tile + S::Q_BYTES, v_tile = k_tile + 2 * S::TILE_BYTES;
    int *ring = (int *)(raw + S::TILES); /* [3][WORDS] the parts of the tiles at hand and to come */
    const int lane = threadIdx.x % WARP, hk = blockIdx.y, split = blockIdx.z;
    const int rows = (int)(a.T * a.g), first_row = blockIdx.x * S::BM, last_row = min(first_row + S::BM, rows) - 1;
    const int32_t *first = r.part_first + (a.lists > 1 ? hk : 0) * r.blocks + blockIdx.x;
    const int part_begin = first[0], part_end = first[1];
    const int tiles = part_begin < part_end ? r.parts[part_end - 1].tile_end : 0;
    const int per_split = (tiles + a.splits - 1) / a.splits;
    const int begin = split * per_split, end = min(tiles, begin + per_split);
    const uint16_t *q = a.q_turned + (int64_t)hk * rows * D, *k = a.k_turned + hk * a.most * D, *v = a.v + hk * D;
    const int64_t pitch = (int64_t)a.Hk * D;

    /* The first warp goes along the parts: lane i has word i of the one that the next tile is of. */
    int part = part_begin, word = 0, part_ends = 0;
    auto read_part = [&]() {
        word = lane < WORDS ? ((const int *)(r.parts + part))[lane] : 0;
        part_ends = __shfl_sync(ALL, word, TILE_END);
    };
    if (threadIdx.x < WARP && begin < end) {
        for (int last = part_end - 1; part < last;) { /* the last part that begins no later */
            const int middle = (part + last + 1) / 2;
            if (r.parts[middle].tile <= begin)
                part = middle;
            else
                last = middle - 1;
        }
        read_part();
    }
    auto look_up = [&](int tile) {
        if (threadIdx.x < WARP && tile < end) {
            if (tile >= part_ends) {
                part++;
                read_part();
            }
            if (lane < WORDS)
                ring[tile % 3 * WORDS + lane] = word;
        }
    };
    auto copy = [&](int tile, int stage) {
        if (tile < end) {
            const int *p = ring + tile % 3 * WORDS, at = (tile - p[TILE_AT]) * BN, left = p[COUNT] - at;
            const uint16_t *keys = k + (int64_t)(p[ROW] + at) * D, *values = v + (p[TOKEN] + at) * pitch;
            for (int i = threadIdx.x; i < BN * CHUNKS; i += FLASH_THREADS) {
                const int row = i / CHUNKS, chunk = i % CHUNKS, from = row < left ? row : 0;
                const uint32_t to = stage * S::TILE_BYTES + place<PITCH>(row, chunk);
                copy16(k_tile + to, keys + from * D + chunk * 8, row < left);
                copy16(v_tile + to, values + from * pitch + chunk * 8, row < left);
            }
        }
        copies_close();
    };
    auto copy_queries = [&](int turn) {
        const uint16_t *turned = q + turn * a.rows * D;
        for (int i = threadIdx.x; i < S::BM * CHUNKS; i += FLASH_THREADS) {
            const int row = i / CHUNKS, chunk = i % CHUNKS, at = min(first_row + row, rows - 1);
            copy16(q_tile + place<PITCH>(row, chunk), turned + (int64_t)at * D + chunk * 8, first_row + row < rows);
        }
    };

    look_up(begin);
    look_up(begin + 1);
    __syncthreads();
    int turn = begin < end ? ring[begin % 3 * WORDS + TURN] : 0;
    if (begin < end)
        copy_queries(turn);
    copy(begin, begin & 1);

    flash<D, KIND> state;
    int t[S::MT][2];
    state.clear();
#pragma unroll
    for (int i = 0; i < S::MT; i++)
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const int row = first_row + state.row(i, j);
            state.size[i][j] = row < rows ? a.q_scale[(int64_t)hk * rows + row] : 1.0f;
            t[i][j] = min(row, rows - 1) / a.g;
        }
    for (int tile = begin; tile < end; tile++) {
        const int stage = tile & 1, *p = ring + tile % 3 * WORDS;
        copies_wait<0>();
        __syncthreads(); /* this tile is there; all are done with the one before */
        if (p[TURN] != turn) {
            turn = p[TURN];
            copy_queries(turn);
            copies_close();
            copies_wait<0>();
            __syncthreads();
        }
        copy(tile + 1, stage ^ 1);
        look_up(tile + 2);
        /* Query t sees keys lo .. hi - 1 of the tile. */
        const int at = (tile - p[TILE_AT]) * BN, left = p[COUNT] - at, back = (int)r.q_first - p[TOKEN] - at;
        const int first_t = first_row / a.g, last_t = last_row / a.g;
        const bool all_seen = left >= BN && p[T_MIN] <= first_t && last_t < p[T_END] && back + last_t <= p[DIST_MAX] &&
                              back + first_t - (BN - 1) >= p[DIST_MIN];
        int lo[S::MT][2], hi[S::MT][2];
#pragma unroll
        for (int i = 0; i < S::MT; i++)
#pragma unroll
            for (int j = 0; j < 2; j++) {
                const bool here = t[i][j] >= p[T_MIN] && t[i][j] < p[T_END];
                lo[i][j] = back + t[i][j] - p[DIST_MAX];
                hi[i][j] = here ? min(left, back + t[i][j] - p[DIST_MIN] + 1) : 0;
            }
        state.take(q_tile, k_tile + stage * S::TILE_BYTES, v_tile + stage * S::TILE_BYTES,
                   [&](int i, int j, int key) { return !all_seen && (key < lo[i][j] || key >= hi[i][j]); });
    }
    copies_wait<0>();
    state.write(a, hk, split, first_row, rows);
}

template <int D, int KIND> cudaError_t launch(const attention &a, const runs_view &r, cudaStream_t stream)
{
    typedef flash_shape<D> S;
    constexpr int SHARED = S::TILES + 3 * WORDS * 4;
    cudaError_t code = allow_shared<runs_kernel<D, KIND>>(SHARED);
    if (code != cudaSuccess)
        return code;
    runs_kernel<D, KIND><<<dim3(r.blocks, a.Hk, a.splits), FLASH_THREADS, SHARED, stream>>>(a, r);
    return cudaGetLastError();
}

template <int D> cudaError_t launch_typed(const attention &a, const runs_view &r, cudaStream_t stream)
{
    return a.type == F16 ? launch<D, F16>(a, r, stream) : launch<D, BF16>(a, r, stream);
}

} // namespace

namespace reattn_cuda
{

cudaError_t launch_runs(const attention &a, const runs_view &r, cudaStream_t stream)
{
    return for_head_size(a.D, [&](auto size) { return launch_typed<decltype(size)::value>(a, r, stream); });
}

} // namespace reattn_cuda
