/* limits.cu - see limits.cuh. */
#include "limits.cuh"
#include "plan.h"
#include "scan.cuh"
extern "C" {
#include "attend/rope.h"
}

namespace reattn_cuda
{

constexpr int64_t TOKENS_MAX = INT32_MAX / 2;

int check_context(const reattn__cuda_context_args *a, reattn_error *err)
{
    const reattn_session_params *p = a->params;
    if (a->n_layer < 1 || a->policy < REATTN__CUDA_REATTENTION || a->policy > REATTN__CUDA_GIVEN || a->capacity < 0 ||
        a->capacity > TOKENS_MAX || (a->type != REATTN__CUDA_BF16 && a->type != REATTN__CUDA_F16))
        return reattn__fail(err, REATTN_E_ARG,
                            "a CUDA context of %d layers, policy %d, type %d, %lld tokens: out of range", a->n_layer,
                            a->policy, a->type, (long long)a->capacity);
    for (int i = 0; i < a->n_layer; i++) {
        const reattn__layer *l = &a->layers[i];
        if ((l->D != 64 && l->D != 96 && l->D != 128 && l->D != 256) || l->Dv != l->D || l->Hk < 1 || l->H % l->Hk)
            return reattn__fail(
                err, REATTN_E_UNSUPPORTED,
                "layer %d has %d/%d heads of %d and %d values: the CUDA kernels know heads of 64, 96, 128 "
                "and 256 values, keys and values alike",
                i, l->H, l->Hk, l->D, l->Dv);
        const int code = reattn__rope_check(&l->rope, l->D, err);
        if (code)
            return code;
    }
    if (a->host && a->policy != REATTN__CUDA_REATTENTION && a->policy != REATTN__CUDA_STREAMING)
        return reattn__fail(
            err, REATTN_E_UNSUPPORTED,
            "a policy whose scope grows with the text cannot keep keys and values on the host: set store "
            "auto, or a policy that recalls");
    if (a->policy != REATTN__CUDA_REATTENTION)
        return REATTN_OK;
    if (p->recall_type != REATTN_RECALL_QK)
        return reattn__fail(err, REATTN_E_UNSUPPORTED, "on a GPU recall is by q . k: set recall-type qk");
    if (p->recall_k > TOP_MAX || p->recall_max > REATTN__CUDA_SPANS_MAX)
        return reattn__fail(err, REATTN_E_UNSUPPORTED,
                            "on a GPU recall-k is at most %d and recall-max at most %d, not %lld "
                            "and %lld",
                            (int)TOP_MAX, REATTN__CUDA_SPANS_MAX, (long long)p->recall_k, (long long)p->recall_max);
    return REATTN_OK;
}

/* Of keys that are far, a byte a value is on the device. */
int64_t fill_device(const reattn__cuda_context_args *a)
{
    size_t free_bytes = 0, all = 0, per_token = 0;
    if (cudaMemGetInfo(&free_bytes, &all) != cudaSuccess)
        return 0;
    for (int i = 0; i < a->n_layer; i++)
        per_token += (a->host ? 1 : 4) * (size_t)a->layers[i].Hk * a->layers[i].D;
    const int64_t n = (int64_t)(all / per_token) + 1;
    return n < TOKENS_MAX ? n : TOKENS_MAX;
}

} // namespace reattn_cuda
