/* scan_wgmma.cu - the scan for many queries on sm_90: one warp copies tiles of keys into shared memory (TMA),
 * warpgroups of 64 rows each multiply them (wgmma) and test the sums.
 *
 * A block holds up to 256 rows (tokens x heads of one KV head) and streams keys past them, so that each tile of keys
 * leaves the L2 cache once for 256 rows. While one warpgroup tests its sums, the others keep the tensor cores busy. A
 * lane has 2 rows x 32 keys of a tile: their maxima against what is worth a look; the rest happens about k ln(M / k)
 * times a row. Rows belong to one warp, so that lists need no locks. What limits the speed is how many instructions a
 * tile takes beside the product; hence 32-bit offsets, and as few registers as can be.
 *
 * Before that a block looks at every 16th of its tiles, only for the maximum: the k-th best of those is surely reached
 * by k keys, and what would else be written down while little is known is not. */
#include "scan.cuh"

#include "hopper.cuh"

using namespace reattn_cuda;

namespace
{

enum { STAGES_MAX = 8, SAMPLE_EVERY = 16, LEARN_EVERY = 16 /* a power of 2 */, LEARN_OFTEN = 8 };
enum { SHARED_MAX = 232448 - 2048, PRODUCER = 128 };

template <int D, int KIND> struct shape {
    static constexpr int BYTES = D * value_bytes(KIND);
    static constexpr int SWIZZLE = BYTES <= 64 ? 64 : 128;
    static constexpr int CHUNKS = (BYTES + SWIZZLE - 1) / SWIZZLE;
    static constexpr int GROUPS = BYTES >= 512 ? 2 : 4; /* warpgroups that multiply */
    static constexpr int ROWS = GROUPS * 64;
    static constexpr int Q_BYTES = ROWS * CHUNKS * SWIZZLE, STAGE_BYTES = TILE * CHUNKS * SWIZZLE;
    static constexpr int THREADS = PRODUCER + GROUPS * 128;
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

/* One of a lane's two rows. */
template <class sum> struct row_state {
    row_info info;
    float floor, heard, e; /* heard: what other splits know */
    sum least;             /* worth a look in this tile */
    float fresh;           /* the best score that the floor does not know yet */
    unsigned at, end;      /* where the lane's next candidate goes, and where its list ends */
    float *best;
};

template <int KIND, class sum> __device__ __forceinline__ void set_least(row_state<sum> &r, const tile_info &t)
{
    float x = worth(r.floor, r.e, r.info, t);
    if constexpr (KIND == I8)
        r.least = worth_int(x);
    else
        r.least = x;
}

/* Writes down those of a lane's 16 keys of one row and one column that are worth a look. Each lane has lists of its
 * own, and nobody waits: one slow warp stops the three others of its warpgroup. */
template <int FIRST, class sum>
__device__ __forceinline__ void note(const search &s, const sum (&c)[64], row_state<sum> &r, float scale, int at,
                                     sum most)
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
    const float score = (float)most * (r.info.scale * scale);
    float lo = score - r.e;
    if (at >= (int)(s.M / TILE) * COLUMNS) { /* sums of keys that are not there may be among them */
        keys &= keys_there(at, s.M);
        lo = -INFINITY;
        if (!keys)
            return;
    }
    if (r.at < r.end)
        s.cand[r.at] = {at, keys, score + r.e, lo};
    r.at++;
    r.fresh = fmaxf(r.fresh, lo);
}

/* Raises a row's floor by the best that each of its four lanes has seen since the last time. */
template <class sum> __device__ __forceinline__ void learn(const search &s, row_state<sum> &r, int64_t row, int lane)
{
    const float before = r.floor, lo = r.fresh;
    bool wants = lo > r.floor;
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

/* c[i] is row i / 2 % 2 of the lane, key i / 4 * 8 and column i % 2. */
template <class sum>
__device__ __forceinline__ void test(const search &s, const sum (&c)[64], row_state<sum> (&r)[2], float scale, int at)
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
    if (!__any_sync(ALL, max(most[0], most[1]) >= r[0].least || max(most[2], most[3]) >= r[1].least))
        return;
    if (most[0] >= r[0].least)
        note<0>(s, c, r[0], scale, at, most[0]);
    if (most[1] >= r[0].least)
        note<1>(s, c, r[0], scale, at + 1, most[1]);
    if (most[2] >= r[1].least)
        note<2>(s, c, r[1], scale, at, most[2]);
    if (most[3] >= r[1].least)
        note<3>(s, c, r[1], scale, at + 1, most[3]);
    __syncwarp();
}

/* The row's best sum of a sampled tile joins its k best. */
template <int HALF, class sum>
__device__ __forceinline__ void sample(const search &s, const sum (&c)[64], row_state<sum> &r, const tile_info &t,
                                       int lane)
{
    sum most = c[HALF * 2];
#pragma unroll
    for (int i = 0; i < 64; i += 4)
        most = largest(most, c[i + HALF * 2], c[i + HALF * 2 + 1]);
    most = max(most, __shfl_xor_sync(ALL, most, 1));
    most = max(most, __shfl_xor_sync(ALL, most, 2));
    const float lo = (float)most * (r.info.scale * t.scale) - r.e;
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
    __shared__ __align__(16) tile_info infos[STAGES_MAX];
    char *q_tile = raw, *k_tile = q_tile + S::Q_BYTES;
    float *best = (float *)(k_tile + stages * S::STAGE_BYTES);
    const int hk = blockIdx.z, split = blockIdx.y, group = __shfl_sync(ALL, (int)threadIdx.x / 128 - 1, 0);
    const int first_row = blockIdx.x * S::ROWS;
    const int tiles = (int)((s.M + TILE - 1) / TILE);
    const int first_tile = split * split_tiles, end_tile = min(first_tile + split_tiles, tiles);
    /* Only whole tiles are sampled, and only if there are more than hits wanted. */
    const int whole = max(min(end_tile, (int)(s.M / TILE)) - first_tile, 0);
    const int samples = whole / SAMPLE_EVERY >= 2 * s.top_k ? whole / SAMPLE_EVERY : 0;
    const int turns = samples + max(end_tile - first_tile, 0);
    auto tile_of = [&](int turn) { return first_tile + (turn < samples ? turn * SAMPLE_EVERY : turn - samples); };

    if (threadIdx.x == 0) {
        barrier_init(&q_full, 1);
        for (int i = 0; i < stages; i++) {
            barrier_init(&full[i], 1);
            barrier_init(&empty[i], S::GROUPS * 4);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    for (int i = threadIdx.x; i < S::ROWS * s.top_k; i += S::THREADS)
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
            copy_bytes(&infos[stage], s.tiles + hk * s.tile_stride + tile, sizeof(tile_info), &full[stage]);
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
        const int64_t row = hk * s.rows + first_row + at;
        row_state<sum> r[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const bool there = first_row + at + i * 8 < s.rows;
            r[i].info = there ? s.row[row + i * 8] : row_info{1, 1, 0, 0};
            r[i].floor = there ? of_order(s.floor[row + i * 8]) : INFINITY;
            r[i].heard = r[i].floor;
            r[i].fresh = -INFINITY;
            r[i].at = (unsigned)(((row + i * 8) * s.lists + split * 4 + lane % 4) * s.room);
            r[i].end = r[i].at + s.room;
            r[i].best = best + (at + i * 8) * s.top_k;
        }
        const uint64_t a = matrix<S::SWIZZLE>(q_tile + group * 64 * S::SWIZZLE);
        const int learn_every = s.top_k > LEARN_OFTEN ? LEARN_EVERY / 8 : LEARN_EVERY;
        barrier_wait(&q_full, 0);
        for (int i = 0, stage = 0, phase = 0; i < turns; i++) {
            const int tile = tile_of(i);
            sum c[64];
            const uint64_t b = matrix<S::SWIZZLE>(k_tile + stage * S::STAGE_BYTES);
            barrier_wait(&full[stage], phase);
            const tile_info t = infos[stage];
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
            for (int j = 0; j < 2; j++) {
                r[j].floor = fmaxf(r[j].floor, r[j].heard);
                r[j].e = error_of(r[j].info, t);
                set_least<KIND>(r[j], t);
            }
            wgmma_wait();
#pragma unroll
            for (int j = 0; j < 64; j++)
                keep(c[j]);
            __syncwarp(); /* all lanes have read infos */
            if (lane == 0)
                barrier_arrive(&empty[stage]);
            if (i < samples) {
                sample<0>(s, c, r[0], t, lane);
                sample<1>(s, c, r[1], t, lane);
            } else {
                test(s, c, r, t.scale, tile * COLUMNS + lane % 4 * 2);
                if (samples && (i - samples) % SAMPLE_EVERY == 0) /* these keys were sampled, and are known */
                    r[0].fresh = r[1].fresh = -INFINITY;
                /* A row learns four scores at a time: the more are wanted, the oftener; at first after every tile. */
                const int done = i - samples + 1;
                if ((done & (learn_every - 1)) == 0 || done <= s.top_k) {
                    learn(s, r[0], row, lane);
                    learn(s, r[1], row + 8, lane);
                    if (gridDim.y > 1) /* comes in while the next tile is multiplied */
#pragma unroll
                        for (int j = 0; j < 2; j++)
                            if (first_row + at + j * 8 < s.rows)
                                r[j].heard = of_order(*(volatile int *)&s.floor[row + j * 8]);
                }
            }
            if (++stage == stages) {
                stage = 0;
                phase ^= 1;
            }
        }
        learn(s, r[0], row, lane);
        learn(s, r[1], row + 8, lane);
#pragma unroll
        for (int i = 0; i < 2; i++)
            if (first_row + at + i * 8 < s.rows) {
                s.count[(row + i * 8) * s.lists + split * 4 + lane % 4] = (int)(r[i].at - r[i].end) + s.room;
                if (lane % 4 == 0)
                    atomicMax(&s.floor[row + i * 8], order_of(r[i].floor));
            }
    }
#endif
}

/* ------------------------------------------------------------------------------------------ the host -------- */

typedef CUresult (*encode_fn)(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *,
                              const cuuint64_t *, const cuuint32_t *, const cuuint32_t *, CUtensorMapInterleave,
                              CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

/* [heads][n][D] with strides in bytes; a box is rows x (swizzle) bytes. */
cudaError_t describe(CUtensorMap *map, int kind, int swizzle, const void *base, int D, int64_t n, int64_t stride,
                     int heads, int64_t stride_head, int rows)
{
    void *fn = NULL;
    cudaDriverEntryPointQueryResult found;
    cudaError_t code =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &fn, 12000, cudaEnableDefault, &found);
    if (code != cudaSuccess)
        return code;
    if (!fn || found != cudaDriverEntryPointSuccess)
        return cudaErrorInsufficientDriver;
    const cuuint64_t size[3] = {(cuuint64_t)D, (cuuint64_t)n, (cuuint64_t)heads};
    const cuuint64_t strides[2] = {(cuuint64_t)stride, (cuuint64_t)stride_head};
    const cuuint32_t box[3] = {(cuuint32_t)(swizzle / value_bytes(kind)), (cuuint32_t)rows, 1}, step[3] = {1, 1, 1};
    const CUtensorMapDataType type = kind == I8    ? CU_TENSOR_MAP_DATA_TYPE_UINT8
                                     : kind == F16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                                   : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    CUresult result =
        ((encode_fn)fn)(map, type, 3, (void *)base, size, strides, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE,
                        swizzle == 128 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_64B,
                        CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

template <int D, int KIND> cudaError_t launch(const search &s, cudaStream_t stream)
{
    typedef shape<D, KIND> S;
    auto *kernel = scan_kernel<D, KIND>;
    CUtensorMap q_map, k_map;
    const int64_t bytes = S::BYTES;
    cudaError_t code = describe(&q_map, KIND, S::SWIZZLE, s.qs, D, s.rows, bytes, s.Hk, s.rows * bytes, S::ROWS);
    if (code != cudaSuccess)
        return code;
    if (KIND == I8)
        code = describe(&k_map, KIND, S::SWIZZLE, s.plane, D, s.tile_stride * TILE, bytes, s.Hk,
                        s.tile_stride * TILE * bytes, TILE);
    else
        code = describe(&k_map, KIND, S::SWIZZLE, s.k, D, s.M, s.stride_key * 2, s.Hk, s.stride_head * 2, TILE);
    if (code != cudaSuccess)
        return code;
    const int fixed = S::Q_BYTES + S::ROWS * s.top_k * (int)sizeof(float);
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
    template <int D, int KIND> cudaError_t at() const
    {
        return launch<D, KIND>(s, stream);
    }
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
