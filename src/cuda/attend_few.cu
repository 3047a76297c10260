/* attend_few.cu - attention of one query: the scope is cut into as many parts as there are multiprocessors; a block
 * takes a part for several KV heads, so that they share the rotations, a warp a stretch of a KV head's keys for up to
 * GT of its query heads.
 *
 * A key lies in LANES lanes, eight pairs each: 16 bytes of the first values and 16 of the second. Scores of up to STEP
 * keys go to shared memory, then come their weights, then their values. */
#include "attend.cuh"

using namespace reattn_cuda;

namespace
{

enum { STEP = 64, WARPS_MAX = 16 };

template <int D> struct shape {
    static constexpr int LANES = D == 96 ? 8 : D / 16; /* of a key; 6 of 8 work where D is 96 */
    static constexpr int KEYS = WARP / LANES;          /* at once */
};

/* What a block does. */
struct share {
    int groups; /* of query heads of a KV head: each is a unit */
    int units;  /* of a block: consecutive (KV head, group) */
    int parts;  /* warps of a unit */
};

/* Eight pairs from 16-bit values: x the first values, y the second (neox), or x and y 16 values in a row. */
template <int KIND> __device__ __forceinline__ void unpack(const uint4 &x, const uint4 &y, bool neox, float (&a)[8], float (&b)[8])
{
    const uint32_t w[8] = {x.x, x.y, x.z, x.w, y.x, y.y, y.z, y.w};
    if (neox) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            a[2 * i] = widen<KIND>((uint16_t)w[i]), a[2 * i + 1] = widen<KIND>((uint16_t)(w[i] >> 16));
            b[2 * i] = widen<KIND>((uint16_t)w[4 + i]), b[2 * i + 1] = widen<KIND>((uint16_t)(w[4 + i] >> 16));
        }
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++)
            a[i] = widen<KIND>((uint16_t)w[i]), b[i] = widen<KIND>((uint16_t)(w[i] >> 16));
    }
}

__device__ __forceinline__ uint4 load16(const uint16_t *p)
{
    uint4 x;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w) : "l"(p));
    return x;
}

/* Eight values in a row of pairs that are not aligned to 16 bytes. */
__device__ __noinline__ uint4 gather16(const attention &a, const uint16_t *row, int first_pair, bool second)
{
    uint32_t w[4];
    for (int i = 0; i < 8; i++) {
        const int p = first_pair + i;
        const uint32_t x = row[pair_first(a, p) + (second ? pair_step(a, p) : 0)];
        w[i / 2] = i % 2 ? w[i / 2] | x << 16 : x;
    }
    return {w[0], w[1], w[2], w[3]};
}

template <int D, int KIND, int GT> __global__ void __launch_bounds__(WARPS_MAX *WARP, 1) few_kernel(attention a, share sh)
{
    typedef shape<D> S;
    extern __shared__ __align__(16) float shared[];
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const int in_key = lane % S::LANES, key_at = lane / S::LANES;
    const bool works = in_key * 16 < D;
    const int unit_at = warp / sh.parts, part = warp % sh.parts;
    const int unit = blockIdx.y * sh.units + unit_at, hk = unit / sh.groups;
    const int first_head = hk * a.g + unit % sh.groups * GT, heads = min(GT, (hk + 1) * a.g - first_head);
    const int count = scope_count(a, hk);
    float *turned = shared + unit_at * GT * D;                                            /* [GT][4][D / 16][4] */
    float *score = shared + sh.units * GT * D + warp * GT * STEP;                         /* [GT][STEP] */
    float *state = shared + sh.units * GT * D + sh.units * sh.parts * GT * STEP;          /* [warps][GT][D + 2] */

    /* The unit's queries, rotated, in the order in which lanes hold pairs: values 4c .. 4c + 3 of all lanes together. */
    const float *cs = a.cs + query_position(a, count, 0) * D;
    for (int i = part * WARP + lane; i < GT * D / 2; i += sh.parts * WARP) {
        const int h = i / (D / 2), p = i % (D / 2), from = pair_first(a, p), step = pair_step(a, p);
        float x = 0, y = 0;
        if (h < heads) {
            const float *q = a.q + (int64_t)(first_head + h) * D;
            const float u = q[from], w = q[from + step], c = cs[p], s = cs[D / 2 + p];
            x = (u * c - w * s) * (a.scale * LOG2_E);
            y = (u * s + w * c) * (a.scale * LOG2_E);
        }
        const int at = h * D + (p % 8 / 4 * (D / 16) + p / 8) * 4 + p % 4;
        turned[at] = x;
        turned[at + D / 2] = y;
    }
    __syncthreads();

    const bool neox = a.neox, aligned = !neox || (a.n_rot / 2 % 8 == 0 && (a.D - a.n_rot) / 2 % 8 == 0);
    const int x_at = pair_first(a, in_key * 8), y_at = neox ? x_at + pair_step(a, in_key * 8) : x_at + 8;
    const int per_block = (count + a.splits - 1) / a.splits, block_end = min(count, ((int)blockIdx.x + 1) * per_block);
    const int per_warp = (per_block + sh.parts - 1) / sh.parts;
    const int begin = blockIdx.x * per_block + part * per_warp, end = min(block_end, begin + per_warp);
    const int64_t pitch = (int64_t)a.Hk * D;
    const uint16_t *keys = a.k + hk * D, *values = a.v + hk * D + (works ? in_key * 8 : 0);

    float o[GT][16], m[GT], l[GT];
#pragma unroll
    for (int h = 0; h < GT; h++) {
        m[h] = -INFINITY;
        l[h] = 0;
#pragma unroll
        for (int i = 0; i < 16; i++)
            o[h][i] = 0;
    }
    for (int first = begin; first < end; first += STEP) {
        const int n = min((int)STEP, end - first);
        const int token[2] = {lane < n ? scope_token(a, hk, first + lane) : 0,
                              WARP + lane < n ? scope_token(a, hk, first + WARP + lane) : 0};
        auto token_of = [&](int key) {
            const int x = __shfl_sync(ALL, token[0], key % WARP), y = __shfl_sync(ALL, token[1], key % WARP);
            return key < WARP ? x : y;
        };
        constexpr int AHEAD = 2;
#pragma unroll 1
        for (int base = 0; base < n; base += AHEAD * S::KEYS) {
            uint4 x[AHEAD], y[AHEAD];
            int tok[AHEAD];
#pragma unroll
            for (int u = 0; u < AHEAD; u++) {
                const int key = base + u * S::KEYS + key_at;
                tok[u] = token_of(min(key, n - 1));
                x[u] = y[u] = {0, 0, 0, 0};
                if (works && aligned) {
                    x[u] = load16(keys + tok[u] * pitch + x_at);
                    y[u] = load16(keys + tok[u] * pitch + y_at);
                } else if (works) {
                    x[u] = gather16(a, keys + tok[u] * pitch, in_key * 8, false);
                    y[u] = gather16(a, keys + tok[u] * pitch, in_key * 8, true);
                }
            }
#pragma unroll
            for (int u = 0; u < AHEAD; u++) {
                const int key = base + u * S::KEYS + key_at;
                float p[8], r[8], sum[GT];
                unpack<KIND>(x[u], y[u], neox, p, r);
                const int64_t pos = a.original ? tok[u] : first + min(key, n - 1);
                const float4 *turn = (const float4 *)(a.cs + pos * D + (works ? in_key * 8 : 0));
#pragma unroll
                for (int h = 0; h < GT; h++)
                    sum[h] = 0;
#pragma unroll
                for (int c = 0; c < 2; c++) {
                    const float4 cosine = __ldg(turn + c), sine = __ldg(turn + D / 8 + c);
                    const float co[4] = {cosine.x, cosine.y, cosine.z, cosine.w}, si[4] = {sine.x, sine.y, sine.z, sine.w};
                    float e[4], f[4];
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        e[i] = p[c * 4 + i] * co[i] - r[c * 4 + i] * si[i];
                        f[i] = p[c * 4 + i] * si[i] + r[c * 4 + i] * co[i];
                    }
#pragma unroll
                    for (int h = 0; h < GT; h++) {
                        const int at = h * D + (c * (D / 16) + (works ? in_key : 0)) * 4;
                        const float4 q0 = *(const float4 *)(turned + at), q1 = *(const float4 *)(turned + at + D / 2);
                        sum[h] += e[0] * q0.x + e[1] * q0.y + e[2] * q0.z + e[3] * q0.w;
                        sum[h] += f[0] * q1.x + f[1] * q1.y + f[2] * q1.z + f[3] * q1.w;
                    }
                }
#pragma unroll
                for (int h = 0; h < GT; h++) {
                    if (!works)
                        sum[h] = 0;
#pragma unroll
                    for (int i = S::LANES / 2; i > 0; i /= 2)
                        sum[h] += __shfl_xor_sync(ALL, sum[h], i);
                    if (in_key == 0 && key < n)
                        score[h * STEP + key] = sum[h];
                }
            }
        }
        __syncwarp();
#pragma unroll
        for (int h = 0; h < GT; h++) {
            const float x = lane < n ? score[h * STEP + lane] : -INFINITY;
            const float y = WARP + lane < n ? score[h * STEP + WARP + lane] : -INFINITY;
            float top = fmaxf(m[h], fmaxf(x, y));
            for (int i = WARP / 2; i > 0; i /= 2)
                top = fmaxf(top, __shfl_xor_sync(ALL, top, i));
            const float px = exp2f(x - top), py = exp2f(y - top), shrink = exp2f(m[h] - top);
            float sum = px + py;
            for (int i = WARP / 2; i > 0; i /= 2)
                sum += __shfl_xor_sync(ALL, sum, i);
            l[h] = l[h] * shrink + sum;
            m[h] = top;
            score[h * STEP + lane] = px;
            score[h * STEP + WARP + lane] = py;
#pragma unroll
            for (int i = 0; i < 16; i++)
                o[h][i] *= shrink;
        }
        __syncwarp();
#pragma unroll 1
        for (int base = 0; base < n; base += AHEAD * S::KEYS) {
            uint4 x[AHEAD], y[AHEAD];
#pragma unroll
            for (int u = 0; u < AHEAD; u++) {
                const uint16_t *row = values + token_of(min(base + u * S::KEYS + key_at, n - 1)) * pitch;
                x[u] = load16(row);
                y[u] = load16(row + D / 2);
            }
#pragma unroll
            for (int u = 0; u < AHEAD; u++) {
                const int key = base + u * S::KEYS + key_at; /* past n: its weight is 0 up to STEP, and it may reach it */
                float p[8], r[8];
                unpack<KIND>(x[u], y[u], true, p, r);
#pragma unroll
                for (int h = 0; h < GT; h++) {
                    const float w = key < n ? score[h * STEP + key] : 0.0f;
#pragma unroll
                    for (int i = 0; i < 8; i++) {
                        o[h][i] += w * p[i];
                        o[h][8 + i] += w * r[i];
                    }
                }
            }
        }
        __syncwarp();
    }

    /* Over the keys of the warp, then over the warps of the unit. */
    float *mine = state + warp * GT * (D + 2);
#pragma unroll
    for (int h = 0; h < GT; h++) {
#pragma unroll
        for (int i = 0; i < 16; i++) {
#pragma unroll
            for (int step = S::LANES; step < WARP; step *= 2)
                o[h][i] += __shfl_xor_sync(ALL, o[h][i], step);
            if (key_at == 0 && works)
                mine[h * (D + 2) + i / 8 * (D / 2) + in_key * 8 + i % 8] = o[h][i];
        }
        if (lane == 0) {
            mine[h * (D + 2) + D] = m[h];
            mine[h * (D + 2) + D + 1] = l[h];
        }
    }
    __syncthreads();
    const float *of_unit = state + unit_at * sh.parts * GT * (D + 2);
    for (int i = part * WARP + lane; i < heads * D; i += sh.parts * WARP) {
        const int h = i / D, d = i % D;
        float top = -INFINITY, sum = 0, weight = 0;
        for (int w = 0; w < sh.parts; w++)
            top = fmaxf(top, of_unit[(w * GT + h) * (D + 2) + D]);
        for (int w = 0; w < sh.parts && top > -INFINITY; w++) {
            const float *x = of_unit + (w * GT + h) * (D + 2);
            const float f = exp2f(x[D] - top);
            sum += f * x[d];
            weight += f * x[D + 1];
        }
        const int64_t row = blockIdx.x * a.rows + first_head + h;
        a.o[row * D + d] = sum;
        if (d == 0)
            a.ml[row] = {top, weight};
    }
}

share share_of(const attention &a, int gt)
{
    share s;
    s.groups = (a.g + gt - 1) / gt;
    const int alike = (a.lists > 1 ? 1 : a.Hk) * s.groups; /* units that a block may hold */
    s.units = 1;
    for (int i = 2; i <= 8; i++)
        if (alike % i == 0)
            s.units = i;
    s.parts = WARPS_MAX / s.units;
    return s;
}

int group_of(const attention &a)
{
    return a.g == 1 ? 1 : a.g == 2 ? 2 : 4;
}

template <int D, int KIND, int GT> cudaError_t launch(const attention &a, cudaStream_t stream)
{
    const share s = share_of(a, GT);
    const int warps = s.units * s.parts;
    const size_t shared = sizeof(float) * (s.units * GT * D + warps * GT * STEP + warps * GT * (D + 2));
    cudaError_t code =
        cudaFuncSetAttribute(few_kernel<D, KIND, GT>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    if (code != cudaSuccess)
        return code;
    few_kernel<D, KIND, GT><<<dim3(a.splits, a.Hk * s.groups / s.units), warps * WARP, shared, stream>>>(a, s);
    return cudaGetLastError();
}

template <int D, int KIND> cudaError_t launch_group(const attention &a, cudaStream_t stream)
{
    switch (group_of(a)) {
    case 1:
        return launch<D, KIND, 1>(a, stream);
    case 2:
        return launch<D, KIND, 2>(a, stream);
    default:
        return launch<D, KIND, 4>(a, stream);
    }
}

template <int D> cudaError_t launch_kind(const attention &a, cudaStream_t stream)
{
    return a.type == F16 ? launch_group<D, F16>(a, stream) : launch_group<D, BF16>(a, stream);
}

} // namespace

namespace reattn_cuda
{

int few_splits(const attention &a, int SMs)
{
    const share s = share_of(a, group_of(a));
    const int blocks = a.Hk * s.groups / s.units;
    return SMs / blocks > 1 ? SMs / blocks : 1;
}

cudaError_t launch_few(const attention &a, cudaStream_t stream)
{
    switch (a.D) {
    case 64:
        return launch_kind<64>(a, stream);
    case 96:
        return launch_kind<96>(a, stream);
    case 128:
        return launch_kind<128>(a, stream);
    case 256:
        return launch_kind<256>(a, stream);
    }
    return cudaErrorInvalidValue;
}

} // namespace reattn_cuda
