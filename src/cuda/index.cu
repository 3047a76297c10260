/* index.cu - norms and the 8-bit plane of keys, a block for each tile of 128 keys of a KV head.
 *
 * In the plane k - mean is rounded to 8 bits with one scale for a tile; what that loses is measured here, in float64,
 * and rounded up. The mean is that of the first 1024 keys: it must not change when keys are appended. */
#include "scan.cuh"

using namespace reattn_cuda;

namespace
{

enum { MEAN_KEYS = 1024, THREADS = 256, WARPS = THREADS / WARP };
constexpr double UP = 1.0 + 1e-6; /* more than a conversion to f32 rounds */
constexpr float FLAT = 1e-30f;    /* below, a tile's plane is zero */

struct build {
    const void *k;
    int64_t M, stride_key, stride_head, first_tile;
    int64_t first;
    unsigned rows; /* of a ring, or 0 */
    int D, type;
    index_view v;
};

__device__ float key_value(const build &b, int hk, int64_t pos, int d)
{
    const int64_t row = b.rows ? (unsigned)(b.first + pos) % b.rows : pos;
    return load_value(b.k, b.type, row * b.stride_key + hk * b.stride_head + d);
}

__global__ void mean_kernel(build b)
{
    int hk = blockIdx.x;
    int64_t n = b.M < MEAN_KEYS ? b.M : MEAN_KEYS;
    for (int d = threadIdx.x; d < b.D; d += blockDim.x) {
        double sum = 0;
        for (int64_t j = 0; j < n; j++)
            sum += (double)key_value(b, hk, j, d);
        float mean = n > 0 ? (float)(sum / (double)n) : 0.0f;
        b.v.mean[hk * b.D + d] = isfinite(mean) ? mean : 0.0f;
    }
    if (threadIdx.x == 0) {
        b.v.norm_max[hk] = 0;
        if (hk == 0)
            *b.v.bad = 0;
    }
}

__device__ double warp_sum(double x)
{
    for (int i = WARP / 2; i > 0; i /= 2)
        x += __shfl_xor_sync(ALL, x, i);
    return x;
}
__device__ float warp_max(float x)
{
    for (int i = WARP / 2; i > 0; i /= 2)
        x = fmaxf(x, __shfl_xor_sync(ALL, x, i));
    return x;
}
/* The largest of x [WARPS] over a block. */
__device__ float block_max(float x, float *shared, int warp, int lane)
{
    __syncthreads();
    if (lane == 0)
        shared[warp] = x;
    __syncthreads();
    for (int i = 0; i < WARPS; i++)
        x = fmaxf(x, shared[i]);
    return x;
}

__global__ void __launch_bounds__(THREADS) tile_kernel(build b)
{
    __shared__ float shared[WARPS];
    const int hk = blockIdx.y, warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const int64_t tile = b.first_tile + blockIdx.x, first = tile * TILE;
    const float *mean = b.v.mean + hk * b.D;
    float norm = 0, amax = 0;
    for (int i = warp; i < TILE && first + i < b.M; i += WARPS) {
        double sum = 0;
        for (int d = lane; d < b.D; d += WARP) {
            float x = key_value(b, hk, first + i, d);
            if (!isfinite(x))
                *b.v.bad = 1;
            sum += (double)x * (double)x;
            amax = fmaxf(amax, fabsf(x - mean[d]));
        }
        norm = fmaxf(norm, (float)(sqrt(warp_sum(sum)) * UP));
    }
    norm = block_max(norm, shared, warp, lane);
    amax = block_max(warp_max(amax), shared, warp, lane);
    if (threadIdx.x == 0) {
        b.v.wide[hk * b.v.tiles + tile] = {1.0f, 1.0f, norm, 0.0f};
        atomicMax(b.v.norm_max + hk, __float_as_uint(norm));
    }
    if (!b.v.plane)
        return;
    const float scale = amax > FLAT ? amax / 127.0f : 1.0f;
    float lost = 0, kept = 0;
    for (int i = warp; i < TILE; i += WARPS) {
        int8_t *out = b.v.plane + ((hk * b.v.tiles + tile) * TILE + i) * b.D;
        double lost2 = 0, kept2 = 0;
        for (int d = lane; d < b.D; d += WARP) {
            double x = first + i < b.M ? (double)key_value(b, hk, first + i, d) - (double)mean[d] : 0.0;
            double level = amax > FLAT ? fmin(fmax(rint(x / (double)scale), -127.0), 127.0) : 0.0;
            double y = level * (double)scale;
            out[d] = (int8_t)level;
            lost2 += (x - y) * (x - y);
            kept2 += y * y;
        }
        lost = fmaxf(lost, (float)(sqrt(warp_sum(lost2)) * UP));
        kept = fmaxf(kept, (float)(sqrt(warp_sum(kept2)) * UP));
    }
    lost = block_max(lost, shared, warp, lane);
    kept = block_max(kept, shared, warp, lane);
    if (threadIdx.x == 0)
        b.v.narrow[hk * b.v.tiles + tile] = {scale, 1.0f / scale, lost, kept};
}

} // namespace

extern "C" size_t reattn__cuda_index_bytes(int64_t capacity, int Hk, int D, int plane)
{
    return index_at(NULL, capacity, Hk, D, plane).bytes;
}

extern "C" int reattn__cuda_index_make(const reattn__cuda_keys *keys, int64_t from, void *stream, reattn_error *err)
{
    const reattn__cuda_ring none = {};
    return reattn__cuda_index_make_of(keys, &none, from, stream, err);
}

extern "C" int reattn__cuda_index_make_of(const reattn__cuda_keys *keys, const reattn__cuda_ring *ring, int64_t from,
                                          void *stream, reattn_error *err)
{
    if (keys->M > keys->capacity || from < 0 || from > keys->M)
        return reattn__fail(err, REATTN_E_ARG, "the index has room for %lld keys, keys %lld .. %lld were given",
                            (long long)keys->capacity, (long long)from, (long long)keys->M);
    build b = {};
    b.k = ring->rows ? ring->k : keys->k, b.M = keys->M, b.stride_key = keys->stride_key;
    b.stride_head = keys->stride_head, b.first_tile = from / TILE, b.first = ring->first, b.rows = (unsigned)ring->rows;
    b.D = keys->D, b.type = keys->type;
    b.v = index_at(keys->index, keys->capacity, keys->Hk, keys->D, keys->plane);
    if (!keys->plane)
        b.v.plane = NULL;
    if (from == 0)
        mean_kernel<<<keys->Hk, 128, 0, (cudaStream_t)stream>>>(b);
    int64_t tiles = (keys->M + TILE - 1) / TILE - b.first_tile;
    if (tiles > 0)
        tile_kernel<<<dim3((unsigned)tiles, keys->Hk), THREADS, 0, (cudaStream_t)stream>>>(b);
    return failed(cudaGetLastError(), "making the index of the keys", err);
}

extern "C" int reattn__cuda_devices(void)
{
    int n = 0;
    if (cudaGetDeviceCount(&n) != cudaSuccess) {
        (void)cudaGetLastError();
        return 0;
    }
    return n;
}
