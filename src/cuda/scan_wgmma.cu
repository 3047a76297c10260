/* scan_wgmma.cu - the scan for many queries on sm_90: one warp copies tiles of keys into shared memory (TMA),
 * warpgroups of 64 rows each multiply them (wgmma) and test the sums.
 *
 * A block holds up to 256 rows (tokens x heads of one KV head) and streams keys past them, so that each tile of keys
 * leaves the L2 cache once for 256 rows. While one warpgroup tests its sums, the others keep the tensor cores busy. A
 * lane has 2 rows x 32 keys of a tile: their maxima against what is worth a look; the rest happens about k ln(M / k)
 * times a row. Rows belong to one warp, so that lists need no locks.
 *
 * What limits the speed is how long a warpgroup takes from one product to the next, and that is the slowest of its four
 * warps: a chain of instructions that wait for each other. Hence few of them, nothing computed anew for each tile, and
 * 8-bit scans, whose looser bound has something worth a look in nearly every tile, only put the sums aside, without a
 * branch that lanes do not take together; all lanes then look at theirs at once, every 32 tiles.
 *
 * Before that a block looks at every 16th of its tiles (if they are few, up to every 4th), only for the maximum: the
 * k-th best of those is surely reached by k keys, and what would else be written down while little is known is not. */
#include "scan.cuh"

#include <stddef.h>

#include "boxes.cuh"
#include "hopper.cuh"

using namespace reattn_cuda;

namespace
{

enum { STAGES_MAX = 8, LEARN_OFTEN = 8, FEW = 4 };
enum { SAMPLE_EVERY = 16, SAMPLE_OFTEN = 4 }; /* powers of 2 */
enum { SHARED_MAX = 232448 - 2048, PRODUCER = 128 };

/* Integer sums that are worth a look wait until their warp has time for them: of each lane the 16 of one row and one
 * column. They keep bits 8 to 23; D products of 8 bits sum up to no more. */
struct waiting {
    uint4 sums[2][WARP];
    int2 about[WARP]; /* their maximum; turn * 4 + which of the lane's four */
};

template <int D, int KIND> struct shape {
    static constexpr int BYTES = D * value_bytes(KIND);
    static constexpr int SWIZZLE = BYTES <= 64 ? 64 : 128;
    static constexpr int CHUNKS = (BYTES + SWIZZLE - 1) / SWIZZLE;
    static constexpr int GROUPS = BYTES >= 512 ? 2 : 4; /* warpgroups that multiply */
    static constexpr int ROWS = GROUPS * 64;
    static constexpr int Q_BYTES = ROWS * CHUNKS * SWIZZLE, STAGE_BYTES = TILE * CHUNKS * SWIZZLE;
    static constexpr int THREADS = PRODUCER + GROUPS * 128;
    /* Places for what waits, a lane; turns between learning, a power of 2; turns after which norms are overwritten:
     * what waits needs them, and copies are up to STAGES_MAX ahead. */
    static constexpr int PLACES = KIND != I8 ? 0 : BYTES >= 256 ? 2 : 5;
    static constexpr int LEARN_EVERY = PLACES > 2 ? 32 : 16, INFOS = 64;
    static_assert(LEARN_EVERY + STAGES_MAX <= INFOS, "");
    static constexpr int WAIT_BYTES = GROUPS * 4 * PLACES * (int)sizeof(waiting);
};

[[maybe_unused]] __device__ __forceinline__ float largest(float a, float b, float c)
{
    return fmaxf(fmaxf(a, b), c);
}
[[maybe_unused]] __device__ __forceinline__ int largest(int a, int b, int c)
{
    return __vimax3_s32(a, b, c);
}

template <class sum> constexpr bool INTEGER = false;
template <> constexpr bool INTEGER<int> = true;

/* Reads norms from shared memory; again, to need no registers in between. */
[[maybe_unused]] __device__ __forceinline__ tile_info norms_at(uint32_t info)
{
    tile_info t;
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(t.scale), "=f"(t.inv), "=f"(t.a), "=f"(t.b)
                 : "r"(info));
    return t;
}

/* One of a lane's two rows. */
template <class sum> struct row_state {
    row_info info;
    float floor;
    sum least;        /* worth a look in this tile */
    float fresh;      /* the best score that the floor does not know yet */
    unsigned at, end; /* where the lane's next candidate goes, and where its list ends */
    float *best;
};

template <int KIND, class sum> __device__ __forceinline__ void set_least(row_state<sum> &r, const tile_info &t)
{
    float x = worth(r.floor, error_of(r.info, t), r.info, t);
    if constexpr (KIND == I8)
        r.least = worth_int(x);
    else
        r.least = x;
}

/* Writes down those of a lane's 16 keys of one row and one column that are worth a look. Each lane has lists of its
 * own, and nobody waits: one slow warp stops the three others of its warpgroup. Known keys were sampled: their scores
 * are among the k best already. */
template <int FIRST, class sum>
__device__ __forceinline__ void note(const search &s, const sum (&c)[64], row_state<sum> &r, const tile_info &t, int at,
                                     sum most, bool known)
{
    unsigned keys = 0;
    if constexpr (INTEGER<sum>) { /* by their signs: two instructions a key */
#pragma unroll
        for (int i = 15; i >= 0; i--)
            keys = __funnelshift_l((unsigned)(c[i * 4 + FIRST] - r.least), keys, 1);
        keys ^= 0xffff;
    } else {
#pragma unroll
        for (int i = 0; i < 16; i++)
            keys |= c[i * 4 + FIRST] >= r.least ? 1u << i : 0;
    }
    const float e = error_of(r.info, t), score = (float)most * (r.info.scale * t.scale);
    float lo = score - e;
    if (at >= (int)(s.M / TILE) * COLUMNS) { /* sums of keys that are not there may be among them */
        keys &= keys_there(at, s.M);
        lo = -INFINITY;
        if (!keys)
            return;
    }
    if (r.at < r.end)
        s.cand[r.at] = {at, keys, score + e, lo};
    r.at++;
    r.fresh = fmaxf(r.fresh, known ? -INFINITY : lo);
}

/* The larger or the smaller of one's own and another lane's. */
__device__ __forceinline__ float either(float x, int partner, bool larger)
{
    const float y = __shfl_xor_sync(ALL, x, partner);
    return larger ? fmaxf(x, y) : fminf(x, y);
}
/* raise_floor() for up to 4 wanted: of the best each of a row's four lanes keeps one, in order, and brings one. */
[[maybe_unused]] __device__ __forceinline__ float raise_few(float *best, int top_k, float lo, int lane)
{
    const bool odd = lane & 1, high = lane & 2;
    float x = either(lo, 1, odd == high); /* ascending */
    x = either(x, 2, high);
    x = either(x, 1, odd);
    x = fmaxf(x, *best);
    x = either(x, 2, !high);
    x = either(x, 1, !odd);
    *best = x;
    return __shfl_sync(ALL, x, (lane & 28) + top_k - 1);
}

/* Raises a row's floor by the best that each of its four lanes has seen since the last time. */
template <class sum> __device__ __forceinline__ void learn(const search &s, row_state<sum> &r, int row, int lane)
{
    const float before = r.floor, lo = r.fresh;
    bool wants = lo > r.floor && s.top_k > FEW;
    if (s.top_k <= FEW)
        r.floor = fmaxf(r.floor, raise_few(r.best, s.top_k, lo, lane));
    for (unsigned all = __ballot_sync(ALL, wants); all; all = __ballot_sync(ALL, wants)) {
        const unsigned who = all >> (lane & 28) & 15;
        const int turn = who ? (lane & 28) + __ffs(who) - 1 : lane;
        if (wants && lane == turn) {
            r.floor = fmaxf(r.floor, raise_floor(r.best, s.top_k, lo));
            wants = false;
        }
        __syncwarp();
        r.floor = __shfl_sync(ALL, r.floor, turn);
        wants = wants && lo > r.floor;
    }
    r.fresh = -INFINITY;
    if (gridDim.y > 1 && lane % 4 == 0 && r.floor > before)
        atomicMax(&s.floor[row], order_of(r.floor));
}

/* Leaves a lane's 16 sums of one row and one column in its place n, if they are wanted and there is one: no lane waits
 * for another. Counts those that had none, too. */
template <int F, int PLACES>
__device__ __forceinline__ void leave(const int (&c)[64], bool wanted, uint32_t places, int &n, int turn, int most,
                                      int lane)
{
    unsigned x[8];
#pragma unroll
    for (int i = 0; i < 8; i++)
        x[i] = __byte_perm(c[i * 8 + F], c[i * 8 + 4 + F], 0x6521);
    const uint32_t to = places + n * (uint32_t)sizeof(waiting);
    static_assert(offsetof(waiting, sums[1]) == 512 && offsetof(waiting, about) == 1024, "");
    asm volatile("{\n.reg .pred put;\nsetp.ne.s32 put, %0, 0;\n"
                 "@put st.shared.v4.b32 [%1], {%3, %4, %5, %6};\n"
                 "@put st.shared.v4.b32 [%1 + 512], {%7, %8, %9, %10};\n"
                 "@put st.shared.v2.b32 [%2 + 1024], {%11, %12};\n}" ::"r"((int)(wanted && n < PLACES)),
                 "r"(to), "r"(to - lane * 8), "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(x[4]), "r"(x[5]),
                 "r"(x[6]), "r"(x[7]), "r"(most), "r"(turn * 4 + F)
                 : "memory");
    n += wanted ? 1 : 0;
}
template <int F, int PLACES>
__device__ __forceinline__ void leave(const float (&)[64], bool, uint32_t, int &, int, float, int)
{
}

/* Writes down the keys among what waits that are still worth a look. Turns from `samples` on take the tiles from
 * `first` on. Without branches: what takes time here is waiting for one's own results. */
template <class shape>
__device__ __forceinline__ void look(const search &s, row_state<int> (&r)[2], const waiting *places, int &n,
                                     const tile_info *infos, int first, int samples, int every, int lane)
{
#pragma unroll 1
    for (int i = 0; __any_sync(ALL, i < n); i++) {
        const int2 about = places[i].about[lane];
        const uint4 a = places[i].sums[0][lane], b = places[i].sums[1][lane];
        const bool second = about.y & 2;
        const int turn = about.y / 4, tile = first + turn - samples, column = lane % 4 * 2 + (about.y & 1);
        const tile_info t = infos[(unsigned)turn % shape::INFOS]; /* where nothing waits, of some tile */
        const row_info info = second ? r[1].info : r[0].info;
        const float e = error_of(info, t);
        const int least = worth_int(worth(second ? r[1].floor : r[0].floor, e, info, t));
        const unsigned x[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
        const int bound = max(min(least, 1 << 22), -(1 << 22)) >> 8 << 16;
        unsigned keys = 0;
#pragma unroll
        for (int j = 7; j >= 0; j--) { /* by their signs */
            keys = __funnelshift_l((unsigned)((int)x[j] - bound), keys, 1);
            keys = __funnelshift_l((unsigned)((int)(x[j] << 16) - bound), keys, 1);
        }
        /* In the last tile there may be sums of keys that are not there. */
        const int there = min(max(((int)(s.M - (int64_t)tile * TILE) - column + COLUMNS - 1) / COLUMNS, 0), 16);
        keys = ~keys & ((1u << there) - 1);
        const float score = (float)about.x * (info.scale * t.scale), lo = there < 16 ? -INFINITY : score - e;
        const bool good = i < n && about.x >= least && keys;
        const unsigned to = second ? r[1].at : r[0].at;
        if (good && to < (second ? r[1].end : r[0].end))
            s.cand[to] = {tile * COLUMNS + column, keys, score + e, lo};
        const bool teaches = good && !(samples && ((turn - samples) & (every - 1)) == 0);
        r[0].at += good && !second ? 1 : 0;
        r[1].at += good && second ? 1 : 0;
        r[0].fresh = fmaxf(r[0].fresh, teaches && !second ? lo : -INFINITY);
        r[1].fresh = fmaxf(r[1].fresh, teaches && second ? lo : -INFINITY);
    }
    n = 0;
}

/* c[i] is row i / 2 % 2 of the lane, key i / 4 * 8 and column i % 2. */
template <int PLACES, class sum>
__device__ __forceinline__ void test(const search &s, const sum (&c)[64], row_state<sum> (&r)[2], uint32_t info, int at,
                                     uint32_t places, int &n, int turn, bool known, int lane)
{
    sum most[4];
#pragma unroll
    for (int f = 0; f < 4; f++) {
        sum x = largest(c[f], c[f + 4], c[f + 8]), y = largest(c[f + 12], c[f + 16], c[f + 20]);
#pragma unroll
        for (int i = 24; i < 56; i += 16) {
            x = largest(x, c[f + i], c[f + i + 4]);
            y = largest(y, c[f + i + 8], c[f + i + 12]);
        }
        x = largest(x, c[f + 56], c[f + 60]);
        most[f] = max(x, y);
    }
    const bool wanted[4] = {most[0] >= r[0].least, most[1] >= r[0].least, most[2] >= r[1].least, most[3] >= r[1].least};
    if constexpr (PLACES > 0) {
        unsigned lanes[4]; /* asked all at once: the answers take as long as what is done then */
#pragma unroll
        for (int f = 0; f < 4; f++)
            lanes[f] = __ballot_sync(ALL, wanted[f]);
        if (lanes[0])
            leave<0, PLACES>(c, wanted[0], places, n, turn, most[0], lane);
        if (lanes[1])
            leave<1, PLACES>(c, wanted[1], places, n, turn, most[1], lane);
        if (lanes[2])
            leave<2, PLACES>(c, wanted[2], places, n, turn, most[2], lane);
        if (lanes[3])
            leave<3, PLACES>(c, wanted[3], places, n, turn, most[3], lane);
        if (!__any_sync(ALL, n > PLACES)) [[likely]]
            return;
    } else if (!__any_sync(ALL, wanted[0] || wanted[1] || wanted[2] || wanted[3]))
        return;
    /* At once, what there was no place for. */
    const tile_info t = norms_at(info);
    int place = PLACES > 0 ? n - wanted[0] - wanted[1] - wanted[2] - wanted[3] : 0;
    if (wanted[0] && place++ >= PLACES)
        note<0>(s, c, r[0], t, at, most[0], known);
    if (wanted[1] && place++ >= PLACES)
        note<1>(s, c, r[0], t, at + 1, most[1], known);
    if (wanted[2] && place++ >= PLACES)
        note<2>(s, c, r[1], t, at, most[2], known);
    if (wanted[3] && place++ >= PLACES)
        note<3>(s, c, r[1], t, at + 1, most[3], known);
    n = min(n, PLACES);
    __syncwarp();
}

/* The row's best sum of a sampled tile joins its k best. */
template <int HALF, class sum>
__device__ __forceinline__ void sample(const search &s, const sum (&c)[64], row_state<sum> &r, uint32_t info, int lane)
{
    const tile_info t = norms_at(info);
    const float e = error_of(r.info, t);
    sum most = c[HALF * 2];
#pragma unroll
    for (int i = 0; i < 64; i += 4)
        most = largest(most, c[i + HALF * 2], c[i + HALF * 2 + 1]);
    if (s.top_k <= FEW) {
        const float lo = (float)most * (r.info.scale * t.scale) - e;
        r.floor = fmaxf(r.floor, raise_few(r.best, s.top_k, lo, lane));
        return;
    }
    most = max(most, __shfl_xor_sync(ALL, most, 1));
    most = max(most, __shfl_xor_sync(ALL, most, 2));
    const float lo = (float)most * (r.info.scale * t.scale) - e;
    if (lane % 4 == 0 && lo > r.floor)
        r.floor = fmaxf(r.floor, raise_floor(r.best, s.top_k, lo));
    r.floor = __shfl_sync(ALL, r.floor, lane & 28);
    __syncwarp();
}

template <int D, int KIND>
__global__ void __launch_bounds__(shape<D, KIND>::THREADS, 1)
    scan_kernel(const __grid_constant__ CUtensorMap q_map, const __grid_constant__ CUtensorMap k_map,
                const __grid_constant__ search s, int split_tiles, int stages)
{
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    typedef shape<D, KIND> S;
    typedef typename sums<KIND>::type sum;
    constexpr int STEPS = S::BYTES / 32, VALUES = S::SWIZZLE / value_bytes(KIND);
    extern __shared__ __align__(1024) char raw[];
    __shared__ uint64_t q_full, full[STAGES_MAX], empty[STAGES_MAX];
    __shared__ __align__(16) tile_info infos[S::INFOS];
    char *q_tile = raw, *k_tile = q_tile + S::Q_BYTES;
    waiting *places = (waiting *)(k_tile + stages * S::STAGE_BYTES);
    float *best = (float *)((char *)places + S::WAIT_BYTES);
    const int hk = blockIdx.z, split = blockIdx.y, group = __shfl_sync(ALL, (int)threadIdx.x / 128 - 1, 0);
    const int first_row = blockIdx.x * S::ROWS;
    const int tiles = (int)((s.M + TILE - 1) / TILE);
    const int first_tile = split * split_tiles, end_tile = min(first_tile + split_tiles, tiles);
    /* Only whole tiles are sampled, and only if there are more than hits wanted. */
    const int whole = max(min(end_tile, (int)(s.M / TILE)) - first_tile, 0);
    int every = SAMPLE_EVERY;
    while (every > SAMPLE_OFTEN && whole / every < 2 * s.top_k)
        every /= 2;
    const int samples = whole / every >= 2 * s.top_k ? whole / every : 0;
    const int turns = samples + max(end_tile - first_tile, 0);
    auto tile_of = [&](int turn) { return first_tile + (turn < samples ? turn * every : turn - samples); };

    if (threadIdx.x == 0) {
        barrier_init(&q_full, 1);
        for (int i = 0; i < stages; i++) {
            barrier_init(&full[i], 1);
            barrier_init(&empty[i], S::GROUPS * 4);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    const int kept = max(s.top_k, (int)FEW);
    for (int i = threadIdx.x; i < S::ROWS * kept; i += S::THREADS)
        best[i] = -INFINITY;
    __syncthreads();
    wait_for_previous();
    let_next_start();

    if (group < 0) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
        if (threadIdx.x > 0)
            return;
        barrier_expect(&q_full, S::Q_BYTES);
        for (int c = 0; c < S::CHUNKS; c++)
            copy_box(q_tile + c * S::ROWS * S::SWIZZLE, &q_map, c * VALUES, first_row, hk, &q_full);
        for (int i = 0, stage = 0, phase = 1; i < turns; i++) {
            const int tile = tile_of(i);
            barrier_wait(&empty[stage], phase);
            barrier_expect(&full[stage], S::STAGE_BYTES + (int)sizeof(tile_info));
            copy_bytes(&infos[i % S::INFOS], s.tiles + hk * s.tile_stride + tile, sizeof(tile_info), &full[stage]);
            for (int c = 0; c < S::CHUNKS; c++)
                copy_box(k_tile + stage * S::STAGE_BYTES + c * TILE * S::SWIZZLE, &k_map, c * VALUES, tile * TILE, hk,
                         &full[stage]);
            if (++stage == stages) {
                stage = 0;
                phase ^= 1;
            }
        }
    } else {
        /* No more than the copying warps gave back: 96 + (96 - 24) / 4, and 168 + (168 - 24) / 2. */
        if constexpr (S::GROUPS == 4)
            asm volatile("setmaxnreg.inc.sync.aligned.u32 112;");
        else
            asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
        const int warp = threadIdx.x / WARP % 4, lane = threadIdx.x % WARP;
        const int at = group * 64 + warp * 16 + lane / 4; /* in the block; the lane's other row is 8 further */
        const int rows = (int)s.rows, row = hk * rows + first_row + at; /* H * T is an int: select.cu */
        row_state<sum> r[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const bool there = first_row + at + i * 8 < rows;
            r[i].info = there ? s.row[row + i * 8] : row_info{1, 1, 0, 0};
            r[i].floor = there ? of_order(s.floor[row + i * 8]) : INFINITY;
            r[i].fresh = -INFINITY;
            r[i].at = ((unsigned)(row + i * 8) * s.lists + split * 4 + lane % 4) * s.room;
            r[i].end = r[i].at + s.room;
            r[i].best = best + (at + i * 8) * kept + (s.top_k <= FEW ? lane % 4 : 0);
        }
        const uint64_t a = matrix<S::SWIZZLE>(q_tile + group * 64 * S::SWIZZLE);
        const int learn_every = s.top_k > LEARN_OFTEN ? S::LEARN_EVERY / 8 : S::LEARN_EVERY;
        places += (group * 4 + warp) * S::PLACES;
        /* Kept in registers: what is computed anew for each tile, in uniform registers above all, all four warps wait
         * for. */
        uint32_t mine = shared_address(places) + lane * (uint32_t)sizeof(uint4), full_at = shared_address(full);
        uint32_t empty_at = lane == 0 ? shared_address(empty) : 0, infos_at = shared_address(infos);
        asm volatile("" : "+r"(mine), "+r"(full_at), "+r"(empty_at), "+r"(infos_at));
        const uint64_t b0 = matrix<S::SWIZZLE>(k_tile);
        uint32_t b_low = (uint32_t)b0;   /* of the tile's keys: their address */
        int n = 0, learns = samples + 1; /* waiting; after how many turns the warp learns next */
        barrier_wait(&q_full, 0);
        for (int i = 0, left = turns, stage = 0, phase = 0; left > 0; i++, left--) {
            sum c[64];
            const uint64_t b = b0 >> 32 << 32 | b_low;
            const uint32_t info = infos_at + i % S::INFOS * (uint32_t)sizeof(tile_info);
            wait_at(full_at + stage * (uint32_t)sizeof(uint64_t), phase);
            const tile_info t = norms_at(info);
#pragma unroll
            for (int j = 0; j < 64; j++)
                keep(c[j]);
            wgmma_fence();
#pragma unroll
            for (int j = 0; j < STEPS; j++) {
                constexpr int IN_CHUNK = S::SWIZZLE / 32;
                const int chunk = j / IN_CHUNK, in_chunk = j % IN_CHUNK * 2;
                wgmma<KIND>(c, a + (chunk * S::ROWS * S::SWIZZLE >> 4) + in_chunk,
                            b + (chunk * TILE * S::SWIZZLE >> 4) + in_chunk, j > 0);
            }
            wgmma_commit();
            /* Meanwhile: what is worth a look in this tile. */
#pragma unroll
            for (int j = 0; j < 2; j++)
                set_least<KIND>(r[j], t);
            wgmma_wait();
#pragma unroll
            for (int j = 0; j < 64; j++)
                keep(c[j]);
            __syncwarp();
            if (lane == 0)
                arrive_at(empty_at + stage * (uint32_t)sizeof(uint64_t));
            if (i < samples) {
                sample<0>(s, c, r[0], info, lane);
                sample<1>(s, c, r[1], info, lane);
            } else {
                const bool known = samples && ((i - samples) & (every - 1)) == 0;
                test<S::PLACES>(s, c, r, info, tile_of(i) * COLUMNS + lane % 4 * 2, mine, n, i, known, lane);
                if (i + 1 == learns) {
                    /* A row learns four scores at a time: the more are wanted, the oftener; at first after every tile,
                     * or two, four, ... The warpgroups take turns. */
                    const int done = learns - samples;
                    learns += !samples && done < s.top_k ? 1
                              : done < learn_every       ? done
                              : done == learn_every      ? learn_every - group * (learn_every / 4)
                                                         : learn_every;
                    int heard[2] = {INT32_MIN, INT32_MIN}; /* what other splits know: comes in meanwhile */
                    if (gridDim.y > 1)
#pragma unroll
                        for (int j = 0; j < 2; j++)
                            if (first_row + at + j * 8 < rows)
                                heard[j] = *(volatile int *)&s.floor[row + j * 8];
                    if constexpr (S::PLACES > 0)
                        look<S>(s, r, places, n, infos, first_tile, samples, every, lane);
                    learn(s, r[0], row, lane);
                    learn(s, r[1], row + 8, lane);
#pragma unroll
                    for (int j = 0; j < 2; j++)
                        if (heard[j] != INT32_MIN)
                            r[j].floor = fmaxf(r[j].floor, of_order(heard[j]));
                }
            }
            b_low += S::STAGE_BYTES >> 4;
            if (++stage == stages) {
                stage = 0;
                phase ^= 1;
                b_low -= stages * (S::STAGE_BYTES >> 4);
            }
        }
        if constexpr (S::PLACES > 0)
            look<S>(s, r, places, n, infos, first_tile, samples, every, lane);
        learn(s, r[0], row, lane);
        learn(s, r[1], row + 8, lane);
#pragma unroll
        for (int i = 0; i < 2; i++)
            if (first_row + at + i * 8 < rows) {
                s.count[(row + i * 8) * s.lists + split * 4 + lane % 4] = (int)(r[i].at - r[i].end) + s.room;
                if (lane % 4 == 0)
                    atomicMax(&s.floor[row + i * 8], order_of(r[i].floor));
            }
    }
#endif
}

/* ------------------------------------------------------------------------------------------ the host -------- */

template <int D, int KIND> cudaError_t launch(const search &s, cudaStream_t stream)
{
    typedef shape<D, KIND> S;
    auto *kernel = scan_kernel<D, KIND>;
    CUtensorMap q_map, k_map;
    constexpr int SIZE = value_bytes(KIND);
    const int64_t head = s.rows * D, plane_keys = s.tile_stride * TILE;
    cudaError_t code = describe_boxes(&q_map, {s.qs, s.rows, D, head, D, s.Hk, S::ROWS, SIZE, S::SWIZZLE});
    if (code == cudaSuccess)
        code = KIND == I8
                   ? describe_boxes(&k_map, {s.plane, plane_keys, D, plane_keys * D, D, s.Hk, TILE, SIZE, S::SWIZZLE})
                   : describe_boxes(&k_map, {s.k, s.M, s.stride_key, s.stride_head, D, s.Hk, TILE, SIZE, S::SWIZZLE});
    if (code != cudaSuccess)
        return code;
    const int fixed = S::Q_BYTES + S::WAIT_BYTES + S::ROWS * (s.top_k > FEW ? s.top_k : (int)FEW) * (int)sizeof(float);
    int stages = (SHARED_MAX - fixed) / S::STAGE_BYTES;
    if (stages > STAGES_MAX)
        stages = STAGES_MAX;
    const int shared = fixed + stages * S::STAGE_BYTES;
    code = allow_shared<scan_kernel<D, KIND>>(SHARED_MAX);
    if (code != cudaSuccess)
        return code;
    const int tiles = (int)((s.M + TILE - 1) / TILE), splits = s.lists / 4, split_tiles = (tiles + splits - 1) / splits;
    const dim3 blocks((unsigned)((s.rows + S::ROWS - 1) / S::ROWS), splits, s.Hk);
    return launch_next(kernel, blocks, S::THREADS, shared, stream, q_map, k_map, s, split_tiles, stages);
}

struct scan {
    const search &s;
    cudaStream_t stream;
    template <int D, int KIND> cudaError_t at() const { return launch<D, KIND>(s, stream); }
};

} // namespace

namespace reattn_cuda
{

/* As many splits as fill whole waves of blocks best, with at least 32 tiles each. */
int wgmma_splits(int64_t M, int64_t rows, int Hk, int D, int kind, int SMs)
{
    const int block = D * value_bytes(kind) >= 512 ? 128 : 256;
    const int64_t blocks = (rows + block - 1) / block * Hk, tiles = (M + TILE - 1) / TILE;
    int best = 1;
    double best_time = 1e30;
    for (int splits = 1; splits <= 64 && (splits == 1 || tiles / splits >= 32); splits++) {
        const double waves = (double)((blocks * splits + SMs - 1) / SMs), time = waves * ((double)tiles / splits + 24);
        if (time < best_time) {
            best_time = time;
            best = splits;
        }
    }
    return best;
}

int launch_scan_wgmma(const search &s, cudaStream_t stream, reattn_error *err)
{
    return launch_scan(s, scan{s, stream}, err);
}

} // namespace reattn_cuda
