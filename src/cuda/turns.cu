/* turns.cu - a table of rotations in device memory. See turns.h.
 *
 * The device makes it: a method may change the rotations of a long text at every step, and the host would take
 * longer for all positions' cosines than for the step. The angles have the bits of reattn__rope_angles, operation by
 * operation, none of them fused; cosines and sines are the device's, which differ in the last place. */
#include <stdlib.h>
#include <string.h>

#include "scan.cuh"
#include "turns.h"
extern "C" {
#include "attend/rope.h"
}

using namespace reattn_cuda;

namespace
{

enum { PAIRS_MAX = 128, ANGLE_THREADS = 256 };

struct angles {
    reattn__rope_pace pace;
    float freq_scale, ext_factor;
    int half, pairs, has_factors;
    int64_t from, until; /* positions */
    float *cs;
    float factors[PAIRS_MAX];
};

/* A thread takes a pair of a position. */
__global__ void angles_kernel(const __grid_constant__ angles a)
{
    const int64_t at = (int64_t)blockIdx.x * ANGLE_THREADS + threadIdx.x, pos = a.from + at / a.half;
    const int pair = (int)(at % a.half);
    if (pos >= a.until)
        return;
    float cosine = 1, sine = 0;
    if (pair < a.pairs) {
        float theta = (float)pos;
        for (int i = 0; i < pair; i++)
            theta = __fmul_rn(theta, a.pace.step);
        const float extrapolated = a.has_factors ? __fdiv_rn(theta, a.factors[pair]) : theta;
        float angle = __fmul_rn(a.freq_scale, extrapolated);
        if (a.ext_factor != 0) {
            const float width = fmaxf(0.001f, __fsub_rn(a.pace.high, a.pace.low));
            const float y = __fdiv_rn(__fsub_rn((float)pair, a.pace.low), width);
            const float mix = __fmul_rn(__fsub_rn(1.0f, fminf(1.0f, fmaxf(0.0f, y))), a.ext_factor);
            angle = __fadd_rn(__fmul_rn(angle, __fsub_rn(1.0f, mix)), __fmul_rn(extrapolated, mix));
        }
        sincosf(angle, &sine, &cosine);
        cosine = __fmul_rn(cosine, a.pace.magnitude);
        sine = __fmul_rn(sine, a.pace.magnitude);
    }
    float *row = a.cs + pos * 2 * a.half;
    row[pair] = cosine;
    row[a.half + pair] = sine;
}

cudaError_t make(const reattn__cuda_turns *t, int64_t until, cudaStream_t stream)
{
    angles a = {};
    a.pace = reattn__rope_pace_of(&t->rope);
    a.freq_scale = t->rope.freq_scale, a.ext_factor = t->rope.ext_factor;
    a.half = t->D / 2, a.pairs = t->rope.n_rot / 2, a.has_factors = t->factors != NULL;
    a.from = t->n_pos, a.until = until, a.cs = t->cs;
    if (t->factors)
        memcpy(a.factors, t->factors, sizeof(float) * (size_t)a.pairs);
    const int64_t threads = (until - t->n_pos) * a.half;
    angles_kernel<<<(unsigned)((threads + ANGLE_THREADS - 1) / ANGLE_THREADS), ANGLE_THREADS, 0, stream>>>(a);
    return cudaGetLastError();
}

} // namespace

extern "C" int reattn__cuda_turns_open(reattn__cuda_turns *t, const reattn_rope *rope, int D, reattn_error *err)
{
    *t = reattn__cuda_turns{};
    return reattn__cuda_turns_use(t, rope, D, err);
}

extern "C" void reattn__cuda_turns_close(reattn__cuda_turns *t)
{
    cudaFree(t->cs);
    free(t->factors);
    *t = reattn__cuda_turns{};
}

extern "C" bool reattn__cuda_turns_serve(const reattn__cuda_turns *t, const reattn_rope *rope, int D)
{
    return t->D == D && reattn__rope_same(&t->rope, rope);
}

extern "C" int reattn__cuda_turns_use(reattn__cuda_turns *t, const reattn_rope *rope, int D, reattn_error *err)
{
    if (reattn__cuda_turns_serve(t, rope, D))
        return REATTN_OK;
    const size_t bytes = sizeof(float) * (size_t)(rope->n_rot / 2);
    float *factors = rope->freq_factors ? (float *)malloc(bytes + 1) : NULL;
    if (rope->freq_factors && !factors)
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    if (factors)
        memcpy(factors, rope->freq_factors, bytes);
    free(t->factors);
    t->rope = *rope;
    t->rope.freq_factors = t->factors = factors;
    if (t->D != D)
        t->room = t->D > 0 ? t->room * t->D / D : 0;
    t->D = D;
    t->n_pos = 0;
    return REATTN_OK;
}

extern "C" int reattn__cuda_turns_need(reattn__cuda_turns *t, int64_t n_pos, void *on, reattn_error *err)
{
    cudaStream_t stream = (cudaStream_t)on;
    if (n_pos <= t->n_pos)
        return REATTN_OK;
    const int64_t want = n_pos > t->n_pos + t->n_pos / 2 ? n_pos : t->n_pos + t->n_pos / 2;
    const size_t row = sizeof(float) * t->D;
    cudaError_t code = cudaSuccess;
    if (want > t->room) {
        const int64_t room = want > t->room + t->room / 2 ? want : t->room + t->room / 2;
        float *cs = NULL;
        code = cudaMalloc((void **)&cs, row * (size_t)room);
        if (code == cudaSuccess && t->n_pos)
            code = cudaMemcpyAsync(cs, t->cs, row * (size_t)t->n_pos, cudaMemcpyDeviceToDevice, stream);
        if (code == cudaSuccess)
            code = cudaStreamSynchronize(stream); /* kernels may still use the old one */
        if (code != cudaSuccess) {
            cudaFree(cs);
            return failed(code, "making rotations", err);
        }
        cudaFree(t->cs);
        t->cs = cs;
        t->room = room;
    }
    code = make(t, want, stream);
    if (code == cudaSuccess)
        t->n_pos = want;
    return failed(code, "making rotations", err);
}
