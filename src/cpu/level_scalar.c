/* level_scalar.c - the kernels in plain loops: no vectors, no order but the obvious one. It is what the other levels
 * are tested against, and what runs where the compiler knows no vectors. */
#include <math.h>

#include "half.h"
#include "kernels.h"

enum { LANES = 8 };

static void scan_scalar(const float *qt, const float *k, int n_key, int D, const float *thr, reattn__hit_fn hit,
                        void *ctx)
{
    for (int key = 0; key < n_key; key++) {
        float scores[LANES];
        int over = 0;
        for (int r = 0; r < LANES; r++) {
            float s = 0;
            for (int d = 0; d < D; d++) s += k[(int64_t)key * D + d] * qt[(int64_t)d * LANES + r];
            scores[r] = s;
            over |= s >= thr[r];
        }
        if (over) hit(ctx, key, 1, scores);
    }
}

static void attend_scalar(const reattn__tile *t)
{
    for (int r = 0; r < LANES; r++) {
        int lo = t->lo ? t->lo[r] : 0, hi = t->lo ? t->hi[r] : t->n_key;
        float top = t->m[r], sum = 0;
        if (lo < 0) lo = 0;
        if (hi > t->n_key) hi = t->n_key;
        if (lo >= hi) continue;
        for (int key = lo; key < hi; key++) {
            float s = 0;
            for (int d = 0; d < t->D; d++) s += t->k[(int64_t)key * t->D + d] * t->qt[(int64_t)d * LANES + r];
            t->p[(int64_t)key * LANES + r] = s;
            if (s > top) top = s;
        }
        float alpha = exp2f(t->m[r] - top);
        for (int dv = 0; dv < t->Dv; dv++) t->o[(int64_t)dv * LANES + r] *= alpha;
        for (int key = lo; key < hi; key++) {
            float p = exp2f(t->p[(int64_t)key * LANES + r] - top);
            sum += p;
            for (int dv = 0; dv < t->Dv; dv++) t->o[(int64_t)dv * LANES + r] += p * t->v[(int64_t)key * t->Dv + dv];
        }
        t->l[r] = t->l[r] * alpha + sum;
        t->m[r] = top;
    }
}

static void f16_to_f32_scalar(const uint16_t *src, float *dst, int64_t n)
{
    for (int64_t i = 0; i < n; i++) dst[i] = reattn__half_to_float(src[i]);
}

static void f32_to_f16_scalar(const float *src, uint16_t *dst, int64_t n)
{
    for (int64_t i = 0; i < n; i++) dst[i] = reattn__float_to_half(src[i]);
}

const reattn__kernels reattn__kernels_scalar = {
    .name = "scalar",
    .lanes = LANES,
    .f16_to_f32 = f16_to_f32_scalar,
    .f32_to_f16 = f32_to_f16_scalar,
    .scan = scan_scalar,
    .attend = attend_scalar,
};
