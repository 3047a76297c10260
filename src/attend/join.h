/* join.h - joins a row's partial softmax states (o, m, l), in order, into its output.
 *
 * State i has o[i * stride + d * d_step], d < Dv, its highest score m[i * stride] in units of log 2, its sum of weights
 * l[i * stride]. A row that saw nothing has m -infinity everywhere and gets zeros and lse -infinity. */
#ifndef REATTN_JOIN_H
#define REATTN_JOIN_H

#include <math.h>
#include <stdint.h>

#define REATTN__LOG2_E 1.44269504f

static inline void reattn__join_row(const float *o, const float *m, const float *l, int64_t n, int64_t stride,
                                    int64_t d_step, int Dv, float *out, float *lse)
{
    float top = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) top = fmaxf(top, m[i * stride]);
    for (int d = 0; d < Dv; d++) out[d] = 0;
    for (int64_t i = 0; i < n && top > -INFINITY; i++) {
        float weight = exp2f(m[i * stride] - top);
        sum += weight * l[i * stride];
        for (int d = 0; d < Dv; d++) out[d] += weight * o[i * stride + d * d_step];
    }
    for (int d = 0; d < Dv && sum > 0; d++) out[d] /= sum;
    if (lse) *lse = sum > 0 ? (top + log2f(sum)) / REATTN__LOG2_E : -INFINITY;
}

#endif
