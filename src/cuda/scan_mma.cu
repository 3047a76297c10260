/* scan_mma.cu - the scan for few queries: a warp streams its share of a KV head's keys from memory straight into tensor
 * core fragments, for all rows of the head at once. Also the way for many queries where there is no wgmma.
 *
 * Keys are the matrix A (16 keys of a step), queries the matrix B (8 rows each). The order of dimensions inside a
 * product is free, so a lane loads 16 bytes in a row of a key and calls them the fragment that the instruction wants;
 * queries are taken in the same order. No shared memory, and every byte is read once.
 *
 * Hundreds of warps that know nothing would each write down its first few keys. So some tiles, evenly spread, are
 * looked at before: the k-th best of their maxima is surely reached by k keys, and all warps start with that. */
#include "scan.cuh"

using namespace reattn_cuda;

namespace
{

enum { THREADS = 256, WARPS = THREADS / WARP, BLOCKS_PER_SM = 2, FEW_ROWS = 8 };

template <int KIND> struct sums {
    typedef float type;
};
template <> struct sums<I8> {
    typedef int type;
};

/* c += keys (16 x 32 bytes) * queries (32 bytes x 8). */
template <int KIND, class C>
__device__ __forceinline__ void product(C (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
    if constexpr (KIND == I8)
        asm volatile(
            "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    else if constexpr (KIND == F16)
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    else
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* 16 bytes that are read once. */
__device__ __forceinline__ uint4 stream16(const void *p)
{
    uint4 x;
    asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
                 : "l"(p));
    return x;
}

/* The k-th best of a row's sampled maxima. */
__device__ float sampled_floor(const search &s, int64_t row, int lane)
{
    int x[SAMPLES / WARP];
    for (int i = 0; i < SAMPLES / WARP; i++)
        x[i] = order_of(i * WARP + lane < s.samples ? s.sample[row * SAMPLES + i * WARP + lane] : -INFINITY);
    return of_order(kth_largest(x, s.top_k, lane, NULL));
}

template <int D, int KIND, int NB, bool SAMPLE>
__global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM) scan_kernel(search s, int warps_per_head)
{
    typedef typename sums<KIND>::type sum;
    constexpr int BYTES = D * value_bytes(KIND);
    constexpr int LOADS = (BYTES + 63) / 64; /* 16 bytes a lane, of two keys each; two products */
    constexpr bool HALF =
        BYTES % 64 != 0; /* of the last 64 bytes only 32 are there: lanes 0 and 1 of a quad hold them */
    constexpr int ROWS = NB * 8;
    constexpr int PER = LOADS == 1 ? 4 : LOADS <= 3 ? 2 : 1, STEP = 16 * PER; /* enough bytes in flight */
    extern __shared__ float shared[];
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, quad = lane / 4, in_quad = lane % 4;
    float *best = shared + warp * ROWS * (s.top_k + 2), *floors = best + ROWS * s.top_k;
    int *counts = (int *)(floors + ROWS);
    const int64_t unit = (int64_t)blockIdx.x * WARPS + warp;
    const int hk = (int)(unit % s.Hk);
    const int64_t first_row = (int64_t)blockIdx.y * ROWS;
    if (unit / s.Hk >= warps_per_head)
        return;

    for (int i = lane; i < ROWS * s.top_k; i += WARP)
        best[i] = -INFINITY;
    for (int i = lane; i < ROWS; i += WARP) {
        counts[i] = 0;
        floors[i] = first_row + i < s.rows ? of_order(s.floor[hk * s.rows + first_row + i]) : INFINITY;
    }
    __syncwarp();
    if (!SAMPLE && s.samples)
        for (int i = 0; i < ROWS && first_row + i < s.rows; i++) {
            float floor = sampled_floor(s, hk * s.rows + first_row + i, lane);
            if (lane == 0)
                floors[i] = fmaxf(floors[i], floor);
        }
    __syncwarp();

    /* Queries, in the order of the loads below. Products past the end of a row have zeros here. */
    uint32_t b[LOADS * 2][NB][2];
#pragma unroll
    for (int l = 0; l < LOADS; l++)
#pragma unroll
        for (int n = 0; n < NB; n++) {
            const int64_t row = first_row + n * 8 + quad;
            uint4 x = {0, 0, 0, 0};
            if (row < s.rows && l * 64 + in_quad * 16 < BYTES)
                x = *(const uint4 *)((const char *)s.qs + (hk * s.rows + row) * BYTES + l * 64 + in_quad * 16);
            b[l * 2][n][0] = x.x, b[l * 2][n][1] = x.y, b[l * 2 + 1][n][0] = x.z, b[l * 2 + 1][n][1] = x.w;
        }
    row_info info[NB][2];
    int row_at[NB][2];
#pragma unroll
    for (int n = 0; n < NB; n++)
        for (int i = 0; i < 2; i++) {
            row_at[n][i] = n * 8 + in_quad * 2 + i;
            const int64_t row = first_row + row_at[n][i];
            info[n][i] = row < s.rows ? s.row[hk * s.rows + row] : row_info{1, 1, 0, 0};
        }

    const char *base;
    int64_t pitch; /* bytes from key to key */
    if (KIND == I8) {
        base = (const char *)s.plane + hk * s.tile_stride * TILE * BYTES;
        pitch = BYTES;
    } else {
        base = (const char *)s.k + hk * s.stride_head * 2;
        pitch = s.stride_key * 2;
    }
    /* In the plane whole tiles are there; of other keys the last stands in for those past the end. */
    const int64_t last = KIND == I8 ? s.tile_stride * TILE - 1 : s.M - 1;

    constexpr bool AHEAD = LOADS <= 4; /* the next step's keys are asked for before this step's are used */
    uint4 next[LOADS][2 * PER];
    auto load = [&](int64_t first) {
#pragma unroll
        for (int i = 0; i < 2 * PER; i++) {
            int64_t key = first + quad + i * 8;
            const char *from = base + (key < last ? key : last) * pitch + in_quad * 16;
#pragma unroll
            for (int l = 0; l < LOADS; l++)
                next[l][i] = HALF && l == LOADS - 1 && in_quad >= 2 ? uint4{0, 0, 0, 0} : stream16(from + l * 64);
        }
    };

    const int64_t tiles = (s.M + TILE - 1) / TILE;
    const int64_t stride = SAMPLE ? tiles : warps_per_head;
    constexpr int PARTS = TILE / SAMPLE_KEYS;
    const int64_t part = SAMPLE ? unit / s.Hk % PARTS * SAMPLE_KEYS : 0;
    int64_t tile = SAMPLE ? unit / s.Hk / PARTS * s.sample_every : unit / s.Hk;
    if (AHEAD && tile < tiles)
        load(tile * TILE + part);
    for (; tile < tiles; tile += stride) {
        const tile_info t = s.tiles[hk * s.tile_stride + tile];
        int seen[NB][2]; /* what other warps have found by now */
        float e[NB][2];
        sum least[NB][2];
        auto refresh = [&]() {
#pragma unroll
            for (int n = 0; n < NB; n++)
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    float x = worth(floors[row_at[n][i]], e[n][i], info[n][i], t);
                    if constexpr (KIND == I8)
                        least[n][i] = worth_int(x);
                    else
                        least[n][i] = x;
                }
        };
#pragma unroll
        for (int n = 0; n < NB; n++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                e[n][i] = error_of(info[n][i], t);
                const int64_t row = first_row + row_at[n][i];
                seen[n][i] = row < s.rows ? *(volatile int *)&s.floor[hk * s.rows + row] : order_of(INFINITY);
            }
        refresh();
        sum most[NB][2];
        if constexpr (SAMPLE)
#pragma unroll
            for (int n = 0; n < NB; n++)
                most[n][0] = most[n][1] = KIND == I8 ? (sum)INT32_MIN : (sum)-INFINITY;
        const int64_t begin = tile * TILE + part, end = SAMPLE ? begin + SAMPLE_KEYS : begin + TILE;
        for (int64_t first = begin; first < end; first += STEP) {
            uint4 now[LOADS][2 * PER];
            if (!AHEAD)
                load(first);
#pragma unroll
            for (int l = 0; l < LOADS; l++)
#pragma unroll
                for (int i = 0; i < 2 * PER; i++)
                    now[l][i] = next[l][i];
            if (AHEAD)
                load(first % TILE + STEP < TILE ? first + STEP : (tile + stride) * TILE);
            sum c[PER][NB][4];
#pragma unroll
            for (int p = 0; p < PER; p++)
#pragma unroll
                for (int n = 0; n < NB; n++) {
#pragma unroll
                    for (int i = 0; i < 4; i++)
                        c[p][n][i] = 0;
#pragma unroll
                    for (int l = 0; l < LOADS; l++) {
                        const uint4 x = now[l][2 * p], y = now[l][2 * p + 1];
                        product<KIND>(c[p][n], {x.x, y.x, x.y, y.y}, b[l * 2][n]);
                        product<KIND>(c[p][n], {x.z, y.z, x.w, y.w}, b[l * 2 + 1][n]);
                    }
                }
            if constexpr (SAMPLE) {
#pragma unroll
                for (int p = 0; p < PER; p++)
#pragma unroll
                    for (int n = 0; n < NB; n++)
#pragma unroll
                        for (int i = 0; i < 4; i++)
                            most[n][i % 2] = max(most[n][i % 2], c[p][n][i]);
                continue;
            }
            bool hit = false;
#pragma unroll
            for (int p = 0; p < PER; p++)
#pragma unroll
                for (int n = 0; n < NB; n++)
#pragma unroll
                    for (int i = 0; i < 4; i++)
                        hit |= c[p][n][i] >= least[n][i % 2];
            if (!__any_sync(ALL, hit))
                continue;

                /* Rare. Lanes with the same rows take turns. */
#pragma unroll
            for (int p = 0; p < PER; p++)
#pragma unroll
                for (int n = 0; n < NB; n++)
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        const int64_t pos = first + p * 16 + i / 2 * 8 + quad;
                        bool wants = c[p][n][i] >= least[n][i % 2] && pos < s.M;
                        for (unsigned who = __ballot_sync(ALL, wants); who; who = __ballot_sync(ALL, wants)) {
                            const int turn = __ffs(who & (0x11111111u << in_quad)) - 1;
                            if (wants && lane == turn) {
                                wants = false;
                                const int r = row_at[n][i % 2];
                                const int64_t row = hk * s.rows + first_row + r;
                                const float score = (float)c[p][n][i] * (info[n][i % 2].scale * t.scale),
                                            er = e[n][i % 2];
                                if (score + er >= floors[r]) {
                                    const int at = counts[r]++;
                                    if (at < s.room)
                                        s.cand[(row * s.lists + unit / s.Hk) * s.room + at] = {(int)pos, score + er};
                                    const float least_now = raise_floor(best + r * s.top_k, s.top_k, score - er);
                                    if (least_now > floors[r]) {
                                        floors[r] = least_now;
                                        atomicMax(&s.floor[row], order_of(least_now));
                                    }
                                }
                            }
                            __syncwarp();
                        }
                    }
            refresh();
            __syncwarp();
        }
        if constexpr (SAMPLE) {
#pragma unroll
            for (int n = 0; n < NB; n++)
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    for (int j = 4; j < WARP; j *= 2)
                        most[n][i] = max(most[n][i], __shfl_xor_sync(ALL, most[n][i], j));
                    const int64_t row = first_row + row_at[n][i];
                    if (quad == 0 && row < s.rows)
                        s.sample[(hk * s.rows + row) * SAMPLES + unit / s.Hk] =
                            (float)most[n][i] * (info[n][i].scale * t.scale) - e[n][i];
                }
            return;
        }
        __syncwarp();
        if (quad == 0) {
#pragma unroll
            for (int n = 0; n < NB; n++)
#pragma unroll
                for (int i = 0; i < 2; i++)
                    floors[row_at[n][i]] = fmaxf(floors[row_at[n][i]], of_order(seen[n][i]));
        }
        __syncwarp();
    }
    for (int i = lane; i < ROWS && first_row + i < s.rows; i += WARP)
        s.count[(hk * s.rows + first_row + i) * s.lists + unit / s.Hk] = counts[i];
}

template <int D, int KIND, int NB> cudaError_t launch(const search &s, cudaStream_t stream)
{
    const size_t shared = sizeof(float) * WARPS * NB * 8 * (s.top_k + 2);
    const int64_t groups = (s.rows + NB * 8 - 1) / (NB * 8);
    auto blocks = [&](int64_t warps) { return dim3((unsigned)((warps * s.Hk + WARPS - 1) / WARPS), (unsigned)groups); };
    if (s.samples)
        scan_kernel<D, KIND, NB, true><<<blocks(s.samples), THREADS, shared, stream>>>(s, s.samples);
    scan_kernel<D, KIND, NB, false><<<blocks(s.lists), THREADS, shared, stream>>>(s, s.lists);
    return cudaGetLastError();
}

template <int D> cudaError_t launch_dim(const search &s, cudaStream_t stream)
{
    const bool few = s.rows <= FEW_ROWS;
    switch (s.kind) {
    case I8:
        return few ? launch<D, I8, 1>(s, stream) : launch<D, I8, 2>(s, stream);
    case F16:
        return few ? launch<D, F16, 1>(s, stream) : launch<D, F16, 2>(s, stream);
    default:
        return few ? launch<D, BF16, 1>(s, stream) : launch<D, BF16, 2>(s, stream);
    }
}

} // namespace

namespace reattn_cuda
{

/* One wave of blocks; warps of a head take turns at its tiles. */
int mma_warps(int64_t M, int64_t rows, int Hk, int SMs)
{
    const int64_t per_group = rows <= FEW_ROWS ? 8 : 16, groups = (rows + per_group - 1) / per_group;
    const int64_t warps = (int64_t)SMs * BLOCKS_PER_SM * WARPS / (groups > 0 ? groups : 1) / Hk,
                  tiles = (M + TILE - 1) / TILE;
    return (int)(warps < 1 ? 1 : warps > tiles ? tiles : warps);
}

int launch_scan_mma(const search &s, cudaStream_t stream, reattn_error *err)
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
