/* runs_turn.cu - before attention of many queries over a plan's runs: keys are rotated once for each segment, queries
 * once for each turn, into scratch. */
#include "attend_turn.cuh"
#include "runs.cuh"

using namespace reattn_cuda;

namespace
{

/* A thread takes eight pairs of a row; those of a KV head follow each other. */
template <int KIND> __device__ void turn_key(const attention &a, const runs_view &r, int hk, int64_t thread)
{
    const int per = a.D / 16, first = (int)(thread % per) * 8, list = a.lists > 1 ? hk : 0;
    const int64_t row = thread / per;
    if (row >= r.rows[list])
        return;
    int token, position;
    find_row(r, list, (int)row, token, position);
    float u[8], w[8];
    read_pairs<KIND>(a, a.k + ((int64_t)token * a.Hk + hk) * a.D, first, u, w);
    rotate_pairs(a, rotations(a, hk) + (int64_t)position * a.D + first, u, w);
    write_pairs<KIND>(a, a.k_turned + (hk * a.most + row) * a.D, first, u, w);
}

/* A thread takes eight pairs of a query row, once for each turn; all threads of a warp come. A row is divided by the
 * same size in all turns, so that its scores can be compared; rows of queries that no run of this turn is for have no
 * position, and are zeros. */
template <int KIND> __device__ void turn_query(const attention &a, const runs_view &r, int64_t thread)
{
    const int lanes = lanes_of_row(a.D), first = (int)(thread % lanes) * 8;
    const int64_t at = thread / lanes, turn_at = at / a.rows;
    const int row = (int)(at % a.rows), per_head = (int)a.T * a.g, hk = row / per_head, t = row % per_head / a.g;
    const int list = a.lists > 1 ? hk : 0;
    const bool there =
        turn_at < r.turns_most && turn_at < r.turn_first[list + 1] - r.turn_first[list] && first < a.D / 2;
    float u[8], w[8], most = 0;
    bool here = false;
    if (there) {
        const reattn__cuda_turn turn = r.turns[r.turn_first[list] + turn_at];
        const int64_t where = turn.q_pos + t * turn.q_step, position = where < 0 ? -1 : divided(where, turn.q_div);
        const float factor = r.q_factor ? r.q_factor[t] : 1.0f;
        here = position >= 0 && position < r.positions[list];
        read_pairs(a, a.q + ((int64_t)t * a.H + hk * a.g + row % a.g) * a.D, first, u, w);
#pragma unroll
        for (int i = 0; i < 8; i++)
            u[i] *= factor, w[i] *= factor;
        most = largest_of(u, w);
        if (here)
            rotate_pairs(a, rotations(a, hk) + position * a.D + first, u, w);
    }
    const float size = row_size(largest_of_row(most, lanes));
    if (!there)
        return;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        u[i] = here ? u[i] / size : 0.0f;
        w[i] = here ? w[i] / size : 0.0f;
    }
    write_pairs<KIND>(a, a.q_turned + at * a.D, first, u, w);
    if (first == 0 && turn_at == 0)
        a.q_scale[row] = size * (a.scale * LOG2_E);
}

/* Blocks of one row's heads follow each other, so that its rotations are read from memory once. */
template <int KIND>
__global__ void __launch_bounds__(TURN_THREADS)
    turn_kernel(const __grid_constant__ attention a, const __grid_constant__ runs_view r)
{
    const unsigned query_blocks = blocks_for(r.turns_most * a.rows * lanes_of_row(a.D));
    wait_for_previous();
    let_next_start();
    if (blockIdx.x < query_blocks) {
        turn_query<KIND>(a, r, (int64_t)blockIdx.x * TURN_THREADS + threadIdx.x);
        return;
    }
    const unsigned at = blockIdx.x - query_blocks;
    turn_key<KIND>(a, r, (int)(at % a.Hk), (int64_t)(at / a.Hk) * TURN_THREADS + threadIdx.x);
}

} // namespace

cudaError_t reattn_cuda::launch_runs_turn(const attention &a, const runs_view &r, cudaStream_t stream)
{
    const int64_t blocks =
        blocks_for(r.turns_most * a.rows * lanes_of_row(a.D)) + (int64_t)blocks_for(a.most * (a.D / 16)) * a.Hk;
    if (blocks > INT32_MAX)
        return cudaErrorInvalidValue;
    if (blocks == 0) /* no query sees anything */
        return cudaSuccess;
    return launch_next(a.type == F16 ? turn_kernel<F16> : turn_kernel<BF16>, (unsigned)blocks, TURN_THREADS, 0, stream,
                       a, r);
}
