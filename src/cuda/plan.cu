/* plan.cu - votes, clip and spans on the device.
 *
 * Hits are tallied in a hash table (in shared memory, or by many blocks in global memory). One block a list then finds
 * the m best tallies without sorting: a histogram of votes says which can be among them, and what ties there is cut by
 * searching the threshold bit by bit: the largest x that at least so many reach. All counts, sums and maxima are
 * independent of order, so that the result is. */
#include "block_scan.cuh"
#include "plan.h"

using namespace reattn_cuda;

namespace
{

typedef unsigned long long u64;

enum {
    THREADS = 1024,
    WARPS = THREADS / WARP,
    BINS = THREADS,
    BIN_BITS = 10,
    LISTED = 4096,
    EMPTY = -1,
    CACHED = LISTED / THREADS,
    BATCH = 8,
    AGAIN_MOST = 1024 /* tallies to rank by comparing each with each */
};
enum { MASS_UNIT = 44, MASS_BIN = 37 }; /* a whole vote is 2^44; 128 bins a vote */

template <bool MASS> struct vote_type {
    typedef unsigned type;
};
template <> struct vote_type<true> {
    typedef u64 type;
};

struct task {
    const reattn_hit *hits;
    int64_t n_hit, fresh, end_fresh; /* of a list; those from `fresh` on are what the kernel before writes */
    int H, top_k, lists, m, slots, shift;
    double scale;
    int64_t span, n, keep, local, room;
    int32_t *tokens, *count, *n_span;
    reattn_span *spans;
    bool rehearse, along;
    char *table; /* in global memory, [lists] tables; NULL: in shared memory */
    size_t table_bytes;
};

template <bool MASS> __host__ __device__ constexpr size_t slot_bytes()
{
    return sizeof(u64) + sizeof(int) + sizeof(typename vote_type<MASS>::type);
}

/* Room for tallies that can be among the best: what there is of shared memory beside 8192 tallies. */
template <bool MASS> __host__ __device__ constexpr int listed_most()
{
    return MASS ? LISTED / 2 : LISTED;
}

/* Positions with their votes and best score. */
template <bool MASS> struct tallies {
    typedef typename vote_type<MASS>::type votes_t;
    u64 *best;
    votes_t *votes;
    int *pos;
    __device__ tallies(char *at, int n)
    {
        best = (u64 *)at;
        votes = (votes_t *)(best + n);
        pos = (int *)(votes + n);
    }
    __device__ static int bin(votes_t v)
    {
        const votes_t b = MASS ? v >> (MASS ? MASS_BIN : 0) : v;
        return b < BINS - 1 ? (int)b : BINS - 1;
    }
};

/* Doubles as integers of the same order, all above 0; -0 is 0. */
__device__ u64 order_of_double(double x)
{
    const long long bits = __double_as_longlong(x + 0.0);
    return bits < 0 ? ~(u64)bits : (u64)bits | 1ull << 63;
}

/* Hit i of a list. */
__device__ const reattn_hit *hit_of(const task &t, int list, int64_t i)
{
    const int64_t per = (int64_t)(t.H / t.lists) * t.top_k;
    return t.hits + i / per * t.H * t.top_k + list * per + i % per;
}

/* Where a position's tally is looked for first. */
__device__ __forceinline__ unsigned first_slot(const task &t, int pos)
{
    return t.shift < 32 ? (unsigned)pos * 0x9e3779b1u >> t.shift : 0;
}

template <bool MASS> __device__ void cast(const task &t, const tallies<MASS> &b, int list, int64_t i)
{
    const reattn_hit *hit = hit_of(t, list, i);
    const int pos = (int)hit->pos;
    if (pos < 0)
        return;
    const double score = hit->score;
    typename vote_type<MASS>::type weight = 1;
    if (MASS) {
        const reattn_hit *first = hit - i % t.top_k;
        double top = -INFINITY, sum = 0;
        for (int j = 0; j < t.top_k; j++)
            if (first[j].pos >= 0)
                top = fmax(top, first[j].score);
        for (int j = 0; j < t.top_k; j++)
            if (first[j].pos >= 0)
                sum += exp(t.scale * (first[j].score - top));
        const double share = exp(t.scale * (score - top)) / sum;
        weight = (typename vote_type<MASS>::type)fmax(1.0, rint(share * (double)(1ull << MASS_UNIT)));
    }
    unsigned slot = first_slot(t, pos);
    for (;; slot = (slot + 1) & (t.slots - 1)) {
        int seen = *(volatile int *)&b.pos[slot];
        if (seen == EMPTY)
            seen = atomicCAS(&b.pos[slot], EMPTY, pos);
        if (seen == EMPTY || seen == pos)
            break;
    }
    atomicAdd(&b.votes[slot], weight);
    const u64 order = order_of_double(score);
    if (order > *(volatile u64 *)&b.best[slot])
        atomicMax(&b.best[slot], order);
}

template <bool MASS> __device__ void clear(const tallies<MASS> &b, int n, int64_t first, int64_t step)
{
    for (int64_t i = first; i < n; i += step) {
        b.best[i] = 0;
        b.votes[i] = 0;
        b.pos[i] = EMPTY;
    }
}

template <bool MASS> __global__ void clear_kernel(task t)
{
    clear(tallies<MASS>(t.table + blockIdx.y * t.table_bytes, t.slots), t.slots,
          (int64_t)blockIdx.x * blockDim.x + threadIdx.x, (int64_t)gridDim.x * blockDim.x);
}

template <bool MASS> __global__ void cast_kernel(task t)
{
    const tallies<MASS> b(t.table + blockIdx.y * t.table_bytes, t.slots);
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < t.n_hit)
        cast(t, b, blockIdx.y, i);
}

/* ------------------------------------------------------------------------------------------ one block -------- */

struct shared_part {
    u64 high[WARPS], low[WARPS];
    int sums[WARPS], hist[BINS + 1];
    int listed, kept, bin, above, got;
};

__device__ int block_sum(int x, shared_part &s)
{
    x = __reduce_add_sync(ALL, x);
    __syncthreads();
    if (threadIdx.x % WARP == 0)
        s.sums[threadIdx.x / WARP] = x;
    __syncthreads();
    return __reduce_add_sync(ALL, s.sums[threadIdx.x % WARP]);
}

/* The highest and the lowest of a block. */
__device__ void block_range(u64 &high, u64 &low, shared_part &s)
{
    for (int turn = 0; turn < 2; turn++) {
        for (int i = WARP / 2; i > 0; i /= 2) {
            high = max(high, __shfl_xor_sync(ALL, high, i));
            low = min(low, __shfl_xor_sync(ALL, low, i));
        }
        if (turn == 1)
            return;
        __syncthreads();
        if (threadIdx.x % WARP == 0) {
            s.high[threadIdx.x / WARP] = high;
            s.low[threadIdx.x / WARP] = low;
        }
        __syncthreads();
        high = s.high[threadIdx.x % WARP];
        low = s.low[threadIdx.x % WARP];
    }
}

/* The largest x (or one that cuts as well) that at least `need` of the n values reach; *reach gets how many do. Values
 * of 0 are out of the race, `need` is at least 1. Ten bits at a time, from the first in which values differ. */
template <class value> __device__ u64 threshold(value of, int n, int need, shared_part &s, int *reach)
{
    u64 high = 0, low = ~0ull, mine[CACHED];
    for (int c = 0; c < CACHED; c++)
        mine[c] = 0;
    const bool cached = n <= CACHED * THREADS;
    for (int i = threadIdx.x, c = 0; i < n; i += THREADS, c++) {
        const u64 v = of(i);
        if (cached)
#pragma unroll
            for (int j = 0; j < CACHED; j++)
                if (j == c)
                    mine[j] = v;
        if (v > 0) {
            high = max(high, v);
            low = min(low, v);
        }
    }
    block_range(high, low, s);
    if (high == low) { /* all are equal: all reach it */
        int all = 0;
        for (int i = threadIdx.x; i < n; i += THREADS)
            all += of(i) > 0;
        *reach = block_sum(all, s);
        return high;
    }
    /* A histogram of the values in [x, x + 2^bits) says in which of its bins the threshold lies; that is the next x. */
    int bits = 64 - __clzll((long long)(high ^ low)), above = 0;
    u64 x = bits < 64 ? high >> bits << bits : 0;
    for (;;) {
        const int shift = max(bits - BIN_BITS, 0);
        s.hist[threadIdx.x] = 0;
        __syncthreads();
        auto count = [&](u64 v) {
            if (v > 0 && v >= x && (bits == 64 || v - x < 1ull << bits))
                atomicAdd(&s.hist[(v - x) >> shift], 1);
        };
        if (cached)
#pragma unroll
            for (int c = 0; c < CACHED; c++)
                count(mine[c]);
        else
            for (int i = threadIdx.x; i < n; i += THREADS)
                count(of(i));
        __syncthreads();
        int all;
        const int here = s.hist[threadIdx.x], before = block_scan(here, s.sums, &all), got = above + all - before;
        if (got >= need && got - here < need) {
            s.bin = threadIdx.x;
            s.above = got - here;
            s.got = got;
        }
        __syncthreads();
        x += (u64)s.bin << shift;
        above = s.above;
        *reach = s.got;
        if (*reach == need || shift == 0)
            return x;
        bits = shift;
    }
}

template <class test> __device__ int how_many(test of, int n, shared_part &s)
{
    int mine = 0;
    for (int i = threadIdx.x; i < n; i += THREADS)
        mine += of(i);
    return block_sum(mine, s);
}

/* Calls fn(slot, votes) for all slots, several loads ahead: the table may be far away. */
template <bool MASS, class function> __device__ void each_vote(const tallies<MASS> &table, int slots, function fn)
{
    for (int base = 0; base < slots; base += BATCH * THREADS) {
        typename vote_type<MASS>::type v[BATCH];
#pragma unroll
        for (int i = 0; i < BATCH; i++) {
            const int slot = base + i * THREADS + threadIdx.x;
            v[i] = slot < slots ? table.votes[slot] : 0;
        }
#pragma unroll
        for (int i = 0; i < BATCH; i++)
            fn(base + i * THREADS + (int)threadIdx.x, v[i]);
    }
}

/* The place of a position that has votes. */
template <bool MASS> __device__ int find(const task &t, const tallies<MASS> &b, int pos)
{
    unsigned slot = first_slot(t, pos);
    while (b.pos[slot] != pos)
        slot = (slot + 1) & (t.slots - 1);
    return (int)slot;
}

/* A tally that is among the m best has more votes than `votes`; or as many, and a better score than `best`; or as good
 * a one, and comes no later than `low` says. */
template <bool MASS> struct bar {
    typename vote_type<MASS>::type votes;
    u64 best;
    unsigned low;
    __device__ bool reached(typename vote_type<MASS>::type v, u64 b, int pos) const
    {
        return v > votes || (v == votes && (b > best || (b == best && 0x80000000u - (unsigned)pos >= low)));
    }
};

/* The m best once more, after the last votes; returns how many. Votes and scores only rise. So a tally that was not
 * among the m best and got none of these votes still has those m above it; nor has one a chance that is still below the
 * bar. What remains is little more than m: the old best [n_old], and few of those that have just been voted for. */
template <bool MASS>
__device__ __forceinline__ int keep_again(const task &t, const tallies<MASS> &table, const tallies<MASS> &list,
                                          shared_part &s, int number, const bar<MASS> &old_bar, const int *old,
                                          int n_old, int *kept)
{
    typedef typename vote_type<MASS>::type votes_t;
    const votes_t LISTED_BIT = (votes_t)1 << (8 * sizeof(votes_t) - 1);
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (threadIdx.x == 0)
        s.listed = s.kept = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < n_old + (int)(t.end_fresh - t.fresh); i += THREADS) {
        const int pos = i < n_old ? old[i] : (int)hit_of(t, number, t.fresh + i - n_old)->pos;
        if (pos < 0)
            continue;
        const int slot = find(t, table, pos);
        const votes_t votes = atomicOr(&table.votes[slot], LISTED_BIT);
        if ((votes & LISTED_BIT) || !old_bar.reached(votes, table.best[slot], pos))
            continue;
        const int at = atomicAdd(&s.listed, 1);
        list.votes[at] = votes;
        list.best[at] = table.best[slot];
        list.pos[at] = pos;
    }
    __syncthreads();
    const int n = s.listed;
    for (int i = warp; i < n; i += WARPS) {
        const votes_t votes = list.votes[i];
        const u64 best = list.best[i];
        const int pos = list.pos[i];
        int better = 0;
#pragma unroll 4
        for (int j = lane; j < n; j += WARP) {
            const votes_t v = list.votes[j];
            const u64 b = list.best[j];
            better += v > votes || (v == votes && (b > best || (b == best && list.pos[j] < pos)));
        }
        if (__reduce_add_sync(ALL, better) < t.m && lane == 0)
            kept[atomicAdd(&s.kept, 1)] = pos;
    }
    __syncthreads();
    return s.kept;
}

/* Finds the m best tallies: positions to kept, in any order; returns how many. */
template <bool MASS>
__device__ __forceinline__ int keep_best(const task &t, const tallies<MASS> &table, const tallies<MASS> &list,
                                         shared_part &s, bar<MASS> *limit, int *kept)
{
    typedef typename vote_type<MASS>::type votes_t;
    int ones = 0;
    for (int i = threadIdx.x; i < BINS + 1; i += THREADS)
        s.hist[i] = 0;
    if (threadIdx.x == 0)
        s.listed = s.kept = s.bin = s.above = 0;
    __syncthreads();
    each_vote(table, t.slots, [&](int, votes_t v) {
        if (!MASS && v == 1)
            ones++;
        else if (v > 0)
            atomicAdd(&s.hist[table.bin(v)], 1);
    });
    ones = block_sum(ones, s);
    if (threadIdx.x == 0)
        s.hist[1] += ones;
    __syncthreads();

    /* The lowest bin that is needed. */
    int all;
    const int here = s.hist[threadIdx.x], before = block_scan(here, s.sums, &all), reach = all - before;
    if (all > t.m && reach >= t.m && reach - here < t.m) {
        s.bin = threadIdx.x;
        s.above = reach - here;
    }
    __syncthreads();
    const int bin = s.bin;
    each_vote(table, t.slots, [&](int i, votes_t v) {
        if (v == 0 || table.bin(v) < bin)
            return;
        const int at = atomicAdd(&s.listed, 1);
        if (at < listed_most<MASS>()) {
            list.votes[at] = v;
            list.best[at] = table.best[i];
            list.pos[at] = table.pos[i];
        }
    });
    __syncthreads();
    const bool fits = s.listed <= listed_most<MASS>();
    const tallies<MASS> &from = fits ? list : table;
    const int n = fits ? s.listed : t.slots;

    votes_t votes = 1;
    u64 best = 0, low = 0;
    if (all > t.m) {
        const bool exact = !MASS && bin < BINS - 1; /* a bin is one number of votes */
        int got = s.above + s.hist[bin];
        votes = exact ? (votes_t)bin : (votes_t)threshold([&](int i) { return (u64)from.votes[i]; }, n, t.m, s, &got);
        if (got > t.m) {
            const int more = how_many([&](int i) { return from.votes[i] > votes; }, n, s);
            auto tie = [&](int i) { return from.votes[i] == votes ? from.best[i] : 0; };
            best = threshold(tie, n, t.m - more, s, &got);
            if (got > t.m - more) {
                const int better = how_many([&](int i) { return tie(i) > best; }, n, s);
                low = threshold([&](int i) { return tie(i) == best ? (u64)(0x80000000u - (unsigned)from.pos[i]) : 0; },
                                n, t.m - more - better, s, &got);
            }
        }
    }
    *limit = {votes, best, (unsigned)low};
    for (int i = threadIdx.x; i < n; i += THREADS)
        if (limit->reached(from.votes[i], from.best[i], from.pos[i]))
            kept[atomicAdd(&s.kept, 1)] = from.pos[i];
    __syncthreads();
    return s.kept;
}

/* From the m best positions, in any order, to the list of tokens. They are left in kept + m, ascending. */
__device__ __forceinline__ void write_plan(const task &t, shared_part &s, int list, int *kept, int n_kept)
{
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    int *sorted = kept + t.m, *offset = sorted + t.m, *ends = offset + t.m;

    for (int i = warp; i < n_kept; i += WARPS) {
        int less = 0;
#pragma unroll 4
        for (int j = lane; j < n_kept; j += WARP)
            less += kept[j] < kept[i];
        less = __reduce_add_sync(ALL, less);
        if (lane == 0)
            sorted[less] = kept[i];
    }
    __syncthreads();

    /* Spans, counted from `keep`. Ends ascend, so that a span joins what came before iff it begins at or before the end
     * before it. */
    const int high = (int)(t.n - t.local - t.keep), before = (int)(t.span / 2), after = (int)((t.span + 1) / 2);
    auto end_of = [&](int j) { return j < 0 ? -1 : (int)min((int64_t)high, (int64_t)sorted[j] + after); };
    auto begin_of = [&](int j) { return max(0, sorted[j] - before); };
    int recalled = 0, n_span = 0;
    for (int base = 0; base < n_kept; base += THREADS) {
        const int j = base + threadIdx.x;
        const bool in = j < n_kept;
        const bool opens = in && begin_of(j) > end_of(j - 1);
        const int count = in ? end_of(j) - max(begin_of(j), end_of(j - 1)) : 0;
        int more, opened;
        const int at = recalled + block_scan(count, s.sums, &more);
        const int number = n_span + block_scan(opens, s.sums, &opened) + opens - 1;
        if (in)
            offset[j] = at;
        if (opens)
            kept[number] = begin_of(j);
        if (in && (j == n_kept - 1 || begin_of(j + 1) > end_of(j)))
            ends[number] = end_of(j);
        recalled += more;
        n_span += opened;
    }
    __syncthreads();

    int32_t *tokens = t.tokens + list * t.room;
    const int keep = (int)t.keep, local = (int)t.local;
    for (int i = threadIdx.x; i < keep; i += THREADS)
        tokens[i] = i;
    for (int j = warp; j < n_kept; j += WARPS) {
        const int first = max(begin_of(j), end_of(j - 1));
        for (int c = lane; c < end_of(j) - first; c += WARP)
            tokens[keep + offset[j] + c] = keep + first + c;
    }
    for (int i = threadIdx.x; i < local; i += THREADS)
        tokens[keep + recalled + i] = (int)t.n - local + i;
    for (int i = threadIdx.x; i < n_span; i += THREADS)
        t.spans[list * t.m + i] = {keep + kept[i], ends[i] - kept[i]};
    if (threadIdx.x == 0) {
        t.count[list] = keep + recalled + local;
        t.n_span[list] = n_span;
    }
}

template <bool MASS> __global__ void __launch_bounds__(THREADS) plan_kernel(const __grid_constant__ batch<task> all)
{
    const task &t = of_session(all);
    extern __shared__ __align__(16) char raw[];
    __shared__ shared_part s;
    const int list = blockIdx.x;
    const tallies<MASS> listed(raw, listed_most<MASS>());
    int *kept = (int *)(raw + listed_most<MASS>() * slot_bytes<MASS>());
    char *own = (char *)kept + ((size_t)t.m * 4 * sizeof(int) + 15) / 16 * 16;
    const tallies<MASS> table(t.table ? t.table + list * t.table_bytes : own, t.slots);
    if (!t.table)
        clear(table, t.slots, threadIdx.x, THREADS);
    /* First with the hits that are there already, while the last are still looked for. That plan is thrown away, but
     * then few positions are left that can be in the right one, and the code has been fetched. */
    int n_kept = 0;
    bar<MASS> limit = {};
#pragma unroll 1
    for (int turn = t.rehearse ? 0 : 1; turn < 2; turn++) {
        const bool last = turn == 1;
        if (last) {
            wait_for_previous();
            if (!t.along)
                let_next_start();
        }
        __syncthreads();
        const bool again = last && t.rehearse;
        const int64_t from = again ? t.fresh : 0, end = again ? t.end_fresh : t.table ? 0 : t.n_hit;
#pragma unroll 1
        for (int64_t i = from + threadIdx.x; i < end; i += THREADS)
            if (last || i < t.fresh || i >= t.end_fresh)
                cast(t, table, list, i);
        __syncthreads();
        if (t.along && !again) /* not at once: what it reads would delay what selects */
            let_next_start();
        if (again && n_kept + (t.end_fresh - t.fresh) <= AGAIN_MOST)
            n_kept = keep_again(t, table, listed, s, list, limit, kept + t.m, n_kept, kept);
        else
            n_kept = keep_best(t, table, listed, s, &limit, kept);
        write_plan(t, s, list, kept, n_kept);
    }
}

/* --------------------------------------------------------------------------------------------- the host -------- */

struct layout {
    task t;
    size_t shared;
    int most; /* bytes that may be asked for */
    bool global;
};

template <bool MASS> cudaError_t lay_out(const reattn__cuda_plan_args *a, layout *l)
{
    int device, most = 0;
    cudaError_t code = cudaGetDevice(&device);
    if (code == cudaSuccess)
        code = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    task &t = l->t;
    t = task{};
    t.hits = a->hits, t.H = a->H, t.top_k = a->top_k, t.lists = a->lists, t.m = (int)a->m, t.scale = a->scale;
    t.span = a->span, t.n = a->n, t.keep = a->keep, t.local = a->local, t.room = a->room;
    t.tokens = a->tokens, t.count = a->count, t.n_span = a->n_span, t.spans = a->spans;
    const int64_t per_query = (int64_t)(a->H / a->lists) * a->top_k;
    t.n_hit = a->n_query * per_query, t.fresh = a->fresh * per_query, t.end_fresh = t.fresh + a->n_fresh * per_query;
    t.along = a->along, t.rehearse = a->n_fresh < a->n_query;
    t.slots = 16, t.shift = 28;
    while (t.slots < 2 * t.n_hit) {
        t.slots *= 2;
        t.shift--;
    }
    t.table_bytes = ((size_t)t.slots * slot_bytes<MASS>() + 255) / 256 * 256;
    l->shared = (listed_most<MASS>() * slot_bytes<MASS>() + (size_t)t.m * 4 * sizeof(int) + 15) / 16 * 16;
    l->most = most - (int)(sizeof(shared_part) + 1023) / 1024 * 1024;
    l->global = l->shared + t.table_bytes > (size_t)l->most;
    if (!l->global)
        l->shared += t.table_bytes;
    t.table = l->global ? (char *)a->work : NULL;
    t.rehearse &= !l->global;
    return code;
}

template <bool MASS> cudaError_t launch(const layout *l, int n, cudaStream_t stream)
{
    task t[MANY];
    size_t shared = 0;
    if (l->global) {
        const unsigned blocks = (unsigned)((l->t.n_hit + 255) / 256);
        clear_kernel<MASS><<<dim3(blocks, l->t.lists), 256, 0, stream>>>(l->t);
        cast_kernel<MASS><<<dim3(blocks, l->t.lists), 256, 0, stream>>>(l->t);
    }
    for (int i = 0; i < n; i++) {
        t[i] = l[i].t;
        shared = REATTN__MAX(shared, l[i].shared);
    }
    cudaError_t code = allow_shared<plan_kernel<MASS>>(l->most);
    if (code != cudaSuccess)
        return code;
    return launch_batch(plan_kernel<MASS>, l->t.lists, THREADS, shared, stream, t, n);
}

cudaError_t lay_out_any(const reattn__cuda_plan_args *a, layout *l)
{
    return a->vote == REATTN_VOTE_MASS ? lay_out<true>(a, l) : lay_out<false>(a, l);
}

} // namespace

extern "C" size_t reattn__cuda_plan_bytes(const reattn__cuda_plan_args *args)
{
    layout l;
    return lay_out_any(args, &l) == cudaSuccess && l.global ? l.t.table_bytes * args->lists : 0;
}

static int set_up(const reattn__cuda_plan_args *args, layout *l, reattn_error *err)
{
    const int64_t most = args->vote == REATTN_VOTE_MASS ? 1 << (63 - MASS_UNIT) : 1 << 24; /* that sums can hold */
    if (args->m < 1 || args->m > REATTN__CUDA_SPANS_MAX || args->span < 1 || args->n <= args->keep + args->local ||
        args->n > INT32_MAX || args->n_query < 1 || args->fresh < 0 || args->n_fresh < 0 ||
        args->fresh + args->n_fresh > args->n_query || args->n_query * args->H * args->top_k > most)
        return reattn__fail(err, REATTN_E_ARG, "a plan of %lld queries, %lld spans of %lld, %lld tokens: out of range",
                            (long long)args->n_query, (long long)args->m, (long long)args->span, (long long)args->n);
    int code = failed(lay_out_any(args, l), "looking at the device", err);
    if (code)
        return code;
    if (l->global && args->work_bytes < l->t.table_bytes * args->lists)
        return reattn__fail(err, REATTN_E_ARG, "votes need %zu bytes of scratch, %zu were given",
                            l->t.table_bytes * args->lists, args->work_bytes);
    return REATTN_OK;
}

extern "C" int reattn__cuda_plan(const reattn__cuda_plan_args *args, void *stream, reattn_error *err)
{
    return reattn__cuda_plan_many(args, 1, stream, err);
}

extern "C" bool reattn__cuda_plan_together(const reattn__cuda_plan_args *a, const reattn__cuda_plan_args *b)
{
    return a->lists == b->lists && a->vote == b->vote && a->along == b->along && !reattn__cuda_plan_bytes(a) &&
           !reattn__cuda_plan_bytes(b);
}

extern "C" int reattn__cuda_plan_many(const reattn__cuda_plan_args *args, int n, void *stream, reattn_error *err)
{
    layout l[MANY];
    cudaStream_t on = (cudaStream_t)stream;
    if (n < 1 || n > MANY)
        return reattn__fail(err, REATTN_E_ARG, "%d plans in one launch: 1 to %d", n, (int)MANY);
    for (int i = 0; i < n; i++) {
        const int code = set_up(&args[i], &l[i], err);
        if (code)
            return code;
        if (n > 1 && (l[i].global || args[i].lists != args->lists || args[i].vote != args->vote))
            return reattn__fail(err, REATTN_E_ARG, "plans 0 and %d of %d are not alike", i, n);
    }
    return failed(args->vote == REATTN_VOTE_MASS ? launch<true>(l, n, on) : launch<false>(l, n, on), "voting", err);
}
