/* merge.c - joins partial softmax states (o, lse) over disjoint keys. */
#include <math.h>

#include "base/base.h"
#include "reattn/ops.h"

int reattn_merge(float *o_a, float *lse_a, const float *o_b, const float *lse_b, int64_t rows, int Dv,
                 reattn_error *err)
{
    if (rows < 0 || Dv < 1 || (rows > 0 && (!o_a || !lse_a || !o_b || !lse_b)))
        return reattn__fail(err, REATTN_E_ARG, "reattn_merge: rows %lld, Dv %d", (long long)rows, Dv);
    for (int64_t i = 0; i < rows; i++) {
        float top = fmaxf(lse_a[i], lse_b[i]);
        if (top == -INFINITY) continue; /* both empty: a stays as it is */
        float wa = expf(lse_a[i] - top), wb = expf(lse_b[i] - top), sum = wa + wb;
        for (int d = 0; d < Dv; d++) o_a[i * Dv + d] = (wa * o_a[i * Dv + d] + wb * o_b[i * Dv + d]) / sum;
        lse_a[i] = top + logf(sum);
    }
    return REATTN_OK;
}
