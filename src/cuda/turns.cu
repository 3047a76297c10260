/* turns.cu - a table of rotations in device memory. See turns.h. */
#include <stdlib.h>
#include <string.h>

#include "scan.cuh"
#include "turns.h"
extern "C" {
#include "attend/rope.h"
}

using namespace reattn_cuda;

extern "C" int reattn__cuda_turns_open(reattn__cuda_turns *t, const reattn_rope *rope, int D, reattn_error *err)
{
    *t = reattn__cuda_turns{*rope, D, NULL, NULL, 0};
    if (!rope->freq_factors)
        return REATTN_OK;
    const size_t bytes = sizeof(float) * (size_t)(rope->n_rot / 2);
    t->rope.freq_factors = t->factors = (float *)malloc(bytes + 1);
    if (!t->factors)
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    memcpy(t->factors, rope->freq_factors, bytes);
    return REATTN_OK;
}

extern "C" void reattn__cuda_turns_close(reattn__cuda_turns *t)
{
    cudaFree(t->cs);
    free(t->factors);
    *t = reattn__cuda_turns{};
}

extern "C" bool reattn__cuda_turns_serve(const reattn__cuda_turns *t, const reattn_rope *rope, int D)
{
    const reattn_rope *a = &t->rope, *b = rope;
    if (t->D != D || a->kind != b->kind || a->n_rot != b->n_rot || !a->freq_factors != !b->freq_factors)
        return false;
    if (a->freq_factors && memcmp(a->freq_factors, b->freq_factors, sizeof(float) * (size_t)(b->n_rot / 2)) != 0)
        return false;
    return a->n_ctx_orig == b->n_ctx_orig && a->freq_base == b->freq_base && a->freq_scale == b->freq_scale &&
           a->ext_factor == b->ext_factor && a->attn_factor == b->attn_factor && a->beta_fast == b->beta_fast &&
           a->beta_slow == b->beta_slow;
}

extern "C" int reattn__cuda_turns_need(reattn__cuda_turns *t, int64_t n_pos, void *on, reattn_error *err)
{
    cudaStream_t stream = (cudaStream_t)on;
    if (n_pos <= t->n_pos)
        return REATTN_OK;
    const int64_t want = n_pos > t->n_pos + t->n_pos / 2 ? n_pos : t->n_pos + t->n_pos / 2;
    const int half = t->D / 2, pairs = t->rope.n_rot / 2;
    const size_t row = sizeof(float) * t->D, bytes = row * (size_t)(want - t->n_pos);
    float *rows = (float *)malloc(bytes), angles[512], *cs = NULL;
    if (!rows)
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory: rotations of %lld positions", (long long)want);
    for (int64_t pos = t->n_pos; pos < want; pos++) {
        float *out = rows + (pos - t->n_pos) * t->D;
        reattn__rope_angles(&t->rope, pos, angles);
        for (int p = 0; p < half; p++) {
            out[p] = p < pairs ? angles[p] : 1.0f;
            out[half + p] = p < pairs ? angles[pairs + p] : 0.0f;
        }
    }
    cudaError_t code = cudaMalloc((void **)&cs, row * (size_t)want);
    if (code == cudaSuccess && t->n_pos)
        code = cudaMemcpyAsync(cs, t->cs, row * (size_t)t->n_pos, cudaMemcpyDeviceToDevice, stream);
    if (code == cudaSuccess)
        code = cudaMemcpyAsync(cs + t->n_pos * t->D, rows, bytes, cudaMemcpyHostToDevice, stream);
    if (code == cudaSuccess)
        code = cudaStreamSynchronize(stream);
    free(rows);
    if (code != cudaSuccess) {
        cudaFree(cs);
        return failed(code, "making rotations", err);
    }
    cudaFree(t->cs);
    t->cs = cs;
    t->n_pos = want;
    return REATTN_OK;
}
