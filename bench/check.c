/* check.c - see check.h. The law is computed here once more, and fast enough for 10^12 products: eight queries side by
 * side, each with its own float64 sum over d = 0 .. D-1 in that order. A product of two floats is exact in float64, so
 * neither vectors nor fused multiply-add change a bit of it. */
#include "check.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/kernels.h"
#include "data.h"
#include "select/topk.h"

enum { LANES = 8, PIECE = 1024 };

typedef double lanes __attribute__((vector_size(LANES * sizeof(double))));

typedef struct brute {
    const bench_check *c;
    int layer;
    float *k;         /* [Hk][keys][D] */
    reattn_hit *hits; /* [T][H][top_k] */
} brute;

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
static void score_piece(const double *q, const float *k, int64_t n, int D, double *scores)
{
    for (int64_t i = 0; i < n; i++, k += D) {
        lanes sum = {0};
        for (int d = 0; d < D; d++) {
            lanes x;
            memcpy(&x, q + (int64_t)d * LANES, sizeof x);
            sum += x * (double)k[d];
        }
        memcpy(scores + i * LANES, &sum, sizeof sum);
    }
}

/* Eight queries of one query head. */
static int law_task(void *ctx, int64_t task, int worker)
{
    const brute *b = ctx;
    const bench_check *c = b->c;
    const reattn__layer *s = c->shape;
    int head = (int)(task % s->H), D = s->D;
    int64_t t0 = task / s->H * LANES;
    const float *k = b->k + head / (s->H / s->Hk) * c->keys * D;
    double *q = calloc((size_t)(D * LANES + PIECE * LANES), sizeof *q), *scores = q + D * LANES;
    (void)worker;
    if (!q) return REATTN_E_NOMEM;
    for (int lane = 0; lane < LANES && t0 + lane < c->T; lane++) {
        reattn_hit *list = b->hits + ((t0 + lane) * s->H + head) * c->top_k;
        for (int i = 0; i < c->top_k; i++) list[i] = (reattn_hit){-1, 0};
        for (int d = 0; d < D; d++)
            q[d * LANES + lane] = (double)c->q[((b->layer * c->T + t0 + lane) * s->H + head) * D + d];
    }
    for (int64_t first = 0; first < c->keys; first += PIECE) {
        int64_t n = REATTN__MIN((int64_t)PIECE, c->keys - first);
        score_piece(q, k + first * D, n, D, scores);
        for (int64_t i = 0; i < n; i++)
            for (int lane = 0; lane < LANES && t0 + lane < c->T; lane++)
                reattn__hit_insert(b->hits + ((t0 + lane) * s->H + head) * c->top_k, c->top_k,
                                   (reattn_hit){first + i, scores[i * LANES + lane]});
    }
    free(q);
    return REATTN_OK;
}

static int64_t count_different(const bench_check *c, const reattn_hit *a, const reattn_hit *b)
{
    int64_t n = 0;
    for (int64_t i = 0; i < c->T * c->shape->H; i++, a += c->top_k, b += c->top_k) {
        bool same = true;
        for (int j = 0; j < c->top_k; j++)
            same &= a[j].pos == b[j].pos && (a[j].pos < 0 || memcmp(&a[j].score, &b[j].score, sizeof a[j].score) == 0);
        n += !same;
    }
    return n;
}

/* Whether a level is asked for and there; then it is the one in use. */
static bool use_level(const bench_check *c, const char *level)
{
    size_t n = strlen(level);
    bool asked = strcmp(c->levels, "all") == 0;
    for (const char *s = c->levels; !asked && *s; s += strcspn(s, ","), s += *s == ',')
        asked = strncmp(s, level, n) == 0 && (s[n] == ',' || s[n] == 0);
    return asked && reattn__cpu_force_level(level) == REATTN_OK;
}

static int check_layer(brute *b, const char *const *levels, int n_level, int64_t *differ, reattn_error *err)
{
    const bench_check *c = b->c;
    const reattn__layer *s = c->shape;
    reattn_hit *found = malloc((size_t)(c->T * s->H * c->top_k) * sizeof *found);
    reattn__buffer work = {0};
    int code = found ? REATTN_OK : reattn__fail(err, REATTN_E_NOMEM, "out of memory for the law");
    for (int h = 0; h < s->Hk && code == REATTN_OK; h++) {
        float *rows = b->k + h * c->keys * s->D;
        for (int64_t i = 0; i < c->keys; i++) reattn__store_read_k(c->store, b->layer, h, i, 1, rows + i * s->D, 1);
    }
    if (code == REATTN_OK &&
        reattn__parallel(c->n_threads, (c->T + LANES - 1) / LANES * s->H, law_task, b) != REATTN_OK)
        code = reattn__fail(err, REATTN_E_NOMEM, "out of memory for the law");
    for (int i = 0; i < n_level && code == REATTN_OK; i++) {
        if (!use_level(c, levels[i])) continue;
        const reattn__topk_args args = {
            .q = c->q + b->layer * c->T * s->H * s->D, .T = c->T, .H = s->H,
            .src = {.store = c->store, .layer = b->layer, .Hk = s->Hk, .D = s->D, .Dv = s->Dv}, .against = REATTN__KEYS,
            .lo = 0, .hi = c->keys, .top_k = c->top_k, .n_threads = c->n_threads, .hits = found, .work = &work,
        };
        code = reattn__topk(&args, err);
        if (code == REATTN_OK) differ[i] += count_different(c, found, b->hits);
    }
    reattn__cpu_force_level(NULL);
    reattn__buffer_free(&work);
    free(found);
    return code;
}

int bench_check_select(const bench_check *c, reattn_error *err)
{
    static const char *const levels[] = {"scalar", "base", "avx2", "avx512", "neon"};
    enum { N = sizeof levels / sizeof *levels };
    const reattn__layer *s = c->shape;
    int64_t differ[N] = {0}, all = 0;
    int n_used = 0;
    brute b = {.c = c};
    b.k = malloc((size_t)(s->Hk * c->keys * s->D) * sizeof *b.k);
    b.hits = malloc((size_t)(c->T * s->H * c->top_k) * sizeof *b.hits);
    int code = b.k && b.hits ? REATTN_OK : reattn__fail(err, REATTN_E_NOMEM, "out of memory for the law");
    for (; b.layer < c->n_layer && code == REATTN_OK; b.layer++) code = check_layer(&b, levels, N, differ, err);
    free(b.k);
    free(b.hits);
    if (code != REATTN_OK) return code;
    for (int i = 0; i < N; i++) {
        if (!use_level(c, levels[i])) continue;
        n_used++;
        fprintf(stderr,
                "check: %-6s %" PRId64 " pairs of query and head over %" PRId64 " keys, %" PRId64
                " differ from the law\n",
                levels[i], c->n_layer * c->T * s->H, c->keys, differ[i]);
        all += differ[i];
    }
    reattn__cpu_force_level(NULL);
    if (n_used == 0)
        return reattn__fail(err, REATTN_E_ARG, "--check %s: this machine has none of these levels", c->levels);
    if (all)
        return reattn__fail(err, REATTN_E_INTERNAL, "%" PRId64 " selections differ from the law", all);
    return REATTN_OK;
}
