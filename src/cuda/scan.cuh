/* scan.cuh - what the files of selection share: layouts, the proved bound, candidate lists.
 *
 * The bound. A scan sees acc, the product of the rounded query q' and the rounded key k', and
 *     |q . (k - mean) - acc * row.scale * tile.scale| <= e = row.a * tile.a + row.b * tile.b + TINY
 * (subtracting the mean key adds a constant to all scores of a query and changes no ranking).
 *   16-bit keys: k' = k, mean 0, tile.a = the largest |k|. row.a = |q - q'| + D 2^-20 |q|: Cauchy-Schwarz for the
 *     rounding of q, and for the sum in f32: products of 16-bit floats are exact; a tensor core adds 8 or 16 of them
 *     and the sum so far, each cut to 24 bits of the largest, which loses at most D * 1.25 * 2^-23 |q| |k| in all.
 *   8-bit keys: integer sums are exact. tile.a = the largest |k - mean - k'|, row.a = |q|; tile.b = the largest |k'|,
 *     row.b = |q - q'|.
 * Slack of 2^-18 |q| |k| or more is in them, for the few f32 operations on thresholds. TINY covers what underflows;
 * rows that could overflow are searched by the law alone. */
#ifndef REATTN_CUDA_SCAN_CUH
#define REATTN_CUDA_SCAN_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "batch.cuh"
#include "select.h"
extern "C" {
#include "base/base.h"
}

namespace reattn_cuda
{

enum { TILE = 128, COLUMNS = 8, TOP_MAX = 32, WARP = 32, SAMPLES = 256, PARTS = 2048, FEW_ROWS = 8 };
enum { WHOLE_BLOCKS = 1024 }; /* fewer rows have a block each, when candidates are decided among */
enum kind { BF16 = REATTN__CUDA_BF16, F16 = REATTN__CUDA_F16, I8 = 2 };

constexpr float TINY = 1e-34f;
constexpr unsigned ALL = 0xffffffffu;

/* Bytes of a value in a scan of this kind. */
__host__ __device__ constexpr int value_bytes(int kind)
{
    return kind == I8 ? 1 : 2;
}

/* ---------------------------------------------------------------------------------------------- layouts ------- */

struct tile_info { /* of 128 keys of one KV head */
    float scale, inv, a, b;
};

struct index_view {
    tile_info *wide, *narrow; /* [Hk][tiles], for 16-bit and for 8-bit scans */
    float *mean;              /* [Hk][D] */
    unsigned *norm_max;       /* [Hk] bits of the largest |k| */
    int *bad;                 /* keys that are not finite */
    int8_t *plane;            /* [Hk][tiles * 128][D] */
    int64_t tiles;
    size_t bytes;
};

static inline index_view index_at(void *base, int64_t capacity, int Hk, int D, int plane)
{
    index_view v;
    char *at = (char *)base;
    auto take = [&](size_t bytes) {
        char *here = at;
        at += (bytes + 255) / 256 * 256;
        return here;
    };
    v.tiles = (capacity + TILE - 1) / TILE;
    v.wide = (tile_info *)take(sizeof(tile_info) * Hk * v.tiles);
    v.narrow = (tile_info *)take(plane ? sizeof(tile_info) * Hk * v.tiles : 0);
    v.mean = (float *)take(sizeof(float) * Hk * D);
    v.norm_max = (unsigned *)take(sizeof(unsigned) * Hk);
    v.bad = (int *)take(sizeof(int));
    v.plane = (int8_t *)take(plane ? (size_t)Hk * v.tiles * TILE * D : 0);
    v.bytes = (size_t)(at - (char *)base);
    return v;
}

struct row_info { /* of one query of one head; row = token * g + head in its group */
    float scale, inv, a, b;
};

/* Keys that a scan wants looked at: those numbered tile * 128 + 8 * i + column, for each bit i of `keys`. That is how a
 * lane has them in its registers, and what it can write down without looking for one of them. */
struct alignas(16) candidate {
    int at;        /* tile * COLUMNS + column */
    unsigned keys; /* 16 bits */
    float up, lo;  /* their scores are at most up, and one of them reaches lo */
};

struct status { /* cleared by prepare, filled by decide */
    int bad, brute_rows;
    unsigned long long candidates;
};

/* A search as the kernels see it. */
struct search {
    const void *k;
    const float *q;
    reattn_hit *hits;
    int64_t M, stride_key, stride_head, T, rows; /* rows of a KV head: T * g */
    int H, Hk, g, D, top_k, type, kind;
    int lists, room;  /* candidate lists of a row, and their length */
    int samples;      /* lists that tell each other their best, 0 for none */
    const tile_info *tiles;
    int64_t tile_stride; /* tiles of a KV head in the index */
    const int8_t *plane;
    const unsigned *norm_max;
    const float *mean; /* that was subtracted from the keys of the plane */
    const int *keys_bad;
    unsigned long long *far; /* as reattn__cuda_keys has it */
    /* scratch */
    status *st;
    row_info *row;   /* [Hk][rows] */
    void *qs;        /* [Hk][rows][D] in the type of the scan */
    int *floor;      /* [Hk][rows] order_of(k-th best score at least) */
    int *count;      /* [Hk][rows][lists] */
    int *brute;      /* [Hk][rows] rows left to the law */
    int *done;       /* [Hk][rows] parts of such a row's keys that have been searched */
    int *next;       /* [Hk][rows] few queries: tiles that were taken from the counter of the rows that begin there */
    candidate *cand; /* [Hk][rows][lists][room] */
    float *sample;   /* [Hk][rows][samples] the best score that is surely reached in each list's keys so far */
    /* [PARTS][top_k] of rows left to the law: what was found in parts of their keys */
    reattn_hit *parts;
};

/* What a product of a scan of this kind sums in. */
template <int KIND> struct sums {
    typedef float type;
};
template <> struct sums<I8> {
    typedef int type;
};

/* Floats as integers of the same order. */
__device__ __forceinline__ int order_of(float x)
{
    int i = __float_as_int(x);
    return i >= 0 ? i : i ^ 0x7fffffff;
}
__device__ __forceinline__ float of_order(int i)
{
    return __int_as_float(i >= 0 ? i : i ^ 0x7fffffff);
}

__device__ __forceinline__ float load_value(const void *k, int type, int64_t i)
{
    return type == F16 ? __half2float(((const __half *)k)[i]) : __bfloat162float(((const __nv_bfloat16 *)k)[i]);
}

/* The law, in order of d: the product of two such values is exact in float64, so that a fused multiply-add rounds as it
 * does. Conversions to float64 are slow. A bit pattern of f32, moved to its places in a float64, is that number times
 * 2^-896, subnormal ones too; so q comes multiplied by 2^896, which overflows for no f32: [D to a multiple of 64]. The
 * last three bits of f32, which reach into the lower half of a float64, are 0 in what comes from 16 bits. */
constexpr double Q_SCALE = 0x1p896;
constexpr int LAW_STEP = 64;

__device__ __forceinline__ double shifted(unsigned f32_bits)
{
    return __hiloint2double((int)f32_bits >> 3 & (int)0x8fffffff, 0);
}
template <bool HALF, bool SHARED>
__device__ __forceinline__ double law_of(const uint4 *k, const double *q, int D, double sum = 0.0)
{
    for (int d = 0; d < D; d += LAW_STEP) {
        unsigned raw[LAW_STEP / 2];
#pragma unroll
        for (int i = 0; i < LAW_STEP / 8; i++) {
            const uint4 x = d + i * 8 >= D ? uint4{0, 0, 0, 0} : SHARED ? k[d / 8 + i] : __ldg(k + d / 8 + i);
            raw[i * 4] = x.x, raw[i * 4 + 1] = x.y, raw[i * 4 + 2] = x.z, raw[i * 4 + 3] = x.w;
        }
#pragma unroll
        for (int i = 0; i < LAW_STEP / 2; i++) {
            unsigned low = raw[i] << 16, high = raw[i] & 0xffff0000u;
            if (HALF) {
                const float2 x = __half22float2(*(const __half2 *)&raw[i]);
                low = __float_as_uint(x.x), high = __float_as_uint(x.y);
            }
            sum = fma(q[d + i * 2], shifted(low), sum);
            sum = fma(q[d + i * 2 + 1], shifted(high), sum);
        }
    }
    return sum;
}
__device__ __forceinline__ const uint4 *key_at(const search &s, int hk, int64_t pos)
{
    return (const uint4 *)((const uint16_t *)s.k + pos * s.stride_key + hk * s.stride_head);
}
__device__ __forceinline__ double law(const search &s, const double *q, int hk, int64_t pos)
{
    const uint4 *k = key_at(s, hk, pos);
    return s.type == F16 ? law_of<true, false>(k, q, s.D) : law_of<false, false>(k, q, s.D);
}
/* Of the first D values of a key that a block has copied; sum: of those before. */
__device__ __forceinline__ double law_here(const search &s, const double *q, const uint4 *k, int D, double sum = 0.0)
{
    return s.type == F16 ? law_of<true, true>(k, q, D, sum) : law_of<false, true>(k, q, D, sum);
}

/* Row r of KV head hk in the caller's arrays, counted in (token, head). */
__device__ __forceinline__ int64_t caller_row(const search &s, int hk, int64_t r)
{
    return r / s.g * s.H + (int64_t)hk * s.g + r % s.g;
}

/* Brings 128 bytes into the L2 cache. */
__device__ __forceinline__ void ask_for(const void *p)
{
    asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
}

/* ------------------------------------------------------------------------------------- candidate lists ------- */

__device__ __forceinline__ float error_of(const row_info &row, const tile_info &tile)
{
    return row.a * tile.a + row.b * tile.b + TINY;
}

/* The least acc that is worth a look when the k-th best score is at least `floor`. */
__device__ __forceinline__ float worth(float floor, float e, const row_info &row, const tile_info &tile)
{
    return (floor - e) * (row.inv * tile.inv);
}
/* The same for integer sums; 4 is more than the rounding of numbers below 2^22. */
__device__ __forceinline__ int worth_int(float x)
{
    return __float2int_rd(fminf(fmaxf(x, -1e9f), 1e9f)) - 4;
}

/* Of the keys of a candidate in the last tile, those that are there. */
__device__ __forceinline__ unsigned keys_there(int at, int64_t M)
{
    const int left = (int)(M - (int64_t)(at / COLUMNS) * TILE) - at % COLUMNS;
    return left <= 0 ? 0 : left >= TILE ? 0xffff : (1u << (left + COLUMNS - 1) / COLUMNS) - 1;
}

/* Puts lo, a score that is surely reached, in place of the least of the k best such; returns the new least. */
__device__ __forceinline__ float raise_floor(float *best, int top_k, float lo)
{
    float least = best[0], second = INFINITY;
    int at = 0;
#pragma unroll 1
    for (int i = 1; i < top_k; i++) {
        const float x = best[i];
        second = fminf(second, fmaxf(least, x));
        at = x < least ? i : at;
        least = fminf(least, x);
    }
    if (lo <= least)
        return least;
    best[at] = lo;
    return fminf(second, lo);
}

/* The k-th largest of a warp's N numbers a lane, which are lost; the k largest to each [k] if it is not NULL. */
template <int N> __device__ __forceinline__ int kth_largest(int (&x)[N], int k, int lane, int *each)
{
    int kth = 0;
#pragma unroll 1
    for (int n = 0; n < k; n++) {
        int mine = x[0];
#pragma unroll
        for (int i = 1; i < N; i++)
            mine = max(mine, x[i]);
        kth = __reduce_max_sync(ALL, mine);
        if (each && lane == 0)
            each[n] = kth;
        bool here = lane == __ffs(__ballot_sync(ALL, mine == kth)) - 1;
#pragma unroll
        for (int i = 0; i < N; i++)
            if (here && x[i] == kth) {
                x[i] = INT32_MIN;
                here = false;
            }
    }
    return kth;
}

/* The k best hits of a warp, one a lane, best first. All lanes call with the same new hit. */
struct warp_top {
    double score;
    int pos;
    __device__ void clear()
    {
        score = -INFINITY;
        pos = -1;
    }
    __device__ void insert(double s, int p, int lane)
    {
        bool better = pos < 0 || s > score || (s == score && p < pos);
        unsigned lanes = __ballot_sync(ALL, better);
        double s_left = __shfl_up_sync(ALL, score, 1);
        int p_left = __shfl_up_sync(ALL, pos, 1);
        int at = __ffs(lanes) - 1;
        if (at < 0)
            return;
        if (lane > at) {
            score = s_left;
            pos = p_left;
        } else if (lane == at) {
            score = s;
            pos = p;
        }
    }
    /* True if a hit could enter a list of k. */
    __device__ bool takes(double s, int p, int top_k) const
    {
        double s_k = __shfl_sync(ALL, score, top_k - 1);
        int p_k = __shfl_sync(ALL, pos, top_k - 1);
        return p_k < 0 || s > s_k || (s == s_k && p < p_k);
    }
    __device__ void write(reattn_hit *out, int top_k, int lane) const
    {
        if (lane < top_k) {
            out[lane].pos = pos;
            out[lane].score = pos < 0 ? -INFINITY : score;
        }
    }
};

/* --------------------------------------------------------------------------------------------- launchers ------- */

/* Calls a scan's launcher for the head size and the type of a search: scan.at<D, KIND>(). */
template <int D, class scan_of> cudaError_t launch_kind(const search &s, const scan_of &scan)
{
    switch (s.kind) {
    case I8:
        return scan.template at<D, I8>();
    case F16:
        return scan.template at<D, F16>();
    default:
        return scan.template at<D, BF16>();
    }
}
template <class scan_of> int launch_scan(const search &s, const scan_of &scan, reattn_error *err)
{
    const cudaError_t code =
        for_head_size(s.D, [&](auto size) { return launch_kind<decltype(size)::value>(s, scan); });
    return failed(code, "scanning the keys", err);
}

/* For n searches; more than one are alike (select.h) and of at most FEW_ROWS rows. */
int launch_prepare(const search *s, int n, cudaStream_t stream, reattn_error *err);
int launch_scan_mma(const search *s, int n, cudaStream_t stream, reattn_error *err);
int launch_scan_wgmma(const search &s, cudaStream_t stream, reattn_error *err);
int launch_decide(const search *s, int n, cudaStream_t stream, reattn_error *err);

/* Into how many parts, each with its own lists, the keys of a KV head are cut; few queries: for so many blocks, of
 * which a device has mma_blocks() at a time. */
int mma_blocks(int SMs);
int mma_warps(int64_t M, int64_t rows, int Hk, int blocks);
int wgmma_splits(int64_t M, int64_t rows, int Hk, int D, int kind, int SMs);

} // namespace reattn_cuda

#endif
