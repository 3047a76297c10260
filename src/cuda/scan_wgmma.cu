/* scan_wgmma.cu - the scan for many queries on sm_90: one warp copies tiles of keys into shared memory (TMA),
 * warpgroups of 64 rows each multiply them (wgmma) and test the sums.
 *
 * A block holds up to 256 rows (tokens x heads of one KV head) and streams keys past them, so that each tile of keys
 * leaves the L2 cache once for 256 rows. While one warpgroup tests its sums, the others keep the tensor cores busy. A
 * lane has 2 rows x 32 keys of a tile: their maximum against what is worth a look; the rest happens about
 * k ln(M / k) times a row. Rows belong to one warp, so that lists need no locks.
 *
 * Before that a block looks at every 16th of its tiles, only for the maximum: the k-th best of those is surely reached
 * by k keys, and what would else be written down while little is known is not. */
#include "scan.cuh"

#include "hopper.cuh"

using namespace reattn_cuda;

namespace
{

enum { STAGES_MAX = 8, SAMPLE_EVERY = 16, LEARN_EVERY = 16, NEWS_MAX = 4, SHARED_MAX = 232448 - 2048, PRODUCER = 128 };

template <int D, int KIND> struct shape {
    static constexpr int BYTES = D * value_bytes(KIND);
    static constexpr int SWIZZLE = BYTES <= 64 ? 64 : 128;
    static constexpr int CHUNKS = (BYTES + SWIZZLE - 1) / SWIZZLE;
    static constexpr int GROUPS = BYTES >= 512 ? 2 : 4; /* warpgroups that multiply */
    static constexpr int ROWS = GROUPS * 64;
    static constexpr int Q_BYTES = ROWS * CHUNKS * SWIZZLE, STAGE_BYTES = TILE * CHUNKS * SWIZZLE;
    static constexpr int THREADS = PRODUCER + GROUPS * 128;
};

template <int KIND> struct sums {
    typedef float type;
};
template <> struct sums<I8> {
    typedef int type;
};

[[maybe_unused]] __device__ __forceinline__ float largest(float a, float b, float c)
{
    return fmaxf(fmaxf(a, b), c);
}
[[maybe_unused]] __device__ __forceinline__ int largest(int a, int b, int c)
{
    return __vimax3_s32(a, b, c);
}

/* One of a lane's two rows. */
template <class sum> struct row_state {
    row_info info;
    float floor, e;
    sum least;       /* worth a look in this tile */
    int count, news; /* candidates of this lane, and scores that its floor does not know yet */
    float *fresh;    /* [NEWS_MAX][WARP] those scores, this lane's */
    candidate *cand;
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

/* c[i % N], by selects: registers have no index. */
template <int N, class sum> __device__ __forceinline__ sum pick(const sum *c, int i)
{
    if constexpr (N == 1) {
        return c[0];
    } else {
        const sum low = pick<N / 2>(c, i), high = pick<N / 2>(c + N / 2, i);
        return i & (N / 2) ? high : low;
    }
}

/* Writes down what is worth a look: bits of `wants` are sums of the lane. Each lane has lists of its own, and nobody
 * waits: one slow warp stops the three others of its warpgroup. */
template <class sum>
__device__ __forceinline__ void look(const search &s, const sum (&c)[64], row_state<sum> (&r)[2], const tile_info &t,
                                     int first, uint64_t wants)
{
    while (wants) {
        const int i = __ffsll((long long)wants) - 1, half = i >> 1 & 1;
        const float scale = half ? r[1].info.scale : r[0].info.scale, e = half ? r[1].e : r[0].e;
        const float score = (float)pick<64>(c, i) * (scale * t.scale);
        const int at = half ? r[1].count : r[0].count, pos = first + (i >> 2) * 8 + (i & 1);
        wants &= wants - 1;
        if (pos >= s.M)
            continue;
        if (at < s.room)
            (half ? r[1].cand : r[0].cand)[at] = {pos, score + e};
        if (half)
            r[1].count++;
        else
            r[0].count++;
        if (score - e <= (half ? r[1].floor : r[0].floor))
            continue;
        const int n = half ? r[1].news : r[0].news;
        float *place = r[0].fresh + (half * NEWS_MAX + n % NEWS_MAX) * WARP;
        *place = n < NEWS_MAX ? score - e : fmaxf(*place, score - e); /* what finds no place is not missed */
        if (half)
            r[1].news++;
        else
            r[0].news++;
    }
}

/* Raises a row's floor by what its four lanes have seen since the last time. */
template <class sum> __device__ __forceinline__ void learn(const search &s, row_state<sum> &r, int64_t row, int lane)
{
    const float before = r.floor;
    for (int n = 0; __any_sync(ALL, n < min(r.news, (int)NEWS_MAX)); n++) {
        const float lo = n < min(r.news, (int)NEWS_MAX) ? r.fresh[n * WARP] : -INFINITY;
#pragma unroll 1
        for (int turn = 0; turn < 4; turn++) {
            if (lane % 4 == turn && lo > r.floor)
                r.floor = fmaxf(r.floor, raise_floor(r.best, s.top_k, lo));
            __syncwarp();
            r.floor = __shfl_sync(ALL, r.floor, (lane & 28) + turn);
        }
    }
    r.news = 0;
    if (gridDim.y > 1 && lane % 4 == 0 && r.floor > before)
        atomicMax(&s.floor[row], order_of(r.floor));
}

template <int KIND, class sum>
__device__ __forceinline__ void test(const search &s, const sum (&c)[64], row_state<sum> (&r)[2], const tile_info &t,
                                     int first)
{
    sum most[2][4];
#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll
        for (int g = 0; g < 4; g++) {
            const int at = g * 16 + half * 2;
            sum x = largest(c[at], c[at + 1], c[at + 4]);
            x = largest(x, c[at + 5], c[at + 8]);
            x = largest(x, c[at + 9], c[at + 12]);
            most[half][g] = max(x, c[at + 13]);
        }
    const sum all[2] = {largest(largest(most[0][0], most[0][1], most[0][2]), most[0][3], most[0][3]),
                        largest(largest(most[1][0], most[1][1], most[1][2]), most[1][3], most[1][3])};
    if (!__any_sync(ALL, all[0] >= r[0].least || all[1] >= r[1].least))
        return;
    uint64_t wants = 0;
#pragma unroll
    for (int g = 0; g < 4; g++)
        if (most[0][g] >= r[0].least || most[1][g] >= r[1].least)
#pragma unroll
            for (int i = 0; i < 16; i++)
                if (c[g * 16 + i] >= r[i / 2 % 2].least)
                    wants |= 1ull << (g * 16 + i);
    look(s, c, r, t, first, wants);
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
    extern __shared__ char raw[];
    __shared__ uint64_t q_full, full[STAGES_MAX], empty[STAGES_MAX];
    char *q_tile = (char *)(((uintptr_t)raw + 1023) / 1024 * 1024), *k_tile = q_tile + S::Q_BYTES;
    float *best = (float *)(k_tile + stages * S::STAGE_BYTES);
    const int hk = blockIdx.z, split = blockIdx.y, group = threadIdx.x / 128 - 1;
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
            barrier_expect(&full[stage], S::STAGE_BYTES);
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
            r[i].count = r[i].news = 0;
            r[i].fresh = best + S::ROWS * s.top_k + ((group * 4 + warp) * 2 + i) * NEWS_MAX * WARP + lane;
            r[i].cand = s.cand + ((row + i * 8) * s.lists + split * 4 + lane % 4) * s.room;
            r[i].best = best + (at + i * 8) * s.top_k;
        }
        const tile_info *info = s.tiles + hk * s.tile_stride;
        tile_info next = info[min(first_tile, tiles - 1)]; /* of turn 0 */
        const uint64_t a = matrix<S::SWIZZLE>(q_tile + group * 64 * S::SWIZZLE);
        barrier_wait(&q_full, 0);
        for (int i = 0, stage = 0, phase = 0; i < turns; i++) {
            const int tile = tile_of(i);
            const tile_info t = next;
            sum c[64];
            const uint64_t b = matrix<S::SWIZZLE>(k_tile + stage * S::STAGE_BYTES);
            barrier_wait(&full[stage], phase);
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
            /* Meanwhile: what is worth a look in this tile, and what other splits have found. */
            next = info[min(tile_of(i + 1), tiles - 1)];
#pragma unroll
            for (int j = 0; j < 2; j++) {
                if (gridDim.y > 1 && i % 8 == 7 && first_row + at + j * 8 < s.rows)
                    r[j].floor = fmaxf(r[j].floor, of_order(*(volatile int *)&s.floor[row + j * 8]));
                r[j].e = error_of(r[j].info, t);
                set_least<KIND>(r[j], t);
            }
            wgmma_wait();
#pragma unroll
            for (int j = 0; j < 64; j++)
                keep(c[j]);
            if (lane == 0)
                barrier_arrive(&empty[stage]);
            if (i < samples) {
                sample<0>(s, c, r[0], t, lane);
                sample<1>(s, c, r[1], t, lane);
                /* The same keys come again, so that the lists begin anew; what was reached stays. */
                if (i == samples - 1)
                    for (int j = lane; j < 16 * s.top_k; j += WARP)
                        best[(group * 64 + warp * 16) * s.top_k + j] = -INFINITY;
                __syncwarp();
            } else {
                const int first = tile * TILE + lane % 4 * 2;
                test<KIND>(s, c, r, t, first);
                const int news = max(r[0].news, r[1].news);
                if (i % LEARN_EVERY == LEARN_EVERY - 1 || __any_sync(ALL, news >= NEWS_MAX)) {
                    learn(s, r[0], row, lane);
                    learn(s, r[1], row + 8, lane);
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
                s.count[(row + i * 8) * s.lists + split * 4 + lane % 4] = r[i].count;
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
    const int fixed = 1024 + S::Q_BYTES + (S::ROWS * s.top_k + S::GROUPS * 128 * 2 * NEWS_MAX) * (int)sizeof(float);
    int stages = (SHARED_MAX - fixed) / S::STAGE_BYTES;
    if (stages > STAGES_MAX)
        stages = STAGES_MAX;
    const int shared = fixed + stages * S::STAGE_BYTES;
    code = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
    if (code != cudaSuccess)
        return code;
    const int tiles = (int)((s.M + TILE - 1) / TILE), splits = s.lists / 4, split_tiles = (tiles + splits - 1) / splits;
    kernel<<<dim3((unsigned)((s.rows + S::ROWS - 1) / S::ROWS), splits, s.Hk), S::THREADS, shared, stream>>>(
        q_map, k_map, s, split_tiles, stages);
    return cudaGetLastError();
}

template <int D> cudaError_t launch_dim(const search &s, cudaStream_t stream)
{
    switch (s.kind) {
    case I8:
        return launch<D, I8>(s, stream);
    case F16:
        return launch<D, F16>(s, stream);
    default:
        return launch<D, BF16>(s, stream);
    }
}

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
    cudaError_t code = cudaErrorInvalidValue;
    switch (s.D) {
    case 64:
        code = launch_dim<64>(s, stream);
        break;
    case 96:
        code = launch_dim<96>(s, stream);
        break;
    case 128:
        code = launch_dim<128>(s, stream);
        break;
    case 256:
        code = launch_dim<256>(s, stream);
        break;
    }
    return failed(code, "scanning the keys", err);
}

} // namespace reattn_cuda
