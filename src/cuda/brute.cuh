/* brute.cuh - rows that are searched by the law alone: every key is scored in float64.
 *
 * A warp copies 128 bytes of each of 32 keys to shared memory, eight lanes a key, so that whole lines are asked for;
 * then each lane has a key's sum grow by those 64 values, in order of d, while what comes next is on its way. */
#ifndef REATTN_CUDA_BRUTE_CUH
#define REATTN_CUDA_BRUTE_CUH

#include "scan.cuh"

namespace reattn_cuda
{

enum {
    BRUTE_THREADS = 256,
    BRUTE_BLOCKS = 1024,
    PART_LEAST = 2048,         /* keys of a block that shares a row with others */
    PIECES = LAW_STEP / 8,     /* of 16 bytes, of a key at a time */
    PIECES_PITCH = PIECES + 1, /* so that lanes read different banks */
    PIECES_WARP = WARP * PIECES_PITCH
};

/* Values of a query as the law wants it. */
__host__ __device__ constexpr int law_values(int D)
{
    return (D + LAW_STEP - 1) / LAW_STEP * LAW_STEP;
}
/* Writes that, with n threads. */
__device__ __forceinline__ void load_query(const search &s, int64_t caller, double *q, int thread, int n)
{
    for (int d = thread; d < law_values(s.D); d += n)
        q[d] = d < s.D ? (double)s.q[caller * s.D + d] * Q_SCALE : 0.0;
}

/* Shared memory of a block: a query, and the pieces of each warp's keys. */
inline size_t brute_bytes(const search &s)
{
    return sizeof(double) * law_values(s.D) + sizeof(uint4) * (BRUTE_THREADS / WARP) * PIECES_WARP;
}

/* Pieces of a warp's 32 keys, on their way. */
struct pieces {
    uint4 x[PIECES];
    /* Values [d, d + 64) of the keys from `first` on that are before `end`; what is not there is 0. */
    __device__ __forceinline__ void ask(const search &s, int hk, int64_t first, int64_t end, int d)
    {
        const int lane = threadIdx.x % WARP, at = d / 8 + lane % PIECES;
#pragma unroll
        for (int i = 0; i < PIECES; i++) {
            const int64_t pos = first + lane / PIECES + i * (WARP / PIECES);
            x[i] = pos < end && at < s.D / 8 ? __ldg(key_at(s, hk, pos) + at) : uint4{0, 0, 0, 0};
        }
    }
    __device__ __forceinline__ void put(uint4 *here) const
    {
        const int lane = threadIdx.x % WARP;
#pragma unroll
        for (int i = 0; i < PIECES; i++)
            here[(lane / PIECES + i * (WARP / PIECES)) * PIECES_PITCH + lane % PIECES] = x[i];
    }
};

/* What a block finds in keys [begin, end) of a row, in its first warp. Keys come in order, so that a tie never
 * displaces. */
static __device__ warp_top search_part(const search &s, int64_t row, int64_t begin, int64_t end, void *shared)
{
    __shared__ double score[BRUTE_THREADS];
    __shared__ double least;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, hk = (int)(row / s.rows);
    double *q = (double *)shared;
    uint4 *here = (uint4 *)(q + law_values(s.D)) + warp * PIECES_WARP;
    warp_top top;
    pieces next;
    top.clear();
    next.ask(s, hk, begin + warp * WARP, end, 0);
    __syncthreads();
    load_query(s, caller_row(s, hk, row % s.rows), q, threadIdx.x, BRUTE_THREADS);
    if (threadIdx.x == 0)
        least = -INFINITY;
    __syncthreads();
    for (int64_t first = begin; first < end; first += BRUTE_THREADS) {
        double sum = 0.0;
        for (int d = 0; d < s.D; d += LAW_STEP) {
            const bool more = d + LAW_STEP < s.D;
            next.put(here);
            __syncwarp();
            next.ask(s, hk, first + warp * WARP + (more ? 0 : BRUTE_THREADS), end, more ? d + LAW_STEP : 0);
            sum = law_here(s, q + d, here + lane * PIECES_PITCH, LAW_STEP, sum);
            __syncwarp();
        }
        score[threadIdx.x] = sum;
        const bool enters = first + threadIdx.x < end && (first == begin || sum > least); /* the first fill the list */
        if (__syncthreads_or(enters) && threadIdx.x < WARP) {
            const int n = (int)REATTN__MIN(end - first, (int64_t)BRUTE_THREADS);
            double bar = least;
            for (int at = 0; at < n; at += WARP) {
                const bool fills = first - begin + at < s.top_k;
                const bool new_one = at + lane < n && (fills || score[at + lane] > bar);
                for (unsigned left = __ballot_sync(ALL, new_one); left; left &= left - 1) {
                    int which = at + __ffs(left) - 1;
                    if (top.takes(score[which], (int)first + which, s.top_k))
                        top.insert(score[which], (int)first + which, lane);
                }
                const double s_k = __shfl_sync(ALL, top.score, s.top_k - 1);
                bar = __shfl_sync(ALL, top.pos, s.top_k - 1) < 0 ? -INFINITY : s_k;
            }
            __syncwarp();
            if (lane == 0)
                least = bar;
        }
        __syncthreads();
    }
    if (threadIdx.x == 0 && s.far)
        atomicAdd(s.far, (unsigned long long)(end - begin));
    return top;
}

/* The first warp of the last block of a row joins what all have found in its parts. */
static __device__ warp_top join(const search &s, const reattn_hit *found, int parts)
{
    const int lane = threadIdx.x % WARP;
    warp_top top;
    top.clear();
    for (int i = 0; i < parts; i++) {
        const reattn_hit *theirs = found + i * s.top_k;
        const int pos = lane < s.top_k ? (int)__ldcg((const long long *)&theirs[lane].pos) : -1;
        const double score = lane < s.top_k ? __ldcg(&theirs[lane].score) : 0;
        for (int j = 0; j < s.top_k; j++) {
            const int p = __shfl_sync(ALL, pos, j);
            const double x = __shfl_sync(ALL, score, j);
            if (p < 0 || !top.takes(x, p, s.top_k)) /* the others of this part are no better */
                break;
            top.insert(x, p, lane);
        }
    }
    return top;
}

/* A block searches one of so many parts of a row's keys. found [parts][top_k], if there are several: the last block
 * that is done with one of them writes the row's hits. */
static __device__ void brute_part(const search &s, int64_t row, int part, int parts, reattn_hit *found, void *shared)
{
    const int lane = threadIdx.x, hk = (int)(row / s.rows);
    const int64_t each = (s.M + parts - 1) / parts, begin = REATTN__MIN(part * each, s.M);
    warp_top top = search_part(s, row, begin, REATTN__MIN(begin + each, s.M), shared);
    if (threadIdx.x >= WARP)
        return;
    if (parts > 1) {
        top.write(found + part * s.top_k, s.top_k, lane);
        __threadfence();
        __syncwarp();
        int before = 0;
        if (lane == 0)
            before = atomicAdd(&s.done[row], 1);
        if (__shfl_sync(ALL, before, 0) < parts - 1)
            return;
        __threadfence();
        top = join(s, found, parts);
    }
    top.write(s.hits + caller_row(s, hk, row % s.rows) * s.top_k, s.top_k, lane);
}

/* A row's keys are cut into parts when few rows were left: a block alone takes milliseconds for a hundred thousand
 * keys. Blocks that run at the same time are at the same keys of different rows, which are then read once. */
static __global__ void __launch_bounds__(BRUTE_THREADS, 3) brute_kernel(search s)
{
    extern __shared__ double query[];
    wait_for_previous();
    let_next_start();
    const int rows = s.st->brute_rows;
    if (rows == 0)
        return;
    const int most = (int)REATTN__MIN((s.M + PART_LEAST - 1) / PART_LEAST, (int64_t)PARTS / rows);
    const int parts = REATTN__MAX(most, 1);
    for (int64_t i = blockIdx.x; i < (int64_t)rows * parts; i += gridDim.x) {
        const int which = (int)(i % rows);
        brute_part(s, s.brute[which], (int)(i / rows), parts, s.parts + (int64_t)which * parts * s.top_k, query);
    }
}

inline cudaError_t launch_brute(const search &s, cudaStream_t stream)
{
    const int64_t most = s.Hk * s.rows * REATTN__MAX((s.M + PART_LEAST - 1) / PART_LEAST, (int64_t)1);
    const unsigned blocks = (unsigned)REATTN__MIN(most, (int64_t)BRUTE_BLOCKS);
    return launch_next(brute_kernel, blocks, BRUTE_THREADS, brute_bytes(s), stream, s);
}

} // namespace reattn_cuda

#endif
