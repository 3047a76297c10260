/* topk.c - exact top-k: cuts the work (scan.h), has it scanned, joins the parts. */
#include "topk.h"

#include <math.h>
#include <string.h>

#include "base/place.h"
#include "scan.h"

enum {
    KEYS_MIN = 2048,  /* keys of one task at least, when keys are split */
    TASKS_WANTED = 16, /* tasks that keep a laptop's cores evenly busy */
    KEYS_PLAIN = 4,    /* so few keys are scored by the law at once, */
    ROWS_PLAIN = 64    /* so many queries a task */
};

typedef reattn__scan_plan plan;

static bool is_split(const plan *p)
{
    reattn__planes page;
    return p->a->against == REATTN__KEYS && p->a->src.store &&
           reattn__store_planes(p->a->src.store, p->a->src.layer, 0, p->a->lo, &page);
}

double reattn__scan_floor(const plan *p, int head, int64_t row)
{
    const reattn__topk_args *a = p->a;
    double least = INFINITY;
    float key[512];
    if (!a->seeds || a->against != REATTN__KEYS) return -INFINITY;
    const reattn_hit *seeds = a->seeds + ((row / p->g) * a->H + (int64_t)head * p->g + row % p->g) * a->top_k;
    for (int i = 0; i < a->top_k; i++) {
        if (seeds[i].pos < a->lo || seeds[i].pos >= a->hi) return -INFINITY;
        reattn__source_k(&a->src, head, seeds[i].pos, 1, key, 1);
        least = fmin(least, reattn__scan_law(reattn__scan_query(p, head, row), key, 1, p->D, NULL));
    }
    return least;
}

/* The law of four queries at once: four sums that do not wait for one another. */
static void law_of_four(const float *const q[4], const float *k, int D, double out[4])
{
    double a = 0, b = 0, c = 0, e = 0;
    for (int d = 0; d < D; d++) {
        double x = (double)k[d];
        a += (double)q[0][d] * x;
        b += (double)q[1][d] * x;
        c += (double)q[2][d] * x;
        e += (double)q[3][d] * x;
    }
    out[0] = a, out[1] = b, out[2] = c, out[3] = e;
}

/* Some of a KV head's rows against a few keys, each by the law: what a decode step does for the queries before it. */
static int plain_task(void *ctx, int64_t task, int worker)
{
    plan *p = ctx;
    const reattn__topk_args *a = p->a;
    int head = (int)(task / p->blocks);
    int64_t first = task % p->blocks * ROWS_PLAIN, end = REATTN__MIN(p->rows, first + ROWS_PLAIN);
    float key[512];
    (void)worker;
    for (int64_t row = first; row < end; row++) {
        reattn_hit *list = reattn__scan_hits(p, 0, head, row);
        for (int i = 0; i < a->top_k; i++) list[i] = (reattn_hit){-1, 0};
    }
    for (int64_t pos = a->lo; pos < a->hi; pos++) {
        reattn__source_k(&a->src, head, pos, 1, key, 1);
        for (int64_t row = first; row < end; row += 4) {
            const float *q[4];
            double score[4];
            for (int i = 0; i < 4; i++) q[i] = reattn__scan_query(p, head, REATTN__MIN(row + i, end - 1));
            law_of_four(q, key, p->D, score);
            for (int i = 0; i < 4 && row + i < end; i++)
                reattn__hit_insert(reattn__scan_hits(p, 0, head, row + i), a->top_k, (reattn_hit){pos, score[i]});
        }
    }
    return REATTN_OK;
}

static void join_splits(const plan *p)
{
    int64_t lists = p->a->T * p->a->H;
    for (int64_t i = 0; i < lists; i++) {
        reattn_hit *out = p->a->hits + i * p->a->top_k;
        memcpy(out, p->part + i * p->a->top_k, (size_t)p->a->top_k * sizeof *out);
        for (int64_t s = 1; s < p->splits; s++) {
            const reattn_hit *in = p->part + (s * lists + i) * p->a->top_k;
            for (int j = 0; j < p->a->top_k && in[j].pos >= 0; j++) reattn__hit_insert(out, p->a->top_k, in[j]);
        }
    }
}

/* Ranges of keys begin at multiples of their size, so that they hold whole pages of a store. */
static void cut_keys(plan *p)
{
    const reattn__topk_args *a = p->a;
    int64_t keys = a->hi - a->lo, tasks = p->Hk / p->task_heads * p->blocks, most = 1;
    if (tasks < TASKS_WANTED)
        most = REATTN__MIN(REATTN__MAX(1, keys / KEYS_MIN), (TASKS_WANTED + tasks - 1) / tasks);
    p->split_keys = most == 1 ? a->hi : (keys / most / REATTN__PAGE + 1) * REATTN__PAGE;
    p->splits = (a->hi - 1) / p->split_keys - a->lo / p->split_keys + 1;
}

/* Places the parts of the work buffer; returns its size. */
static size_t place(plan *p, bool split, unsigned char *base)
{
    int64_t lists = p->a->T * p->a->H;
    size_t at = 0;
    REATTN__PLACE(p->floor, p->Hk * p->rows);
    if (p->splits > 1) REATTN__PLACE(p->part, p->splits * lists * p->a->top_k);
    else p->part = p->a->hits;
    return split ? reattn__scan_split_place(p, base, at) : reattn__scan_f32_place(p, base, at);
}

/* What follows from the shape of the queries; then how the work is cut. */
static plan shape_of(const reattn__topk_args *a)
{
    plan p = {.a = a, .cpu = reattn__cpu(), .Hk = a->src.Hk, .Dv = a->src.Dv};
    p.g = a->H / p.Hk;
    p.D = a->against == REATTN__VALUES ? a->src.Dv : a->src.D;
    p.rows = a->T * p.g;
    p.few = p.rows <= 2 * REATTN__FEW;
    return p;
}

static void cut(plan *p, bool split)
{
    if (split) reattn__scan_split_cut(p);
    else reattn__scan_f32_cut(p);
    p->blocks = (p->rows + p->block_rows - 1) / p->block_rows;
    cut_keys(p);
}

size_t reattn__topk_scratch(int64_t T, int heads, const reattn__layer *layer, bool split, int top_k, int n_threads)
{
    const reattn__topk_args a = {.T = T,
                                 .H = heads,
                                 .src = {.Hk = layer->Hk, .D = REATTN__MAX(layer->D, layer->Dv), .Dv = layer->Dv},
                                 .lo = 1,
                                 .hi = INT64_C(1) << 40,
                                 .top_k = top_k,
                                 .n_threads = n_threads};
    plan p = shape_of(&a);
    cut(&p, split);
    return place(&p, split, NULL);
}

int reattn__topk(const reattn__topk_args *a, reattn_error *err)
{
    plan p = shape_of(a);
    if (a->hi <= a->lo || a->T == 0) {
        for (int64_t i = 0; i < a->T * a->H * a->top_k; i++) a->hits[i] = (reattn_hit){-1, 0};
        return REATTN_OK;
    }
    bool split = is_split(&p);
    if (a->hi - a->lo <= KEYS_PLAIN && a->against == REATTN__KEYS) {
        p.part = a->hits;
        p.blocks = (p.rows + ROWS_PLAIN - 1) / ROWS_PLAIN;
        if (a->rescored) *a->rescored += p.Hk * p.rows * (a->hi - a->lo);
        return reattn__parallel(p.rows < ROWS_PLAIN ? 1 : a->n_threads, p.Hk * p.blocks, plain_task, &p);
    }
    cut(&p, split);
    size_t bytes = place(&p, split, NULL);
    unsigned char *base = reattn__buffer_need(a->work, bytes);
    if (!base) return reattn__fail(err, REATTN_E_NOMEM, "out of memory: selection needs %zu bytes of scratch", bytes);
    place(&p, split, base);
    /* A little work is done sooner than a thread is woken. */
    bool small = p.Hk * p.rows * (a->hi - a->lo) < 8 * KEYS_MIN;
    int n_threads = p.rows < 64 && !a->seeds ? 1 : a->n_threads;
    reattn__parallel(n_threads, p.Hk * p.blocks, split ? reattn__scan_split_pack : reattn__scan_f32_pack, &p);
    int code = reattn__parallel(small ? 1 : a->n_threads, p.Hk / p.task_heads * p.blocks * p.splits,
                                split ? reattn__scan_split_task : reattn__scan_f32_task, &p);
    if (split) reattn__parallel(n_threads, p.Hk * p.blocks, reattn__scan_split_decide, &p);
    if (p.splits > 1) join_splits(&p);
    if (a->rescored) *a->rescored += atomic_load(&p.rescored);
    return code;
}
