/* attend.cuh - what the kernels of attention share: scopes, pairs, partial states. */
#ifndef REATTN_CUDA_ATTEND_CUH
#define REATTN_CUDA_ATTEND_CUH

#include "attend.h"
#include "runs_layout.h"
#include "scan.cuh"

namespace reattn_cuda
{

constexpr float LOG2_E = 1.44269504f;

/* A launch as the kernels see it. Partial states of a row (query, head): o [splits][T * H][D] sums of weighted values,
 * ml [splits][T * H] highest score in units of log 2, and sum of weights; m -infinity where nothing was seen. */
struct attention {
    const float *q, *cs;
    const uint16_t *k, *v;
    const int32_t *tokens, *count;
    int64_t room, head, skip, most, ring, T, n, rows; /* rows = T * H */
    int64_t held;                                     /* rows that k and v have */
    int early;                 /* last tokens that a single query attends to before the lists are there */
    const reattn_span *likely; /* of the scope, as in attend.h; or NULL */
    const int32_t *n_likely;
    int64_t likely_room;
    int type, H, Hk, g, D, lists, alike, original, neox, n_rot, splits;
    float scale;
    float *o;
    float2 *ml;
    float *out, *lse;
    int64_t out_stride_token, out_stride_head;
    uint16_t *q_turned, *k_turned; /* many queries: [Hk][T * g][D], [Hk][most][D] */
    float *q_scale;                /* [Hk][T * g] what a row's scores are to be multiplied with */
    bool wgmma;                    /* many queries take the kernels of sm_90 */
    int among;                     /* as in attend.h */
    /* Of a plan's runs (runs.cu): a KV head's table of rotations, instead of cs, if lists > 1; and for one query the
     * positions of the scope's keys, and which of them each split takes. */
    const float *const *cs_of;
    const int32_t *positions;     /* as tokens */
    const reattn__cuda_cut *cuts; /* [lists][splits] */
};

__device__ __forceinline__ int scope_count(const attention &a, int hk)
{
    return a.count ? a.count[a.lists > 1 ? hk : 0] : (int)a.most;
}
__device__ __forceinline__ int scope_token(const attention &a, int hk, int i)
{
    if (a.tokens)
        return a.tokens[(a.lists > 1 ? hk : 0) * a.room + i];
    return i < a.head ? i : i + (int)a.skip;
}
__device__ __forceinline__ const float *rotations(const attention &a, int hk)
{
    return a.cs_of ? a.cs_of[hk] : a.cs;
}
__device__ __forceinline__ int key_position(const attention &a, int hk, int i)
{
    return a.positions ? a.positions[(a.lists > 1 ? hk : 0) * a.room + i] : scope_token(a, hk, i);
}
/* Position of query t. */
__device__ __forceinline__ int64_t query_position(const attention &a, int count, int64_t t)
{
    return (a.original ? a.n : count) - a.T + t;
}

/* The first value of pair p, and how far the second is from it. */
__device__ __forceinline__ int pair_first(const attention &a, int p)
{
    if (!a.neox)
        return 2 * p;
    return p < a.n_rot / 2 ? p : a.n_rot / 2 + p;
}
__device__ __forceinline__ int pair_step(const attention &a, int p)
{
    if (!a.neox)
        return 1;
    return p < a.n_rot / 2 ? a.n_rot / 2 : (a.D - a.n_rot) / 2;
}

/* 16 bits as f32, and back. */
template <int KIND> __device__ __forceinline__ float widen(uint16_t x)
{
    return KIND == F16 ? __half2float(__ushort_as_half(x)) : __uint_as_float((uint32_t)x << 16);
}
template <int KIND> __device__ __forceinline__ uint16_t narrow(float x)
{
    if (KIND == F16)
        return __half_as_ushort(__float2half_rn(fminf(fmaxf(x, -65504.0f), 65504.0f)));
    return __bfloat16_as_ushort(__float2bfloat16_rn(x));
}

__device__ __forceinline__ uint32_t pack16(uint16_t lo, uint16_t hi)
{
    return lo | (uint32_t)hi << 16;
}

/* Pairs are taken eight at a time: 16 bytes of the first values and 16 of the second (neox), or 32 bytes in a row. */
__device__ __forceinline__ bool pairs_aligned(const attention &a)
{
    return !a.neox || (a.n_rot / 2 % 8 == 0 && (a.D - a.n_rot) / 2 % 8 == 0);
}
template <int KIND>
__device__ __forceinline__ void unpack(const uint4 &x, const uint4 &y, bool neox, float (&a)[8], float (&b)[8])
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

/* 2^x, with 0 for what underflows. */
__device__ __forceinline__ float power_of_2(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ void copy16(uint32_t to, const void *from, bool there)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(there ? 16 : 0) : "memory");
}
__device__ __forceinline__ void copies_close()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int N> __device__ __forceinline__ void copies_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}
__device__ __forceinline__ uint32_t address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* Joins the splits' partial states; of n sessions that are alike. */
cudaError_t launch_join(const attention *a, int n, cudaStream_t stream);
/* One query each of n sessions. */
cudaError_t launch_few(const attention *a, int n, cudaStream_t stream);
/* Many queries: keys and queries rotated into scratch; then one of the two, of which the second is for sm_90 and writes
 * the output itself where there is one split. */
cudaError_t launch_turn(const attention &a, cudaStream_t stream);
cudaError_t launch_many(const attention &a, cudaStream_t stream);
cudaError_t launch_many_wgmma(const attention &a, cudaStream_t stream);
/* Of how many blocks a row's scope becomes the work. A plan has multiprocessors of its own while it is being made. */
int few_splits(const attention &a, int SMs);
int many_splits(const attention &a, int SMs);
int wgmma_attend_splits(const attention &a, int SMs);

enum { SPLITS_MAX = 1024 };

/* Whether the device and the code for it have wgmma. (Code that waits for its predecessor is for sm_90, too.) */
static inline cudaError_t know_wgmma(int device, bool *there)
{
    int major = 0;
    const cudaError_t code = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    *there = major == 9 && launches_overlap();
    return code;
}

} // namespace reattn_cuda

#endif
