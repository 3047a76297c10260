/* runs.cuh - what the files of attention over runs share: a layout as the kernels see it. */
#ifndef REATTN_CUDA_RUNS_CUH
#define REATTN_CUDA_RUNS_CUH

#include "attend.cuh"

namespace reattn_cuda
{

/* The layout's arrays, on the device. */
struct runs_view {
    const int32_t *segment_first, *turn_first, *rows, *positions, *part_first;
    const reattn__cuda_segment *segments;
    const reattn__cuda_turn *turns;
    const reattn__cuda_part *parts;
    const float *q_factor; /* [T], or NULL */
    int64_t q_first;
    int blocks, turns_most;
};

/* Words of a part, as they lie in memory and in the ring of tiles. */
enum part_word { TOKEN, ROW, COUNT, TILE_AT, TILE_END, TURN, T_MIN, T_END, DIST_MIN, DIST_MAX, WORDS };
static_assert(sizeof(reattn__cuda_part) == WORDS * sizeof(int), "a part is these words");

/* x / by, where x is not negative: long division is slow and seldom needed. */
__device__ __forceinline__ int64_t divided(int64_t x, int64_t by)
{
    if (by == 1)
        return x;
    return ((x | by) >> 32) == 0 ? (int64_t)((uint32_t)x / (uint32_t)by) : x / by;
}

/* The token and the position of a list's row. */
__device__ __forceinline__ void find_row(const runs_view &r, int list, int row, int &token, int &position)
{
    int a = r.segment_first[list], b = r.segment_first[list + 1] - 1;
    while (a < b) {
        const int middle = (a + b + 1) / 2;
        if (r.segments[middle].row <= row)
            a = middle;
        else
            b = middle - 1;
    }
    const reattn__cuda_segment &s = r.segments[a];
    const int at = row - s.row;
    token = s.token + at;
    position = (int)divided(s.k_pos + at * s.k_step, s.k_div);
}

/* Many queries: keys and queries rotated into scratch; then one of the two, of which the second is for sm_90 and writes
 * the output itself where there is one split. */
cudaError_t launch_runs_turn(const attention &a, const runs_view &r, cudaStream_t stream);
cudaError_t launch_runs(const attention &a, const runs_view &r, cudaStream_t stream);
cudaError_t launch_runs_wgmma(const attention &a, const runs_view &r, cudaStream_t stream);

} // namespace reattn_cuda

#endif
