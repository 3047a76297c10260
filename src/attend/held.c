/* held.c - see held.h. A pass over all keys in plain float64, for measurements only: parts of the keys are tasks, each
 * with a partial softmax for every head (largest score, sum of all weights, sum of those in scope), merged in order. */
#include "held.h"

#include "attend/rope.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TILE = 256, PART = 16 * TILE };

typedef struct partial {
    double max, all, inside;
} partial;

typedef struct pass {
    const reattn__held_args *a;
    const double *q; /* [H][D], rotated if wanted */
    partial *parts;  /* [n_part][H] */
} pass;

/* One row at a position, in float64 with ggml's float32 cosines and sines (rope.h): x[d * stride]. */
static void rotate(const reattn_rope *rope, const float *cs, double *x, int64_t stride)
{
    int half = rope->n_rot / 2;
    for (int i = 0; i < half; i++) {
        double *a = x + (rope->kind == REATTN_ROPE_NEOX ? i : 2 * i) * stride;
        double *b = x + (rope->kind == REATTN_ROPE_NEOX ? i + half : 2 * i + 1) * stride;
        double c = (double)cs[i], s = (double)cs[half + i], from = *a;
        *a = from * c - *b * s;
        *b = from * s + *b * c;
    }
}

static void add_tile(const pass *p, int head, const double *keys, const int *scope, int64_t count, double *score)
{
    const reattn__held_args *a = p->a;
    int D = a->src.D, g = a->H / a->src.Hk;
    for (int h = head * g; h < (head + 1) * g; h++) {
        partial *sum = &p->parts[h];
        double top = sum->max;
        memset(score, 0, TILE * sizeof *score);
        for (int d = 0; d < D; d++) {
            double x = p->q[(int64_t)h * D + d];
            for (int i = 0; i < TILE; i++) score[i] += x * keys[d * TILE + i];
        }
        for (int64_t i = 0; i < count; i++) {
            score[i] *= (double)a->scale;
            top = fmax(top, score[i]);
        }
        double shrink = exp(sum->max - top); /* 0 for the first tile, whose sums are 0 */
        *sum = (partial){top, sum->all * shrink, sum->inside * shrink};
        for (int64_t i = 0; i < count; i++) {
            double w = exp(score[i] - top);
            sum->all += w;
            sum->inside += scope[i] ? w : 0;
        }
    }
}

static int do_part(void *ctx, int64_t task, int worker)
{
    const reattn__held_args *a = ((const pass *)ctx)->a;
    pass p = *(const pass *)ctx;
    int D = a->src.D, n_rot = a->rope ? a->rope->n_rot : 0;
    int64_t end = REATTN__MIN((task + 1) * PART, a->n);
    float *read = calloc((size_t)TILE * (size_t)(D + n_rot), sizeof *read), *cs = read + TILE * D;
    double *keys = malloc((size_t)TILE * (size_t)(D + 1) * sizeof *keys), *score = keys + TILE * D;
    (void)worker;
    p.parts += task * a->H;
    for (int h = 0; h < a->H; h++) p.parts[h] = (partial){-INFINITY, 0, 0};
    for (int64_t at = task * PART; at < end && read && keys; at += TILE) {
        int64_t count = REATTN__MIN(TILE, end - at);
        for (int64_t i = 0; i < count && a->rope; i++) reattn__rope_angles(a->rope, at + i, cs + i * n_rot);
        for (int head = 0; head < a->src.Hk; head++) {
            reattn__source_k(&a->src, head, at, count, read, TILE);
            for (int64_t i = 0; i < TILE * D; i++) keys[i] = (double)read[i];
            for (int64_t i = 0; i < count && a->rope; i++) rotate(a->rope, cs + i * n_rot, keys + i, TILE);
            add_tile(&p, head, keys, a->scope + (a->n_list > 1 ? head * a->n : 0) + at, count, score);
        }
    }
    int code = read && keys ? REATTN_OK : REATTN_E_NOMEM;
    free(read);
    free(keys);
    return code;
}

static void merge(const pass *p, int64_t n_part)
{
    for (int h = 0; h < p->a->H; h++) {
        partial sum = p->parts[h];
        for (int64_t i = 1; i < n_part; i++) {
            const partial *next = &p->parts[i * p->a->H + h];
            double top = fmax(sum.max, next->max), old = exp(sum.max - top), new = exp(next->max - top);
            sum = (partial){top, sum.all * old + next->all * new, sum.inside * old + next->inside * new};
        }
        p->a->share[h] = sum.inside / sum.all;
    }
}

int reattn__held(const reattn__held_args *a, reattn_error *err)
{
    int D = a->src.D, n_rot = a->rope ? a->rope->n_rot : 0;
    int64_t n_part = (a->n + PART - 1) / PART;
    float *cs = malloc((size_t)(n_rot + 1) * sizeof *cs);
    double *q = malloc((size_t)(a->H * D) * sizeof *q);
    partial *parts = malloc((size_t)n_part * (size_t)a->H * sizeof *parts);
    int code = cs && q && parts ? REATTN_OK : REATTN_E_NOMEM;
    if (code == REATTN_OK) {
        for (int64_t i = 0; i < (int64_t)a->H * D; i++) q[i] = (double)a->q[i];
        if (a->rope) reattn__rope_angles(a->rope, a->n - 1, cs);
        for (int h = 0; h < a->H && a->rope; h++) rotate(a->rope, cs, q + (int64_t)h * D, 1);
        pass p = {a, q, parts};
        code = reattn__parallel(a->n_threads, n_part, do_part, &p);
        if (code == REATTN_OK) merge(&p, n_part);
    }
    free(cs);
    free(q);
    free(parts);
    if (code != REATTN_OK)
        return reattn__fail(err, code, "out of memory to measure attention over %lld keys", (long long)a->n);
    return REATTN_OK;
}
