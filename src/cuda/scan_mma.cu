/* scan_mma.cu - the scan for few queries: a warp streams its share of a KV head's keys from memory straight into tensor
 * core fragments, for all rows of the head at once. Also the way for many queries where there is no wgmma.
 *
 * Keys are the matrix A (16 keys of a step), queries the matrix B (8 rows each). The order of dimensions inside a
 * product is free, so a lane loads 16 bytes in a row of a key and calls them the fragment that the instruction wants;
 * queries are taken in the same order. No shared memory, and every byte is read once.
 *
 * Hundreds of warps that know nothing would each write down its first few keys. So of its first two tiles each takes
 * maxima and publishes them: the k-th best of what the warps of a head have published is surely reached by k keys. The
 * sums of those tiles lie in shared memory until this is known, and are looked at then. One warp in eight looks again
 * at what the others have published after 4, 8 ... tiles. Nobody waits for anybody.
 *
 * Two tiles of each warp are its own; further ones it takes from a counter, since some multiprocessors are served
 * faster than others. */
#include "scan.cuh"

using namespace reattn_cuda;

namespace
{

enum { THREADS = 256, WARPS = THREADS / WARP, BLOCKS_PER_SM = 2, LISTENERS = 8 };
enum { ASKED = 16384 }; /* most bytes of a tile that are asked for ahead */

/* Bytes of shared memory that a block needs for NB times 8 rows: first the sums of a tile for each warp. */
__host__ __device__ constexpr int tile_sums(int NB)
{
    return TILE * NB * 8;
}
constexpr size_t shared_bytes(int NB, int top_k, int blind)
{
    return sizeof(float) * WARPS * (blind * tile_sums(NB) + NB * 8 * (top_k + 3));
}

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

/* The k-th best of what the lists of a row have published by now. */
__device__ float published_floor(const search &s, int64_t row, int lane)
{
    int x[SAMPLES / WARP];
    for (int i = 0; i < SAMPLES / WARP; i++)
        x[i] = order_of(i * WARP + lane < s.samples ? ((volatile float *)s.sample)[row * s.samples + i * WARP + lane]
                                                    : -INFINITY);
    return of_order(kth_largest(x, s.top_k, lane, NULL));
}

template <int D, int KIND, int NB>
__global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM)
    scan_kernel(const __grid_constant__ batch<search> all, int blind_most)
{
    const search &s = of_session(all);
    const int warps_per_head = s.lists;
    typedef typename sums<KIND>::type sum;
    constexpr int BYTES = D * value_bytes(KIND);
    constexpr int LOADS = (BYTES + 63) / 64; /* 16 bytes a lane, of two keys each; two products */
    constexpr bool HALF =
        BYTES % 64 != 0; /* of the last 64 bytes only 32 are there: lanes 0 and 1 of a quad hold them */
    constexpr int ROWS = NB * 8;
    constexpr int PER = LOADS == 1 ? 4 : LOADS <= 3 ? 2 : 1, STEP = 16 * PER; /* enough bytes in flight */
    extern __shared__ float shared[];
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, quad = lane / 4, in_quad = lane % 4;
    sum *kept = (sum *)shared + warp * blind_most * tile_sums(NB) + lane; /* a lane's own places */
    float *best = shared + WARPS * blind_most * tile_sums(NB) + warp * ROWS * (s.top_k + 3),
          *floors = best + ROWS * s.top_k, *tops = floors + ROWS;
    int *counts = (int *)(tops + ROWS);
    const int64_t unit = (int64_t)blockIdx.x * WARPS + warp;
    const int hk = (int)(unit % s.Hk);
    const int64_t first_row = (int64_t)blockIdx.y * ROWS;
    if (unit / s.Hk >= warps_per_head)
        return;

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
    const int last = (int)min(KIND == I8 ? s.tile_stride * TILE : s.M, (int64_t)INT32_MAX) - 1;

    constexpr bool AHEAD = LOADS <= 4; /* the next step's keys are asked for before this step's are used */
    uint4 next[LOADS][2 * PER];
    auto load = [&](int first) {
#pragma unroll
        for (int i = 0; i < 2 * PER; i++) {
            const int key = first + quad + i * 8;
            const char *from = base + min(key, last) * pitch + in_quad * 16;
#pragma unroll
            for (int l = 0; l < LOADS; l++)
                next[l][i] = HALF && l == LOADS - 1 && in_quad >= 2 ? uint4{0, 0, 0, 0} : stream16(from + l * 64);
        }
    };

    /* Brings the beginning of a tile into the L2 cache, while the warp waits for something else. */
    auto ask = [&](int tile) {
        constexpr int LINES = (BYTES + 127) / 128, KEYS = BYTES * TILE > ASKED ? ASKED / BYTES : TILE;
#pragma unroll
        for (int i = 0; i < KEYS * LINES / WARP; i++) {
            const int key = tile * TILE + (i * WARP + lane) / LINES;
            ask_for(base + min(key, last) * pitch + (i * WARP + lane) % LINES * 128);
        }
    };

    const int tiles = (int)((s.M + TILE - 1) / TILE), list = (int)(unit / s.Hk);
    int tile = list, following = list + warps_per_head;
    if (AHEAD && tile < tiles)
        load(tile * TILE);
    if (tile < tiles)
        ask(tile);
    wait_for_previous();
    let_next_start();

    for (int i = lane; i < ROWS * s.top_k; i += WARP)
        best[i] = -INFINITY;
    for (int i = lane; i < ROWS; i += WARP) {
        counts[i] = 0;
        tops[i] = -INFINITY;
        floors[i] = first_row + i < s.rows ? of_order(s.floor[hk * s.rows + first_row + i]) : INFINITY;
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

    /* Lanes write down what their keys of a row are worth, each in a place of its own. */
    auto note = [&](int n, int i, int tile, const tile_info &t, float e, unsigned keys, sum most) {
        const int r = row_at[n][i], at = tile * COLUMNS + quad;
        const int64_t row = hk * s.rows + first_row + r;
        const bool part = (int64_t)(tile + 1) * TILE > s.M;
        if (part)
            keys &= keys_there(at, s.M);
        const unsigned all = __ballot_sync(ALL, keys != 0);
        if (!all)
            return;
        const unsigned who = all & 0x11111111u << in_quad;
        const float score = (float)most * (info[n][i].scale * t.scale);
        /* Sums of keys that are not there may be among them. */
        const float lo = part ? -INFINITY : score - e;
        const int place = counts[r] + __popc(who & ((1u << lane) - 1));
        if (keys && place < s.room)
            s.cand[(row * s.lists + list) * s.room + place] = {at, keys, score + e, lo};
        float top = keys ? lo : -INFINITY;
        bool wants = top > floors[r];
        for (int j = 4; j < WARP; j *= 2)
            top = fmaxf(top, __shfl_xor_sync(ALL, top, j));
        __syncwarp();
        if (who && lane == __ffs(who) - 1) {
            counts[r] += __popc(who);
            if (top > tops[r]) {
                tops[r] = top;
                if (list < s.samples)
                    ((volatile float *)s.sample)[row * s.samples + list] = top;
            }
        }
        /* Lanes with the same row take turns. */
        for (unsigned left = __ballot_sync(ALL, wants); left; left = __ballot_sync(ALL, wants)) {
            if (wants && lane == __ffs(left & 0x11111111u << in_quad) - 1) {
                wants = false;
                const float floor = raise_floor(best + r * s.top_k, s.top_k, lo);
                if (floor > floors[r]) {
                    floors[r] = floor;
                    atomicMax(&s.floor[row], order_of(floor));
                }
            }
            __syncwarp();
            wants = wants && lo > floors[r];
        }
        __syncwarp();
    };
    /* Of what the others have published a warp works out one row's floor and tells all. */
    auto listen = [&](int r) {
        const int64_t row = hk * s.rows + first_row + r;
        const float floor = published_floor(s, row, lane);
        if (lane == 0 && floor > floors[r])
            atomicMax(&s.floor[row], order_of(floor));
    };
    const int rows_here = (int)min(s.rows - first_row, (int64_t)ROWS);

    const tile_info *infos = s.tiles + hk * s.tile_stride;
    tile_info t_next = infos[min(tile, tiles - 1)];
    /* The first tiles are met twice: their sums and maxima are taken, then they are looked at. */
    int blind = 0;
    while (s.samples && blind < blind_most && (list + (int64_t)blind * warps_per_head + 1) * TILE <= s.M)
        blind++;
    for (int job = 0, turn = 0; job < 2 * blind || tile < tiles; job++) {
        const bool unseen = job < blind, seen_before = !unseen && job < 2 * blind;
        const int here = seen_before ? list + (job - blind) * warps_per_head : tile;
        const tile_info t = seen_before ? infos[here] : t_next;
        int ticket = 0; /* comes while the tile is worked on */
        if (!seen_before) {
            turn++;
            t_next = infos[min(following, tiles - 1)];
            if (lane == 0 && following < tiles)
                ticket = atomicAdd(s.next + hk * s.rows + first_row, 1);
        }
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
#pragma unroll
        for (int n = 0; n < NB; n++)
            most[n][0] = most[n][1] = KIND == I8 ? (sum)INT32_MIN : (sum)-INFINITY;
#pragma unroll 1
        for (int at = 0; at < TILE; at += STEP) {
            sum c[PER][NB][4];
            sum *sums = kept + (unseen ? job : job - blind) * tile_sums(NB) + at * NB * 8;
            if (seen_before) {
#pragma unroll
                for (int j = 0; j < PER * NB * 4; j++)
                    c[j / (NB * 4)][j / 4 % NB][j % 4] = sums[j * WARP];
            } else {
                uint4 now[LOADS][2 * PER];
                if (!AHEAD)
                    load(tile * TILE + at);
#pragma unroll
                for (int l = 0; l < LOADS; l++)
#pragma unroll
                    for (int i = 0; i < 2 * PER; i++)
                        now[l][i] = next[l][i];
                if (AHEAD)
                    load(at + STEP < TILE ? tile * TILE + at + STEP : min(following, tiles) * TILE);
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
            }
            if (unseen) {
#pragma unroll
                for (int j = 0; j < PER * NB * 4; j++) {
                    const sum x = c[j / (NB * 4)][j / 4 % NB][j % 4];
                    sums[j * WARP] = x;
                    most[j / 4 % NB][j % 2] = max(most[j / 4 % NB][j % 2], x);
                }
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

                /* Rare. */
#pragma unroll
            for (int n = 0; n < NB; n++)
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    unsigned keys = 0;
                    sum top = c[0][n][i];
#pragma unroll
                    for (int j = 0; j < 2 * PER; j++) {
                        const sum x = c[j / 2][n][j % 2 * 2 + i];
                        keys |= x >= least[n][i] ? 1u << j : 0;
                        top = max(top, x);
                    }
                    note(n, i, here, t, e[n][i], keys << at / COLUMNS, top);
                }
            refresh();
        }
        if (unseen) {
#pragma unroll
            for (int n = 0; n < NB; n++)
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    sum top = most[n][i];
                    for (int j = 4; j < WARP; j *= 2)
                        top = max(top, __shfl_xor_sync(ALL, top, j));
                    const int r = row_at[n][i];
                    if (quad == 0 && list < s.samples && first_row + r < s.rows) {
                        tops[r] = fmaxf(tops[r], (float)top * (info[n][i].scale * t.scale) - e[n][i]);
                        ((volatile float *)s.sample)[(hk * s.rows + first_row + r) * s.samples + list] = tops[r];
                    }
                }
        }
        if (unseen && job + 1 == blind) {
            if (following < tiles)
                ask(following);
            listen((list + turn) % rows_here);
            __syncwarp();
            for (int i = lane; i < rows_here; i += WARP)
                floors[i] = fmaxf(floors[i], of_order(((volatile int *)s.floor)[hk * s.rows + first_row + i]));
        }
        if (s.samples && job >= 2 * blind && (turn & (turn - 1)) == 0 &&
            (turn == 1 || list / rows_here % LISTENERS == 0))
            listen((list + turn) % rows_here);
        __syncwarp();
        if (quad == 0) {
#pragma unroll
            for (int n = 0; n < NB; n++)
#pragma unroll
                for (int i = 0; i < 2; i++)
                    floors[row_at[n][i]] = fmaxf(floors[row_at[n][i]], of_order(seen[n][i]));
        }
        __syncwarp();
        if (!seen_before) {
            tile = following;
            following = 2 * warps_per_head + __shfl_sync(ALL, ticket, 0);
        }
    }
    for (int i = lane; i < ROWS && first_row + i < s.rows; i += WARP)
        s.count[(hk * s.rows + first_row + i) * s.lists + list] = counts[i];
}

template <int D, int KIND, int NB> cudaError_t launch(const search *s, int n, cudaStream_t stream)
{
    int device = 0, all = 0;
    cudaError_t code = cudaGetDevice(&device);
    if (code == cudaSuccess)
        code = cudaDeviceGetAttribute(&all, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device);
    /* Where there is room for two tiles in each of the blocks of a multiprocessor. */
    const int blind = BLOCKS_PER_SM * (shared_bytes(NB, TOP_MAX, 2) + 1024) <= (size_t)all ? 2 : 1;
    const size_t shared = shared_bytes(NB, s->top_k, blind);
    if (code == cudaSuccess)
        code = allow_shared<scan_kernel<D, KIND, NB>>((int)shared_bytes(NB, TOP_MAX, blind));
    if (code != cudaSuccess)
        return code;
    const unsigned groups = (unsigned)((s->rows + NB * 8 - 1) / (NB * 8));
    unsigned blocks = 0;
    for (int i = 0; i < n; i++)
        blocks = REATTN__MAX(blocks, (unsigned)(((int64_t)s[i].lists * s[i].Hk + WARPS - 1) / WARPS));
    return launch_batch(scan_kernel<D, KIND, NB>, dim3(blocks, groups), THREADS, shared, stream, s, n, blind);
}

struct scan {
    const search *s;
    int n;
    cudaStream_t stream;
    template <int D, int KIND> cudaError_t at() const
    {
        return s->rows <= FEW_ROWS ? launch<D, KIND, 1>(s, n, stream) : launch<D, KIND, 2>(s, n, stream);
    }
};

} // namespace

namespace reattn_cuda
{

/* One wave of blocks. */
int mma_blocks(int SMs)
{
    return SMs * BLOCKS_PER_SM;
}

/* Warps of a head take turns at its tiles: as few as need no more turns than all would. */
int mma_warps(int64_t M, int64_t rows, int Hk, int blocks)
{
    const int64_t per_group = rows <= FEW_ROWS ? 8 : 16, groups = (rows + per_group - 1) / per_group;
    const int64_t warps = (int64_t)blocks * WARPS / (groups > 0 ? groups : 1) / Hk, tiles = (M + TILE - 1) / TILE;
    const int64_t turns = warps < 1 ? tiles : (tiles + warps - 1) / warps;
    return (int)((tiles + turns - 1) / turns);
}

int launch_scan_mma(const search *s, int n, cudaStream_t stream, reattn_error *err)
{
    return launch_scan(*s, scan{s, n, stream}, err);
}

} // namespace reattn_cuda
