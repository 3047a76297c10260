/* level_scalar.c - the kernels in plain loops: no vectors, no order but the obvious one. It is what the other levels
 * are tested against, and what runs where the compiler knows no vectors. */
#include <math.h>

#include "half.h"
#include "kernels.h"

enum { LANES = 8 };

/* Where value d of row r lies: with `lanes` rows side by side, or rows of D. */
typedef struct layout {
    int rows, d_step, r_step;
} layout;

static void scan_any(const float *q, layout at, const float *k, int n_key, int D, const float *thr, reattn__hit_fn hit,
                     void *ctx)
{
    for (int key = 0; key < n_key; key++) {
        float scores[LANES];
        int over = 0;
        for (int r = 0; r < at.rows; r++) {
            float s = 0;
            for (int d = 0; d < D; d++) s += k[(int64_t)d * REATTN__TILE + key] * q[d * at.d_step + r * at.r_step];
            scores[r] = s;
            over |= s >= thr[r];
        }
        if (over) hit(ctx, key, 1, at.rows, scores, 0, 1);
    }
}

static void scan_scalar(const float *qt, const float *k, int n_key, int D, const float *thr, reattn__hit_fn hit,
                        void *ctx)
{
    scan_any(qt, (layout){LANES, LANES, 1}, k, n_key, D, thr, hit, ctx);
}

static void scan_few_scalar(const float *q, int n_row, const float *k, int n_key, int D, const float *thr,
                            reattn__hit_fn hit, void *ctx)
{
    scan_any(q, (layout){n_row, 1, D}, k, n_key, D, thr, hit, ctx);
}

static void attend_any(const reattn__tile *t, layout q, layout o)
{
    for (int r = 0; r < q.rows; r++) {
        int lo = t->lo ? t->lo[r] : 0, hi = t->lo ? t->hi[r] : t->n_key;
        float top = t->m[r], sum = 0, *out = t->o + r * o.r_step;
        if (lo >= hi) continue;
        for (int key = lo; key < hi; key++) {
            float s = 0;
            for (int d = 0; d < t->D; d++) s += t->k[(int64_t)d * REATTN__TILE + key] * t->q[d * q.d_step + r * q.r_step];
            t->p[key] = s;
            if (s > top) top = s;
        }
        float alpha = exp2f(t->m[r] - top);
        for (int dv = 0; dv < t->Dv; dv++) out[dv * o.d_step] *= alpha;
        for (int key = lo; key < hi; key++) {
            float p = exp2f(t->p[key] - top);
            sum += p;
            for (int dv = 0; dv < t->Dv; dv++) out[dv * o.d_step] += p * t->v[(int64_t)key * t->Dv + dv];
        }
        t->l[r] = t->l[r] * alpha + sum;
        t->m[r] = top;
    }
}

static void attend_scalar(const reattn__tile *t)
{
    attend_any(t, (layout){LANES, LANES, 1}, (layout){LANES, LANES, 1});
}

static void attend_few_scalar(const reattn__tile *t)
{
    attend_any(t, (layout){t->n_row, 1, t->D}, (layout){t->n_row, 1, t->Dv});
}

static void rope_scalar(float *k, int n, int n_pair, int step, int apart, const float *cos, const float *sin,
                        int64_t cs_stride)
{
    for (int pair = 0; pair < n_pair; pair++) {
        for (int i = 0; i < n; i++) {
            float *a = k + (int64_t)pair * step * REATTN__TILE + i, *b = a + (int64_t)apart * REATTN__TILE;
            float c = cos[pair * cs_stride + i], s = sin[pair * cs_stride + i], u = *a, w = *b;
            *a = u * c - w * s;
            *b = u * s + w * c;
        }
    }
}

static void f16_block_scalar(const uint16_t *block, int D, float *out, int64_t stride)
{
    for (int d = 0; d < D; d++)
        for (int i = 0; i < 16; i++) out[d * stride + i] = reattn__half_to_float(block[d * 16 + i]);
}

/* Key i of a store's blocks, as column 0 of a tile. */
static void block_key(const uint16_t *k, int D, int i, float *out)
{
    for (int d = 0; d < D; d++)
        out[d * REATTN__TILE] = reattn__half_to_float(k[((int64_t)(i / 16) * D + d) * 16 + i % 16]);
}

static void scan_f16_scalar(const float *q, int n_row, const uint16_t *block, int n_block, int D, const float *thr,
                            reattn__hit_fn hit, void *ctx)
{
    for (int i = 0; i < 16 * n_block; i++) {
        float key[512 * REATTN__TILE], scores[REATTN__FEW];
        int over = 0;
        block_key(block, D, i, key);
        for (int r = 0; r < n_row; r++) {
            scores[r] = 0;
            for (int d = 0; d < D; d++) scores[r] += key[d * REATTN__TILE] * q[r * D + d];
            over |= scores[r] >= thr[r];
        }
        if (over) hit(ctx, i, 1, n_row, scores, 0, 1);
    }
}

static void attend_f16_scalar(const reattn__stream *t)
{
    float key[512 * REATTN__TILE], value[512];
    for (int i = 0; i < 16 * t->n_block; i++) {
        block_key(t->k, t->D, i, key);
        rope_scalar(key, 1, t->n_pair, t->step, t->apart, t->cos + i, t->sin + i, t->cs_stride);
        for (int d = 0; d < t->Dv; d++) value[d] = reattn__half_to_float(t->v[(int64_t)i * t->Dv + d]);
        for (int r = 0; r < t->n_row; r++) {
            if (i < t->lo[r] || i >= t->hi[r]) continue;
            reattn__tile one = {.q = t->q + r * t->D, .k = key, .v = value, .n_key = 1, .n_row = 1, .D = t->D, .Dv = t->Dv,
                                .o = t->o + r * t->Dv, .m = t->m + r, .l = t->l + r, .p = t->p};
            attend_few_scalar(&one);
        }
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
    .f16_block = f16_block_scalar,
    .rope = rope_scalar,
    .scan = scan_scalar,
    .scan_few = scan_few_scalar,
    .attend = attend_scalar,
    .attend_few = attend_few_scalar,
    .scan_f16 = scan_f16_scalar,
    .attend_f16 = attend_f16_scalar,
};
