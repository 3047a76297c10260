/* runs_wgmma.cu - attention of many queries over a plan's runs on sm_90: as attend_wgmma.cu, but tiles are those of the
 * parts that the host laid out (runs_layout.h), whose tokens follow each other. One thread copies queries and keys, one
 * the values. Queries of another turn take the place of the last ones when all keys before have been multiplied. */
#include "boxes.cuh"
#include "flash_wgmma.cuh"
#include "runs.cuh"

using namespace reattn_cuda;

namespace
{

struct maps {
    CUtensorMap q, k, v;
};

/* A thread that goes along a block's parts, from tile to tile. */
struct part_walk {
    const reattn__cuda_part *parts;
    reattn__cuda_part part;
    int at;
};
/* Parts begin .. end - 1: the last that begins no later than the tile. */
[[maybe_unused]] __device__ __forceinline__ part_walk walk_from(const reattn__cuda_part *parts, int begin, int end,
                                                                int tile)
{
    for (int last = end - 1; begin < last;) {
        const int middle = (begin + last + 1) / 2;
        if (parts[middle].tile <= tile)
            begin = middle;
        else
            last = middle - 1;
    }
    return {parts, parts[begin], begin};
}
[[maybe_unused]] __device__ __forceinline__ void walk_to(part_walk &w, int tile)
{
    if (tile >= w.part.tile_end)
        w.part = w.parts[++w.at];
}

/* Which keys of a tile a thread's rows see: row(j) those from lo[j] to hi[j] - 1. */
template <int BN> struct parts_view {
    const int (*words)[WORDS]; /* of the part that a stage's tile is of */
    uint64_t *q_full;
    int q_first, first_t, last_t, t[2], lo[2], hi[2], turn, q_phase;
    bool all_seen;
    __device__ __forceinline__ void meet(int tile, int stage)
    {
        const int *p = words[stage];
        const int at = (tile - p[TILE_AT]) * BN, left = p[COUNT] - at, back = q_first - p[TOKEN] - at;
        all_seen = left >= BN && p[T_MIN] <= first_t && last_t < p[T_END] && back + last_t <= p[DIST_MAX] &&
                   back + first_t - (BN - 1) >= p[DIST_MIN];
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const bool here = t[j] >= p[T_MIN] && t[j] < p[T_END];
            lo[j] = back + t[j] - p[DIST_MAX];
            hi[j] = here ? min(left, back + t[j] - p[DIST_MIN] + 1) : 0;
        }
        if (p[TURN] != turn) {
            turn = p[TURN];
            barrier_wait(q_full, q_phase);
            q_phase ^= 1;
        }
    }
    __device__ __forceinline__ void meet_values() const {}
    __device__ __forceinline__ bool hides(int j, int key) const
    {
        return key < lo[j] || key >= hi[j];
    }
};

template <int D, int KIND>
__global__ void __launch_bounds__(wide_shape<D>::THREADS, 1)
    runs_kernel(const __grid_constant__ maps map, const __grid_constant__ attention a,
                const __grid_constant__ runs_view r)
{
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    typedef wide_shape<D> S;
    constexpr int BN = S::BN;
    extern __shared__ __align__(1024) char raw[];
    __shared__ wide_barriers bar;
    __shared__ int words[S::STAGES][WORDS];
    char *q_tile = raw, *k_tiles = raw + S::Q_BYTES, *v_tiles = k_tiles + S::STAGES * S::TILE_BYTES;
    const int hk = blockIdx.y, split = blockIdx.z, group = __shfl_sync(ALL, (int)threadIdx.x / 128 - 1, 0);
    const int rows = (int)(a.T * a.g), first_row = blockIdx.x * S::BM;
    const int groups = min(S::GROUPS, (rows - first_row + 63) / 64);
    open_barriers<D>(bar, groups, 1);
    wait_for_previous();
    const int32_t *first = r.part_first + (a.lists > 1 ? hk : 0) * r.blocks + blockIdx.x;
    const int part_begin = first[0], part_end = first[1];
    const int tiles = part_begin < part_end ? r.parts[part_end - 1].tile_end : 0;
    const int per_split = (tiles + a.splits - 1) / a.splits;
    const int begin = split * per_split, end = min(tiles, begin + per_split);

    if (group < 0) {
        few_registers(S::GROUPS);
        part_walk walk;
        ring_place<S::STAGES> at = {0, 1}, last = at;
        if (begin < end && threadIdx.x % WARP == 0 && threadIdx.x < 2 * WARP)
            walk = walk_from(r.parts, part_begin, part_end, begin);
        if (threadIdx.x == 0) {
            int turn = -1;
            for (int tile = begin; tile < end; tile++, at.next()) {
                walk_to(walk, tile);
                const reattn__cuda_part &p = walk.part;
                if (p.turn != turn) {
                    if (turn >= 0) /* all keys so far have been multiplied */
                        barrier_wait(&bar.k_empty[last.stage], last.phase ^ 1);
                    turn = p.turn;
                    barrier_expect(&bar.q_full, S::Q_BYTES);
                    for (int i = 0; i < S::PIECES; i++)
                        copy_box(q_tile + i * S::Q_PIECE, &map.q, i * BOX_VALUES, first_row, turn * a.Hk + hk,
                                 &bar.q_full);
                }
                barrier_wait(&bar.k_empty[at.stage], at.phase);
                int *w = words[at.stage];
                w[TOKEN] = p.token, w[COUNT] = p.count, w[TILE_AT] = p.tile, w[TURN] = p.turn;
                w[T_MIN] = p.t_min, w[T_END] = p.t_end, w[DIST_MIN] = p.dist_min, w[DIST_MAX] = p.dist_max;
                barrier_expect(&bar.k_full[at.stage], S::TILE_BYTES);
                for (int i = 0; i < S::PIECES; i++)
                    copy_box(k_tiles + at.stage * S::TILE_BYTES + i * S::PIECE, &map.k, i * BOX_VALUES,
                             p.row + (tile - p.tile) * BN, hk, &bar.k_full[at.stage]);
                last = at;
            }
        } else if (threadIdx.x == WARP) {
            for (int tile = begin; tile < end; tile++, at.next()) {
                walk_to(walk, tile);
                barrier_wait(&bar.v_empty[at.stage], at.phase);
                barrier_expect(&bar.v_full[at.stage], S::TILE_BYTES);
                for (int i = 0; i < S::PIECES; i++)
                    copy_box(v_tiles + at.stage * S::TILE_BYTES + i * S::PIECE, &map.v, i * BOX_VALUES,
                             walk.part.token + (tile - walk.part.tile) * BN, hk, &bar.v_full[at.stage]);
            }
        }
    } else {
        many_registers<S::GROUPS>();
        if (group >= groups)
            return;
        wide_flash<D, KIND> state;
        parts_view<BN> view;
        state.clear();
        view.words = words, view.q_full = &bar.q_full, view.turn = -1, view.q_phase = 0;
        view.q_first = (int)r.q_first, view.first_t = (first_row + group * 64) / a.g;
        view.last_t = (min(first_row + group * 64 + 64, rows) - 1) / a.g;
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const int row = first_row + state.row(group, j);
            state.size[j] = row < rows ? a.q_scale[(int64_t)hk * rows + row] : 1.0f;
            view.t[j] = min(row, rows - 1) / a.g;
        }
        state.take(view, bar, q_tile, k_tiles, v_tiles, group, begin, end);
        state.write(a, hk, split, group, first_row, rows);
    }
#else
    __trap();
#endif
}

template <int D, int KIND> cudaError_t launch(const attention &a, const runs_view &r, cudaStream_t stream)
{
    typedef wide_shape<D> S;
    const int64_t rows = a.T * a.g, most = REATTN__MAX(a.most, (int64_t)1), turns = REATTN__MAX(r.turns_most, 1);
    maps map;
    cudaError_t code = describe_boxes(&map.q, {a.q_turned, rows, D, rows * D, D, (int)turns * a.Hk, S::BM});
    if (code == cudaSuccess)
        code = describe_boxes(&map.k, {a.k_turned, most, D, most * D, D, a.Hk, S::BN});
    if (code == cudaSuccess)
        code = describe_boxes(&map.v, {a.v, a.n, (int64_t)a.Hk * D, D, D, a.Hk, S::BN});
    if (code == cudaSuccess)
        code = allow_shared<runs_kernel<D, KIND>>(S::SHARED);
    if (code != cudaSuccess)
        return code;
    return launch_next(runs_kernel<D, KIND>, dim3(r.blocks, a.Hk, a.splits), S::THREADS, S::SHARED, stream, map, a, r);
}

template <int D> cudaError_t launch_typed(const attention &a, const runs_view &r, cudaStream_t stream)
{
    return a.type == F16 ? launch<D, F16>(a, r, stream) : launch<D, BF16>(a, r, stream);
}

} // namespace

cudaError_t reattn_cuda::launch_runs_wgmma(const attention &a, const runs_view &r, cudaStream_t stream)
{
    return for_head_size(a.D, [&](auto size) { return launch_typed<decltype(size)::value>(a, r, stream); });
}
