/* attend_many.cu - attention of many queries, with tensor cores (mma.sync, sm_80 and later).
 *
 * First the scope's keys and the queries are rotated once, into scratch, in the type of the store; a query row is
 * scaled to 1 .. 2 before it is rounded, so that no size of it overflows. Then a block takes BM rows of one KV head
 * (row = query * g + head in its group: all heads of a group share the keys) and a stretch of the scope, tile by tile:
 * keys come from scratch, values straight from the store, two tiles in flight. */
#include "attend.cuh"

using namespace reattn_cuda;

namespace
{

enum { WARPS = 4, THREADS = WARPS * WARP };

template <int D> struct shape {
    static constexpr int MT = D == 256 ? 1 : 2;         /* 16-row fragments of a warp */
    static constexpr int BM = WARPS * 16 * MT;          /* rows of a block */
    static constexpr int BN = D == 256 ? 32 : 64;       /* keys of a tile */
    static constexpr int CHUNKS = D / 8;                /* 16-byte chunks of a row */
    static constexpr int PITCH = D == 96 ? 16 : CHUNKS; /* chunks from row to row, a multiple of 8 for the swizzle */
    static constexpr int Q_BYTES = BM * PITCH * 16, TILE_BYTES = BN * PITCH * 16;
    static constexpr int SHARED = Q_BYTES + 4 * TILE_BYTES + 3 * BN * 4;
};

/* ---------------------------------------------------------------------------------------------- rotation ------- */

/* Eight pairs of a key, wherever they lie. */
template <int KIND>
__device__ void turn_pairs(const attention &a, const uint16_t *k, const float *cs, uint16_t *out, int first)
{
    const int half = a.D / 2;
    if (!pairs_aligned(a)) {
        for (int p = first; p < first + 8; p++) {
            const int x = pair_first(a, p), y = x + pair_step(a, p);
            const float u = widen<KIND>(k[x]), w = widen<KIND>(k[y]), c = cs[p], s = cs[half + p];
            out[x] = narrow<KIND>(u * c - w * s);
            out[y] = narrow<KIND>(u * s + w * c);
        }
        return;
    }
    const int x_at = pair_first(a, first), y_at = a.neox ? x_at + pair_step(a, first) : x_at + 8;
    float u[8], w[8];
    uint16_t x[8], y[8];
    unpack<KIND>(*(const uint4 *)(k + x_at), *(const uint4 *)(k + y_at), a.neox, u, w);
#pragma unroll
    for (int i = 0; i < 8; i += 4) {
        const float4 c = *(const float4 *)(cs + first + i), s = *(const float4 *)(cs + half + first + i);
        const float co[4] = {c.x, c.y, c.z, c.w}, si[4] = {s.x, s.y, s.z, s.w};
#pragma unroll
        for (int j = 0; j < 4; j++) {
            x[i + j] = narrow<KIND>(u[i + j] * co[j] - w[i + j] * si[j]);
            y[i + j] = narrow<KIND>(u[i + j] * si[j] + w[i + j] * co[j]);
        }
    }
    uint4 to[2];
    uint32_t *words = (uint32_t *)to;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        words[i] = a.neox ? pack16(x[2 * i], x[2 * i + 1]) : pack16(x[i], y[i]);
        words[4 + i] = a.neox ? pack16(y[2 * i], y[2 * i + 1]) : pack16(x[4 + i], y[4 + i]);
    }
    *(uint4 *)(out + x_at) = to[0];
    *(uint4 *)(out + y_at) = to[1];
}

/* A thread takes eight pairs of a key of the scope; those of a KV head follow each other. */
template <int KIND> __global__ void turn_keys_kernel(attention a)
{
    const int per = a.D / 16, hk = blockIdx.y;
    const int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, i = at / per;
    if (i >= scope_count(a, hk))
        return;
    const int64_t token = scope_token(a, hk, (int)i);
    turn_pairs<KIND>(a, a.k + (token * a.Hk + hk) * a.D, a.cs + (a.original ? token : i) * a.D,
                     a.k_turned + (hk * a.most + i) * a.D, (int)(at % per) * 8);
}

__device__ __forceinline__ float warp_max(float x)
{
    for (int i = WARP / 2; i > 0; i /= 2)
        x = fmaxf(x, __shfl_xor_sync(ALL, x, i));
    return x;
}

/* A warp takes a query row. */
template <int KIND> __global__ void turn_queries_kernel(attention a)
{
    const int lane = threadIdx.x % WARP, half = a.D / 2;
    const int64_t at = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / WARP;
    if (at >= a.rows)
        return;
    const int64_t per_head = a.T * a.g, hk = at / per_head, t = at % per_head / a.g;
    const float *q = a.q + (t * a.H + hk * a.g + at % a.g) * a.D;
    const float *cs = a.cs + query_position(a, scope_count(a, (int)hk), t) * a.D;
    float most = 0, x[4], y[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int p = i * WARP + lane;
        if (p >= half)
            break;
        const int from = pair_first(a, p);
        const float u = q[from], w = q[from + pair_step(a, p)], c = cs[p], s = cs[half + p];
        x[i] = u * c - w * s;
        y[i] = u * s + w * c;
        most = fmaxf(most, fmaxf(fabsf(x[i]), fabsf(y[i])));
    }
    most = warp_max(most);
    const float size = most > 1e-30f && most < 1e38f ? exp2f((float)ilogbf(most)) : 1.0f;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int p = i * WARP + lane;
        if (p >= half)
            break;
        const int from = pair_first(a, p);
        a.q_turned[at * a.D + from] = narrow<KIND>(x[i] / size);
        a.q_turned[at * a.D + from + pair_step(a, p)] = narrow<KIND>(y[i] / size);
    }
    if (lane == 0)
        a.q_scale[at] = size * (a.scale * LOG2_E);
}

/* -------------------------------------------------------------------------------------------- instructions ----- */

__device__ __forceinline__ void matrices(uint32_t (&x)[4], uint32_t from)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(from)
                 : "memory");
}
__device__ __forceinline__ void matrices_turned(uint32_t (&x)[4], uint32_t from)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(from)
                 : "memory");
}
template <int KIND>
__device__ __forceinline__ void product(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    if constexpr (KIND == F16)
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    else
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <int KIND> __device__ __forceinline__ uint32_t pack(float lo, float hi)
{
    uint32_t x;
    if constexpr (KIND == F16)
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(x) : "f"(hi), "f"(lo));
    else
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(x) : "f"(hi), "f"(lo));
    return x;
}
/* Place of a chunk in a matrix in shared memory: eight rows of a column fall into eight places. */
template <int PITCH> __device__ __forceinline__ uint32_t place(int row, int chunk)
{
    return (uint32_t)(row * PITCH + (chunk ^ (row & 7))) * 16;
}

/* ------------------------------------------------------------------------------------------------- flash ------- */

template <int D, int KIND>
__global__ void __launch_bounds__(THREADS, D == 256 ? 1 : 2) flash_kernel(const __grid_constant__ attention a)
{
    typedef shape<D> S;
    constexpr int MT = S::MT, BN = S::BN, PITCH = S::PITCH, CHUNKS = S::CHUNKS;
    extern __shared__ __align__(128) char raw[];
    const uint32_t q_tile = address(raw), k_tile = q_tile + S::Q_BYTES, v_tile = k_tile + 2 * S::TILE_BYTES;
    int *tokens = (int *)(raw + S::Q_BYTES + 4 * S::TILE_BYTES); /* [3][BN] of the tiles that are copied next */
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, hk = blockIdx.y, split = blockIdx.z;
    const int rows = (int)(a.T * a.g), first_row = blockIdx.x * S::BM;
    const int count = scope_count(a, hk), seen_by_0 = count - (int)a.T; /* query t sees keys 0 .. seen_by_0 + t */
    const int last_row = min(first_row + S::BM, rows) - 1;
    const int key_end = min(count, seen_by_0 + last_row / a.g + 1);
    const int tiles = (key_end + BN - 1) / BN, per_split = (tiles + a.splits - 1) / a.splits;
    const int begin = split * per_split, end = min(tiles, begin + per_split);
    const uint16_t *q = a.q_turned + (int64_t)hk * rows * D, *k = a.k_turned + hk * a.most * D, *v = a.v + hk * D;
    const int64_t pitch = (int64_t)a.Hk * D;

    auto look_up = [&](int tile) {
        if (threadIdx.x < BN && tile < end) {
            const int i = tile * BN + threadIdx.x;
            tokens[tile % 3 * BN + threadIdx.x] = i < count ? scope_token(a, hk, i) : 0;
        }
    };
    auto copy = [&](int tile, int stage) {
        if (tile < end)
            for (int i = threadIdx.x; i < BN * CHUNKS; i += THREADS) {
                const int row = i / CHUNKS, chunk = i % CHUNKS, key = tile * BN + row;
                const bool there = key < count;
                const uint32_t to = stage * S::TILE_BYTES + place<PITCH>(row, chunk);
                copy16(k_tile + to, k + (int64_t)(there ? key : 0) * D + chunk * 8, there);
                copy16(v_tile + to, v + tokens[tile % 3 * BN + row] * pitch + chunk * 8, there);
            }
        copies_close();
    };

    look_up(begin);
    look_up(begin + 1);
    for (int i = threadIdx.x; i < S::BM * CHUNKS; i += THREADS) {
        const int row = i / CHUNKS, chunk = i % CHUNKS, r = min(first_row + row, rows - 1);
        copy16(q_tile + place<PITCH>(row, chunk), q + (int64_t)r * D + chunk * 8, first_row + row < rows);
    }
    __syncthreads();
    copy(begin, begin & 1);

    float o[MT][D / 8][4], m[MT][2], l[MT][2], size[MT][2];
    int sees[MT][2];
#pragma unroll
    for (int i = 0; i < MT; i++) {
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const int row = first_row + (warp * MT + i) * 16 + lane / 4 + j * 8;
            m[i][j] = -INFINITY;
            l[i][j] = 0;
            size[i][j] = row < rows ? a.q_scale[(int64_t)hk * rows + row] : 1.0f;
            sees[i][j] = seen_by_0 + min(row, rows - 1) / a.g;
        }
#pragma unroll
        for (int n = 0; n < D / 8; n++)
#pragma unroll
            for (int j = 0; j < 4; j++)
                o[i][n][j] = 0;
    }
    for (int tile = begin; tile < end; tile++) {
        const int stage = tile & 1;
        copies_wait<0>();
        __syncthreads(); /* this tile is there; all are done with the one before */
        copy(tile + 1, stage ^ 1);
        look_up(tile + 2);

        float s[MT][BN / 8][4];
#pragma unroll
        for (int i = 0; i < MT; i++)
#pragma unroll
            for (int n = 0; n < BN / 8; n++)
#pragma unroll
                for (int j = 0; j < 4; j++)
                    s[i][n][j] = 0;
#pragma unroll
        for (int step = 0; step < D / 16; step++) {
            uint32_t x[MT][4];
#pragma unroll
            for (int i = 0; i < MT; i++)
                matrices(x[i], q_tile + place<PITCH>((warp * MT + i) * 16 + lane % 16, step * 2 + lane / 16));
#pragma unroll
            for (int n = 0; n < BN / 16; n++) {
                uint32_t y[4];
                matrices(y, k_tile + stage * S::TILE_BYTES +
                                place<PITCH>(n * 16 + lane % 8 + lane / 16 * 8, step * 2 + lane / 8 % 2));
#pragma unroll
                for (int i = 0; i < MT; i++) {
                    product<KIND>(s[i][2 * n], x[i], y[0], y[1]);
                    product<KIND>(s[i][2 * n + 1], x[i], y[2], y[3]);
                }
            }
        }

        const bool all_seen = tile * BN + BN <= min(count, seen_by_0 + first_row / a.g + 1);
        uint32_t p[MT][BN / 16][4];
#pragma unroll
        for (int i = 0; i < MT; i++) {
            float top[2] = {m[i][0], m[i][1]};
#pragma unroll
            for (int n = 0; n < BN / 8; n++)
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    const int key = tile * BN + n * 8 + lane % 4 * 2 + j % 2;
                    if (!all_seen && key > sees[i][j / 2])
                        s[i][n][j] = -INFINITY;
                    top[j / 2] = fmaxf(top[j / 2], s[i][n][j]);
                }
            float shrink[2], sum[2] = {0, 0}; /* highest scores are kept unscaled: scales are not negative */
#pragma unroll
            for (int j = 0; j < 2; j++) {
                top[j] = fmaxf(top[j], __shfl_xor_sync(ALL, top[j], 1));
                top[j] = fmaxf(top[j], __shfl_xor_sync(ALL, top[j], 2));
                /* Where nothing was seen yet all weights are to be 0, not NaN. */
                shrink[j] = top[j] == -INFINITY ? 1.0f : power_of_2((m[i][j] - top[j]) * size[i][j]);
                m[i][j] = top[j];
                top[j] = top[j] == -INFINITY ? 0.0f : top[j];
            }
#pragma unroll
            for (int n = 0; n < BN / 8; n++) {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    s[i][n][j] = power_of_2((s[i][n][j] - top[j / 2]) * size[i][j / 2]); /* 1 at the top */
                    sum[j / 2] += s[i][n][j];
                }
                p[i][n / 2][n % 2 * 2] = pack<KIND>(s[i][n][0], s[i][n][1]);
                p[i][n / 2][n % 2 * 2 + 1] = pack<KIND>(s[i][n][2], s[i][n][3]);
            }
#pragma unroll
            for (int j = 0; j < 2; j++)
                l[i][j] = l[i][j] * shrink[j] + sum[j];
#pragma unroll
            for (int n = 0; n < D / 8; n++)
#pragma unroll
                for (int j = 0; j < 4; j++)
                    o[i][n][j] *= shrink[j / 2];
        }
#pragma unroll
        for (int n = 0; n < BN / 16; n++)
#pragma unroll
            for (int d = 0; d < D / 16; d++) {
                uint32_t y[4];
                matrices_turned(y,
                                v_tile + stage * S::TILE_BYTES + place<PITCH>(n * 16 + lane % 16, d * 2 + lane / 16));
#pragma unroll
                for (int i = 0; i < MT; i++) {
                    product<KIND>(o[i][2 * d], p[i][n], y[0], y[1]);
                    product<KIND>(o[i][2 * d + 1], p[i][n], y[2], y[3]);
                }
            }
    }
    copies_wait<0>();
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
        for (int j = 0; j < 2; j++) {
            l[i][j] += __shfl_xor_sync(ALL, l[i][j], 1);
            l[i][j] += __shfl_xor_sync(ALL, l[i][j], 2);
            const int row = first_row + (warp * MT + i) * 16 + lane / 4 + j * 8;
            if (row >= rows)
                continue;
            const int64_t to = split * a.rows + (int64_t)(row / a.g) * a.H + hk * a.g + row % a.g;
            if (lane % 4 == 0)
                a.ml[to] = {m[i][j] == -INFINITY ? m[i][j] : m[i][j] * size[i][j], l[i][j]};
#pragma unroll
            for (int n = 0; n < D / 8; n++)
                *(float2 *)(a.o + to * D + n * 8 + lane % 4 * 2) = {o[i][n][j * 2], o[i][n][j * 2 + 1]};
        }
}

template <int D, int KIND> cudaError_t launch(const attention &a, cudaStream_t stream)
{
    typedef shape<D> S;
    const int64_t threads = a.most * (D / 16);
    turn_keys_kernel<KIND><<<dim3((unsigned)((threads + 255) / 256), a.Hk), 256, 0, stream>>>(a);
    turn_queries_kernel<KIND><<<(unsigned)((a.rows + 7) / 8), 256, 0, stream>>>(a);
    cudaError_t code =
        cudaFuncSetAttribute(flash_kernel<D, KIND>, cudaFuncAttributeMaxDynamicSharedMemorySize, S::SHARED);
    if (code != cudaSuccess)
        return code;
    const unsigned blocks = (unsigned)((a.T * a.g + S::BM - 1) / S::BM);
    flash_kernel<D, KIND><<<dim3(blocks, a.Hk, a.splits), THREADS, S::SHARED, stream>>>(a);
    return cudaGetLastError();
}

template <int D> cudaError_t launch_typed(const attention &a, cudaStream_t stream)
{
    return a.type == F16 ? launch<D, F16>(a, stream) : launch<D, BF16>(a, stream);
}

} // namespace

namespace reattn_cuda
{

/* Two blocks a multiprocessor, while a split has at least four tiles. */
int many_splits(const attention &a, int SMs)
{
    const int64_t BM = a.D == 256 ? shape<256>::BM : shape<128>::BM, BN = a.D == 256 ? shape<256>::BN : shape<128>::BN;
    const int64_t blocks = (a.T * a.g + BM - 1) / BM * a.Hk, tiles = (a.most + BN - 1) / BN;
    const int64_t splits = REATTN__MIN(2 * SMs / blocks, tiles / 4);
    return (int)(splits < 1 ? 1 : splits > 64 ? 64 : splits);
}

cudaError_t launch_many(const attention &a, cudaStream_t stream)
{
    switch (a.D) {
    case 64:
        return launch_typed<64>(a, stream);
    case 96:
        return launch_typed<96>(a, stream);
    case 128:
        return launch_typed<128>(a, stream);
    case 256:
        return launch_typed<256>(a, stream);
    }
    return cudaErrorInvalidValue;
}

} // namespace reattn_cuda
