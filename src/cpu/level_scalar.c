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

static void mass_any(const reattn__mass_tile *t, layout q, int key_step, int row_step)
{
    for (int r = 0; r < q.rows; r++) {
        for (int key = t->lo[r]; key < t->hi[r]; key++) {
            float s = 0;
            const float *row = t->q + r * q.r_step;
            for (int d = 0; d < t->D; d++) s += t->k[(int64_t)d * REATTN__TILE + key] * row[d * q.d_step];
            t->sum[key * key_step + r * row_step] += exp2f(s - t->lse[r]);
        }
    }
}

static void mass_scalar(const reattn__mass_tile *t)
{
    mass_any(t, (layout){LANES, LANES, 1}, LANES, 1);
}

static void mass_few_scalar(const reattn__mass_tile *t)
{
    mass_any(t, (layout){t->n_row, 1, t->D}, 1, REATTN__TILE);
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

/* Value d of key i of a block's planes (kv/split.h says where it lies). */
static int high_of(const uint8_t *high, int d, int i) { return high[(d / 4 * 16 + i) * 4 + d % 4] - 128; }
static int low_of(const uint8_t *low, int d, int i)
{
    int row = d % 32 / 4, value = 0;
    const uint8_t *at = low + ((size_t)(d / 32 * 7 * 16 + i) * 4 + (size_t)(d % 4));
    if (row < 7) return (at[row * 64] & 0x7f) - 64;
    for (int j = 0; j < 7; j++) value |= (at[j * 64] >> 7) << j;
    return value - 64;
}

static void scan8_scalar(const reattn__scan8 *s)
{
    for (int b = 0; b < s->n_block; b++) {
        const uint8_t *high = s->high + (size_t)b * (size_t)s->Dp * 16;
        for (int r = 0; r < s->n_row; r++) {
            const int8_t *q = s->q + (size_t)r * 2 * (size_t)s->Dp;
            unsigned keys = 0;
            for (int i = 0; i < 16; i++) {
                int32_t dot = s->allow[r];
                for (int d = 0; d < s->Dp; d++)
                    dot += high_of(high, d, i) * (s->planes == 2 ? q[d] * 128 + q[s->Dp + d] : q[d]);
                float scale = reattn__bf16_to_float(s->scale[b * 16 + i]);
                if ((float)dot * scale >= s->thr[r]) keys |= 1u << i;
            }
            if (keys) s->hit(s->ctx, b, r, keys);
        }
    }
}

static void dot15_scalar(const uint8_t *high, const uint8_t *low, int Dp, const int8_t *q, const int32_t *sum,
                         float out[16])
{
    (void)sum;
    for (int i = 0; i < 16; i++) {
        int64_t dot = 0;
        for (int d = 0; d < Dp; d++)
            dot += (int64_t)(high_of(high, d, i) * 128 + low_of(low, d, i)) * (q[d] * 128 + q[Dp + d]);
        out[i] = (float)dot;
    }
}

static void split_block_scalar(const uint8_t *high, const uint8_t *low, const uint16_t *scale, const float *mean, int D,
                               float *out, int64_t stride)
{
    for (int d = 0; d < D; d++)
        for (int i = 0; i < 16; i++)
            out[d * stride + i] = (mean ? mean[d] : 0) +
                                  reattn__bf16_to_float(scale[i]) * (float)(high_of(high, d, i) * 128 + low_of(low, d, i));
}

static void turn_row_scalar(const float *q, const float *cos, const float *sin, int n_pair, int Dh, float factor,
                            int16_t *out)
{
    for (int i = 0; i < n_pair; i++) {
        out[i] = (int16_t)rintf((q[i] * cos[i] - q[n_pair + i] * sin[i]) * factor);
        out[n_pair + i] = (int16_t)rintf((q[i] * sin[i] + q[n_pair + i] * cos[i]) * factor);
    }
    for (int d = 2 * n_pair; d < 2 * Dh; d++) out[d] = (int16_t)rintf(q[d] * factor);
}

static void pack_block_scalar(const float *k, int D, int n_pair, int step, int apart, int16_t *out, float *scale)
{
    for (int i = 0; i < 16; i++) {
        float square = 0, top = 0;
        for (int d = 0; d < D; d++) {
            float x = k[d * REATTN__TILE + i];
            square += x * x;
            top = fmaxf(top, fabsf(x));
        }
        scale[i] = fmaxf(sqrtf(square) / REATTN__KEY16, top / 32767.0f);
        for (int d = 0; d < D + D % 2; d++) {
            int pair = d < n_pair ? d : d - n_pair;
            int from = d < n_pair ? pair * step : d < 2 * n_pair ? pair * step + apart : d;
            float x = d < D && scale[i] > 1e-30f ? k[from * REATTN__TILE + i] / scale[i] : 0;
            out[(d / 2 * 16 + i) * 2 + d % 2] = (int16_t)rintf(x);
        }
    }
}

static void attend_row16_scalar(const reattn__tile16 *t)
{
    for (int r = 0; r < t->n_row; r++) {
        float *p = t->p, top = t->m[r], sum = 0, *o = t->o + r * t->Dv;
        if (t->lo[r] >= t->hi[r]) continue;
        for (int i = t->lo[r]; i < t->hi[r]; i++) {
            int32_t dot = 0;
            for (int d = 0; d < 2 * t->Dh; d++)
                dot += t->k[i / 16][(d / 2 * 16 + i % 16) * 2 + d % 2] * t->q[r * 2 * t->Dh + d];
            p[i] = (float)dot * t->k_scale[i / 16][i % 16] * t->q_scale[r];
            top = fmaxf(top, p[i]);
        }
        float alpha = exp2f(t->m[r] - top);
        for (int d = 0; d < t->Dv; d++) o[d] *= alpha;
        for (int i = t->lo[r]; i < t->hi[r]; i++) {
            float weight = exp2f(p[i] - top);
            sum += weight;
            for (int d = 0; d < t->Dv; d++) o[d] += weight * reattn__half_to_float(t->v[(int64_t)i * t->Dv + d]);
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
    .f16_block = f16_block_scalar,
    .rope = rope_scalar,
    .scan = scan_scalar,
    .scan_few = scan_few_scalar,
    .attend = attend_scalar,
    .attend_few = attend_few_scalar,
    .mass = mass_scalar,
    .mass_few = mass_few_scalar,
    .scan8 = scan8_scalar,
    .dot15 = dot15_scalar,
    .split_block = split_block_scalar,
    .turn_row = turn_row_scalar,
    .pack_block = pack_block_scalar,
    .attend_row16 = attend_row16_scalar,
};
