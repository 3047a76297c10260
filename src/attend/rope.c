/* rope.c - rotary position embedding, with the arithmetic of ggml's CPU backend. See rope.h. */
#include "rope.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifndef M_PI
#define M_PI 3.14159265358979323846
#endif

int reattn__rope_check(const reattn_rope *rope, int D, reattn_error *err)
{
    if (!rope || rope->n_rot < 0 || rope->n_rot > D || rope->n_rot % 2 || !(rope->freq_base > 0) ||
        (rope->kind != REATTN_ROPE_NORMAL && rope->kind != REATTN_ROPE_NEOX))
        return reattn__fail(err, REATTN_E_ARG, "rope: n_rot must be even and at most the head size (%d), freq_base > 0",
                            D);
    return REATTN_OK;
}

bool reattn__rope_same(const reattn_rope *a, const reattn_rope *b)
{
    if (a->kind != b->kind || a->n_rot != b->n_rot || a->n_ctx_orig != b->n_ctx_orig || a->freq_base != b->freq_base ||
        a->freq_scale != b->freq_scale || a->ext_factor != b->ext_factor || a->attn_factor != b->attn_factor ||
        a->beta_fast != b->beta_fast || a->beta_slow != b->beta_slow || !a->freq_factors != !b->freq_factors)
        return false;
    return !a->freq_factors || memcmp(a->freq_factors, b->freq_factors, (size_t)a->n_rot / 2 * sizeof(float)) == 0;
}

/* Dimension at which a full context holds `turns` rotations (YaRN). */
static float yarn_dim(const reattn_rope *r, float turns)
{
    return (float)r->n_rot * logf((float)r->n_ctx_orig / (turns * 2 * (float)M_PI)) / (2 * logf(r->freq_base));
}

reattn__rope_pace reattn__rope_pace_of(const reattn_rope *r)
{
    reattn__rope_pace pace = {.step = powf(r->freq_base, -2.0f / (float)r->n_rot), .magnitude = r->attn_factor};
    if (r->ext_factor != 0) {
        pace.low = fmaxf(0, floorf(yarn_dim(r, r->beta_fast)));
        pace.high = fminf((float)(r->n_rot - 1), ceilf(yarn_dim(r, r->beta_slow)));
        pace.magnitude *= 1.0f + 0.1f * logf(1.0f / r->freq_scale);
    }
    return pace;
}

void reattn__rope_angles(const reattn_rope *r, int64_t pos, float *cs)
{
    const reattn__rope_pace pace = reattn__rope_pace_of(r);
    float theta = (float)pos;
    for (int pair = 0; pair < r->n_rot / 2; pair++) {
        float extrapolated = theta / (r->freq_factors ? r->freq_factors[pair] : 1.0f);
        float angle = r->freq_scale * extrapolated;
        if (r->ext_factor != 0) {
            float y = ((float)pair - pace.low) / fmaxf(0.001f, pace.high - pace.low);
            float mix = (1 - fminf(1, fmaxf(0, y))) * r->ext_factor;
            angle = angle * (1 - mix) + extrapolated * mix;
        }
        cs[pair] = cosf(angle) * pace.magnitude;
        cs[r->n_rot / 2 + pair] = sinf(angle) * pace.magnitude;
        theta *= pace.step;
    }
}

int reattn__rope_table_need(reattn__rope_table *t, int64_t n_pos, reattn_error *err)
{
    if (n_pos <= t->n_pos) return REATTN_OK;
    int64_t want = REATTN__MAX(n_pos, t->n_pos + t->n_pos / 2), pairs = t->rope.n_rot / 2;
    float *cs = reattn__alloc((size_t)(4 * pairs * want) * sizeof *cs);
    if (!cs) return reattn__fail(err, REATTN_E_NOMEM, "out of memory: rotations of %lld positions", (long long)want);
    if (t->n_pos) memcpy(cs, t->cs, (size_t)(t->n_pos * 2 * pairs) * sizeof *cs);
    for (int64_t pos = t->n_pos; pos < want; pos++) reattn__rope_angles(&t->rope, pos, cs + pos * 2 * pairs);
    reattn__free(t->cs);
    float *cos = cs + 2 * pairs * want, *sin = cos + pairs * want;
    for (int64_t pair = 0; pair < pairs; pair++) {
        for (int64_t pos = 0; pos < want; pos++) {
            cos[pair * want + pos] = cs[pos * 2 * pairs + pair];
            sin[pair * want + pos] = cs[pos * 2 * pairs + pairs + pair];
        }
    }
    *t = (reattn__rope_table){t->rope, cs, cos, sin, want};
    return REATTN_OK;
}

uint64_t reattn__rope_table_bytes(const reattn_rope *rope, int64_t n_pos)
{
    return (uint64_t)(n_pos + n_pos / 2) * (uint64_t)(rope->n_rot / 2) * 4 * sizeof(float);
}

void reattn__rope_table_free(reattn__rope_table *t)
{
    reattn__free(t->cs);
    t->cs = t->cos = t->sin = NULL;
    t->n_pos = 0;
}

void reattn__rope_row(const reattn_rope *r, const float *cs, float *x)
{
    int pairs = r->n_rot / 2;
    if (r->kind == REATTN_ROPE_NEOX) {
        float *a = x, *b = x + pairs;
        for (int i = 0; i < pairs; i++) {
            float c = cs[i], s = cs[pairs + i], u = a[i], w = b[i];
            a[i] = u * c - w * s;
            b[i] = u * s + w * c;
        }
        return;
    }
    for (int i = 0; i < pairs; i++) {
        float c = cs[i], s = cs[pairs + i], u = x[2 * i], w = x[2 * i + 1];
        x[2 * i] = u * c - w * s;
        x[2 * i + 1] = u * s + w * c;
    }
}

void reattn__rope_row_back(const reattn_rope *r, const float *cs, float *x)
{
    int pairs = r->n_rot / 2;
    bool neox = r->kind == REATTN_ROPE_NEOX;
    for (int i = 0; i < pairs; i++) {
        float *a = neox ? x + i : x + 2 * i, *b = neox ? x + pairs + i : x + 2 * i + 1;
        double c = cs[i], s = cs[pairs + i], u = *a, w = *b, square = c * c + s * s;
        *a = (float)((u * c + w * s) / square);
        *b = (float)((w * c - u * s) / square);
    }
}

int reattn_rope_apply(const reattn_rope *rope, float *x, int64_t n, int heads, int D, const int64_t *pos,
                      reattn_error *err)
{
    if (n < 0 || heads < 1 || D < 1 || D > 4096 || (n > 0 && (!x || !pos)))
        return reattn__fail(err, REATTN_E_ARG, "reattn_rope_apply: n %lld, heads %d, D %d", (long long)n, heads, D);
    int code = reattn__rope_check(rope, D, err);
    if (code != REATTN_OK) return code;
    float cs[4096];
    for (int64_t i = 0; i < n; i++) {
        reattn__rope_angles(rope, pos[i], cs);
        for (int h = 0; h < heads; h++) reattn__rope_row(rope, cs, x + (i * heads + h) * D);
    }
    return REATTN_OK;
}
