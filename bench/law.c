/* law.c - see law.h. */
#include "law.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/base.h"
#include "cpu/ref.h"
#include "data.h"
#include "select/topk.h"

enum { SAMPLES = 4, PIECE = 8192 };

/* The query of a task, of so many. */
static int64_t sample_of(int64_t task, int64_t T)
{
    return task * (T - 1) / (SAMPLES - 1);
}

static int samples_of(int64_t T)
{
    return T < SAMPLES ? 1 : SAMPLES;
}

typedef struct selection {
    const reattn__layer *shape;
    const float *q;
    int64_t T, n;
    int top_k;
    bench_law_keys keys;
    void *ctx;
    const reattn_hit *hits;
    atomic_int differ;
} selection;

/* The law over pieces of the keys, joined in the order of hits. */
static int select_task(void *ctx, int64_t task, int worker)
{
    selection *l = ctx;
    const reattn__layer *s = l->shape;
    const int64_t t = sample_of(task, l->T), lists = (int64_t)s->H * l->top_k;
    float *k = malloc((size_t)(PIECE * s->Hk * s->D) * sizeof *k);
    reattn_hit *best = malloc((size_t)(2 * lists) * sizeof *best), *piece = best + lists;
    int code = k && best ? REATTN_OK : REATTN_E_NOMEM;
    (void)worker;
    for (int64_t i = 0; i < lists && code == REATTN_OK; i++)
        best[i] = (reattn_hit){-1, 0};
    for (int64_t first = 0; first < l->n && code == REATTN_OK; first += PIECE) {
        const int64_t n = REATTN__MIN((int64_t)PIECE, l->n - first);
        code = l->keys(l->ctx, first, n, k);
        if (code != REATTN_OK)
            break;
        reattn__ref_topk(l->q + t * s->H * s->D, k, 1, n, s->H, s->Hk, s->D, l->top_k, piece);
        for (int64_t i = 0; i < lists; i++)
            if (piece[i].pos >= 0)
                reattn__hit_insert(best + i / l->top_k * l->top_k, l->top_k,
                                   (reattn_hit){piece[i].pos + first, piece[i].score});
    }
    const reattn_hit *found = l->hits + t * lists;
    for (int64_t i = 0; i < lists && code == REATTN_OK; i++)
        if (found[i].pos != best[i].pos || (best[i].pos >= 0 && found[i].score != best[i].score))
            atomic_store(&l->differ, 1);
    free(k);
    free(best);
    return code;
}

int bench_law_select(const reattn__layer *shape, const float *q, int64_t T, int64_t n, int top_k, int n_threads,
                     bench_law_keys keys, void *ctx, const reattn_hit *hits, bool *equal, reattn_error *err)
{
    selection l = {shape, q, T, n, top_k, keys, ctx, hits, 0};
    const int code = reattn__parallel(n_threads, samples_of(T), select_task, &l);
    if (atomic_load(&l.differ))
        *equal = false;
    return code ? reattn__fail(err, code, "the law could not be computed: out of memory") : REATTN_OK;
}

typedef struct attention {
    const reattn__layer *shape;
    const float *q, *k, *v, *out;
    const float *q_near, *k_near; /* changed a little, or NULL */
    int64_t T, n;
    const reattn__run_list *list;
    double error[SAMPLES], loss[SAMPLES];
} attention;

static double distance(const double *x, const double *from, int64_t n)
{
    double diff = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        diff += (x[i] - from[i]) * (x[i] - from[i]);
        norm += from[i] * from[i];
    }
    return sqrt(diff / norm);
}

static int attend_task(void *ctx, int64_t task, int worker)
{
    attention *l = ctx;
    const reattn__layer *s = l->shape;
    const int64_t t = sample_of(task, l->T), n_out = (int64_t)s->H * s->Dv, q_at = t * s->H * s->D;
    reattn_run *runs = malloc((size_t)l->list->n * sizeof *runs);
    double *want = malloc((size_t)(2 * n_out) * sizeof *want), *got = want + n_out;
    int code = runs && want ? REATTN_OK : REATTN_E_NOMEM;
    (void)worker;
    for (int64_t i = 0; i < l->list->n && code == REATTN_OK; i++) {
        runs[i] = l->list->runs[i];
        runs[i].q_pos += t * runs[i].q_step;
    }
    if (code == REATTN_OK)
        code = reattn__ref_attend(l->q + q_at, l->k, l->v, 1, l->n - l->T + t, l->n, s->H, s->Hk, s->D, s->Dv,
                                  s->kq_scale, &s->rope, runs, l->list->n, want, NULL);
    for (int64_t i = 0; i < n_out && code == REATTN_OK; i++)
        got[i] = l->out[t * n_out + i];
    if (code == REATTN_OK)
        l->error[task] = distance(got, want, n_out);
    if (code == REATTN_OK && l->q_near)
        code = reattn__ref_attend(l->q_near + q_at, l->k_near, l->v, 1, l->n - l->T + t, l->n, s->H, s->Hk, s->D, s->Dv,
                                  s->kq_scale, &s->rope, runs, l->list->n, got, NULL);
    if (code == REATTN_OK && l->q_near)
        l->loss[task] = distance(got, want, n_out);
    free(runs);
    free(want);
    return code;
}

/* A copy, each value changed by up to one part in 2^11. */
static float *near(const float *x, int64_t n, uint64_t *random)
{
    float *y = malloc((size_t)n * sizeof *y);
    for (int64_t i = 0; y && i < n; i++)
        y[i] = x[i] + x[i] * 0x1p-11f * ((float)(bench_random(random) >> 40) * 0x1p-23f - 1.0f);
    return y;
}

int bench_law_attend(const reattn__layer *shape, const float *q, const float *k, const float *v, int64_t T, int64_t n,
                     const reattn__run_list *list, int n_threads, const float *out, double *error, double *loss,
                     reattn_error *err)
{
    attention l = {.shape = shape, .q = q, .k = k, .v = v, .out = out, .T = T, .n = n, .list = list};
    uint64_t random = 1;
    float *q_near = loss ? near(q, T * shape->H * shape->D, &random) : NULL;
    float *k_near = loss ? near(k, n * shape->Hk * shape->D, &random) : NULL;
    l.q_near = q_near, l.k_near = k_near;
    const int failed = (loss && (!q_near || !k_near)) || reattn__parallel(n_threads, samples_of(T), attend_task, &l);
    free(q_near);
    free(k_near);
    if (failed)
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory for the law");
    for (int i = 0; i < samples_of(T); i++) {
        if (!(l.error[i] <= *error))
            *error = l.error[i];
        if (loss)
            *loss = fmax(*loss, l.loss[i]);
    }
    return REATTN_OK;
}
