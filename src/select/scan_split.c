/* scan_split.c - scan the high plane of split keys with integer dot products, decide in f64.
 *
 * Write a query as q = unit * (128 h + l) + r15 with bytes h, l, and a key as k = mean + scale * (128 H + L) up to the
 * rounding of an f32 (kv/split.h). Then three stages, each with a proved bound on what it leaves out (Cauchy-Schwarz):
 *   1. scan8   h . H, or with two planes (128 h + l) . H: leaves out |q| scale |L| + |rest of q| scale |128 H|
 *   2. dot15   all bits of both: leaves out |r15| scale |128 H + L|
 *   3. the law in f64, of the few keys that may still be among a row's best when the scan is over.
 * A key whose score plus what was left out is below the row's k-th best score minus what was left out cannot win.
 * q . mean is the same for all keys of a page: it moves the threshold. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/place.h"
#include "cpu/half.h"
#include "scan.h"

enum {
    ROWS = 256,   /* rows of a task: their bytes stay in the first or second cache while pages pass */
    PENDING = 16, /* keys that a row holds back before it asks the law */
    TOP = 127 * 128 - 1
};

/* f32 roundings: of the stored key, of the sum's conversion and product, of the threshold; relative to |q| |k|. */
static const double SLACK = 2e-6;

typedef reattn__scan_plan plan;

/* A row in a task: what it has found. It lives until all tasks are over, when the law is asked about what is left. */
typedef struct reattn__row {
    double least; /* at least top_k keys score that much, or the floor */
    int n_best;   /* lower bounds held in best, sorted down */
    int n_pending;
    struct {
        int64_t pos;
        double up; /* upper bound */
    } pending[PENDING];
} row_state;

typedef struct scan_state {
    plan *p;
    reattn__scan_part part;
    int head;
    row_state *rows;       /* [row1 - row0] of this head */
    double *best;          /* [row1 - row0][top_k] */
    float *thr;
    int32_t *allow;
    const int8_t *q;       /* of row0 */
    const int32_t *sum;
    const reattn__int_query *info;
    reattn__planes page;
    int block0;            /* first block at hand, in the page */
    int64_t first;         /* position of its first key */
    int64_t rescored;
} scan_state;

void reattn__scan_split_cut(plan *p)
{
    p->split.Dp = reattn__split_dp(p->D);
    p->split.planes = p->few ? 2 : 1;
    p->block_rows = ROWS;
    p->task_heads = p->few ? p->Hk : 1; /* a few rows wait for memory: all heads' planes are one stretch of it */
}

size_t reattn__scan_split_place(plan *p, unsigned char *base, size_t at)
{
    reattn__scan_split *s = &p->split;
    int64_t rows = p->Hk * p->rows, room = rows * p->splits;
    REATTN__PLACE(s->q, rows * 2 * s->Dp);
    REATTN__PLACE(s->sum, rows * 2);
    REATTN__PLACE(s->info, rows);
    REATTN__PLACE(s->mean_norm, p->Hk);
    REATTN__PLACE(s->state, room);
    REATTN__PLACE(s->best, room * p->a->top_k);
    REATTN__PLACE(s->thr, room);
    REATTN__PLACE(s->allow, room);
    return at;
}

/* Turns a query into integers. */
static void pack_row(plan *p, int head, int64_t row, const float *mean)
{
    reattn__scan_split *s = &p->split;
    int64_t at = head * p->rows + row;
    const float *q = reattn__scan_query(p, head, row);
    int8_t *h = s->q + at * 2 * s->Dp, *l = h + s->Dp;
    double norm = 0, rest8 = 0, rest15 = 0, dot = 0;
    float top = 0;
    memset(h, 0, 2 * (size_t)s->Dp);
    for (int d = 0; d < p->D; d++) top = fmaxf(top, fabsf(q[d]));
    /* A query of zeros, or of numbers too small to matter, is not divided by its size. */
    double unit = top > 1e-30f ? (double)top / TOP : 1;
    float inverse = (float)(1 / unit);
    int32_t sum_h = 0, sum_l = 0;
    for (int d = 0; d < p->D; d++) {
        int n = (int)fmaxf(-TOP, fminf(TOP, rintf(q[d] * inverse)));
        h[d] = (int8_t)((n + 64) >> 7);
        l[d] = (int8_t)(n - h[d] * 128);
        sum_h += h[d];
        sum_l += l[d];
        double x = (double)q[d], r8 = x - unit * 128 * h[d], r15 = x - unit * n;
        norm += x * x;
        rest8 += r8 * r8;
        rest15 += r15 * r15;
        if (mean) dot += x * (double)mean[d];
    }
    s->sum[2 * at] = sum_h;
    s->sum[2 * at + 1] = sum_l;
    const double up = 1 + 1e-9;
    s->info[at] = (reattn__int_query){unit, sqrt(norm) * up, sqrt(rest8) * up, sqrt(rest15) * up, dot};
}

/* The mean key of the pages behind the first, if the range reaches them. */
static const float *mean_of(const plan *p, int head)
{
    reattn__planes page = {0};
    if (p->a->hi > REATTN__PAGE) reattn__store_planes(p->a->src.store, p->a->src.layer, head, p->a->hi - 1, &page);
    return page.mean;
}

int reattn__scan_split_pack(void *ctx, int64_t task, int worker)
{
    plan *p = ctx;
    int head = (int)(task / p->blocks);
    int64_t row = task % p->blocks * p->block_rows, end = REATTN__MIN(p->rows, row + p->block_rows);
    const float *mean = mean_of(p, head);
    (void)worker;
    if (row == 0) {
        double sum = 0;
        for (int d = 0; d < p->D && mean; d++) sum += (double)mean[d] * (double)mean[d];
        p->split.mean_norm[head] = sqrt(sum) * (1 + 1e-9);
    }
    for (; row < end; row++) {
        pack_row(p, head, row, mean);
        atomic_init(&p->floor[head * p->rows + row], reattn__scan_floor(p, head, row));
    }
    return REATTN_OK;
}

/* What all stages leave out through f32 roundings. */
static double slack_of(const scan_state *s, const reattn__int_query *q)
{
    return SLACK * q->norm * ((double)s->page.bound.norm + s->p->split.mean_norm[s->head]) + 1e-290;
}

static double mean_dot(const scan_state *s, const reattn__int_query *q)
{
    return s->page.mean ? q->mean : 0;
}

/* What a scan's sum counts in, but for the key's scale. */
static double scan_unit(const scan_state *s, const reattn__int_query *q)
{
    return q->unit * (s->p->split.planes == 2 ? 128 : 128 * 128);
}

/* The scan's test (kernels.h) in its own units. */
static void set_threshold(scan_state *s, int row)
{
    const reattn__int_query *q = &s->info[row];
    double thr = (s->rows[row].least - mean_dot(s, q) - slack_of(s, q)) / scan_unit(s, q);
    s->thr[row] = thr < -FLT_MAX ? -INFINITY : thr > FLT_MAX ? FLT_MAX : (float)(thr - fabs(thr) * 1e-6);
}

/* What tasks on other keys have found holds here too, and what was found here there: which one came first changes how
 * many keys are looked at, not which win. */
static void share_least(const scan_state *s, int row)
{
    _Atomic double *floor = &s->p->floor[s->head * s->p->rows + s->part.row0 + row];
    double there = atomic_load_explicit(floor, memory_order_relaxed), *here = &s->rows[row].least;
    if (there >= *here) *here = there;
    else
        while (there < *here && !atomic_compare_exchange_weak_explicit(floor, &there, *here, memory_order_relaxed,
                                                                       memory_order_relaxed)) continue;
}

static void set_page(scan_state *s, int row)
{
    share_least(s, row);
    const reattn__int_query *q = &s->info[row];
    const reattn__split_bound *b = &s->page.bound;
    double rest = s->p->split.planes == 2 ? q->rest15 : q->rest8;
    double error = q->norm * (double)b->low + rest * (double)b->high;
    s->allow[row] = (int32_t)REATTN__MIN(error / scan_unit(s, q) + 2, 1e9);
    set_threshold(s, row);
}

/* Asks the law about the keys that a row held back. */
static void decide(scan_state *s, int row)
{
    const plan *p = s->p;
    row_state *r = &s->rows[row];
    reattn_hit *list = reattn__scan_hits(p, s->part.split, s->head, s->part.row0 + row);
    const float *q = reattn__scan_query(p, s->head, s->part.row0 + row);
    float key[512];
    for (int i = 0; i < r->n_pending; i++) {
        if (r->pending[i].up < r->least) continue;
        reattn__source_k(&p->a->src, s->head, r->pending[i].pos, 1, key, 1);
        reattn__hit_insert(list, p->a->top_k, (reattn_hit){r->pending[i].pos, reattn__scan_law(q, key, 1, p->D, NULL)});
        s->rescored++;
    }
    r->n_pending = 0;
    if (list[p->a->top_k - 1].pos >= 0) r->least = fmax(r->least, list[p->a->top_k - 1].score);
}

/* Makes room for another key: drops those that can no longer win, or has them decided. */
static void make_room(scan_state *s, int row)
{
    row_state *r = &s->rows[row];
    int n = 0;
    for (int i = 0; i < r->n_pending; i++)
        if (r->pending[i].up >= r->least) r->pending[n++] = r->pending[i];
    r->n_pending = n;
    if (n > PENDING / 2) decide(s, row);
}

/* One more key scores at least `low`. */
static void raise(scan_state *s, int row, double low)
{
    row_state *r = &s->rows[row];
    int top_k = s->p->a->top_k, i = r->n_best;
    double *best = s->best + (int64_t)row * top_k;
    if (i == top_k && low <= best[--i]) return;
    for (; i > 0 && best[i - 1] < low; i--) best[i] = best[i - 1];
    best[i] = low;
    if (r->n_best < top_k) r->n_best++;
    if (r->n_best == top_k) r->least = fmax(r->least, best[top_k - 1]);
}

static void on_hit(void *ctx, int block, int row, unsigned keys)
{
    scan_state *s = ctx;
    const plan *p = s->p;
    const reattn__int_query *q = &s->info[row];
    row_state *r = &s->rows[row];
    int64_t first = s->first + (int64_t)block * REATTN__BLOCK;
    int in_page = s->block0 + block;
    float dots[REATTN__BLOCK];
    for (int i = 0; i < REATTN__BLOCK; i++)
        if (first + i < s->part.lo || first + i >= s->part.hi) keys &= ~(1u << i);
    if (!keys) return;
    p->cpu->dot15(reattn__split_high(&s->page.keys, p->D, in_page), reattn__split_low(&s->page.keys, p->D, in_page),
                  p->split.Dp, s->q + (int64_t)row * 2 * p->split.Dp, s->sum + 2 * (int64_t)row, dots);
    double base = mean_dot(s, q), slack = slack_of(s, q);
    double rest = q->rest15 * ((double)s->page.bound.high + (double)s->page.bound.low);
    const uint16_t *scales = reattn__split_scale(&s->page.keys) + in_page * REATTN__BLOCK;
    for (; keys; keys &= keys - 1) {
        int i = __builtin_ctz(keys);
        double scale = (double)reattn__bf16_to_float(scales[i]);
        double score = base + q->unit * scale * (double)dots[i], error = rest * scale + slack;
        if (score + error < r->least) continue;
        raise(s, row, score - error);
        if (r->n_pending == PENDING) make_room(s, row);
        r->pending[r->n_pending].pos = first + i;
        r->pending[r->n_pending++].up = score + error;
    }
    set_threshold(s, row);
}

static void set_head(scan_state *s, int head)
{
    const plan *p = s->p;
    int64_t at = head * p->rows + s->part.row0, room = s->part.split * p->Hk * p->rows + at;
    s->head = head;
    s->rows = p->split.state + room;
    s->best = p->split.best + room * p->a->top_k;
    s->thr = p->split.thr + room;
    s->allow = p->split.allow + room;
    s->q = p->split.q + at * 2 * p->split.Dp;
    s->sum = p->split.sum + at * 2;
    s->info = p->split.info + at;
}

/* The keys from pos to end, in one page. */
static void scan_page(scan_state *s, int64_t pos, int64_t end)
{
    plan *p = s->p;
    int n_row = (int)(s->part.row1 - s->part.row0);
    reattn__store_planes(p->a->src.store, p->a->src.layer, s->head, pos, &s->page);
    s->block0 = (int)(pos % REATTN__PAGE / REATTN__BLOCK);
    s->first = pos / REATTN__BLOCK * REATTN__BLOCK;
    for (int row = 0; row < n_row; row++) set_page(s, row);
    reattn__scan8 scan = {
        .high = reattn__split_high(&s->page.keys, p->D, s->block0),
        .scale = reattn__split_scale(&s->page.keys) + s->block0 * REATTN__BLOCK,
        .n_block = (int)((end - s->first + REATTN__BLOCK - 1) / REATTN__BLOCK), .Dp = p->split.Dp, .n_row = n_row,
        .planes = p->split.planes, .q = s->q, .sum = s->sum, .allow = s->allow, .thr = s->thr, .hit = on_hit, .ctx = s,
    };
    p->cpu->scan8(&scan);
}

/* The start of a new stretch of memory is what a scan waits for: asks for it while there is other work. */
static void ask_ahead(const scan_state *s, int64_t pos)
{
    reattn__planes next;
    reattn__store_planes(s->p->a->src.store, s->p->a->src.layer, s->part.head0, pos, &next);
    for (int i = 0; i < 4096; i += 64) __builtin_prefetch((const char *)next.keys.front + i, 0, 2);
}

int reattn__scan_split_task(void *ctx, int64_t task, int worker)
{
    plan *p = ctx;
    scan_state s = {.p = p, .part = reattn__scan_part_of(p, task)};
    (void)worker;
    int n_row = (int)(s.part.row1 - s.part.row0);
    for (int head = s.part.head0; head < s.part.head1; head++) {
        set_head(&s, head);
        for (int row = 0; row < n_row; row++) {
            reattn_hit *list = reattn__scan_hits(p, s.part.split, head, s.part.row0 + row);
            for (int i = 0; i < p->a->top_k; i++) list[i] = (reattn_hit){-1, 0};
            s.rows[row].least = -INFINITY;
            s.rows[row].n_best = s.rows[row].n_pending = 0;
        }
    }
    for (int64_t pos = s.part.lo, end; pos < s.part.hi; pos = end) {
        end = REATTN__MIN(s.part.hi, (pos / REATTN__PAGE + 1) * REATTN__PAGE);
        for (int head = s.part.head0; head < s.part.head1; head++) {
            if (p->few && head == s.part.head1 - 1 && end < s.part.hi) ask_ahead(&s, end);
            set_head(&s, head);
            scan_page(&s, pos, end);
        }
    }
    atomic_fetch_add(&p->rescored, s.rescored);
    return REATTN_OK;
}

int reattn__scan_split_decide(void *ctx, int64_t task, int worker)
{
    plan *p = ctx;
    int head = (int)(task / p->blocks);
    scan_state s = {.p = p};
    s.part.row0 = task % p->blocks * p->block_rows;
    s.part.row1 = REATTN__MIN(p->rows, s.part.row0 + p->block_rows);
    (void)worker;
    for (int pass = 0; pass < 2; pass++) { /* first what is known of the rows, from all parts of the keys */
        for (s.part.split = 0; s.part.split < p->splits; s.part.split++) {
            set_head(&s, head);
            for (int row = 0; row < s.part.row1 - s.part.row0; row++) {
                share_least(&s, row);
                if (pass == 0) continue;
                decide(&s, row);
                share_least(&s, row);
            }
        }
    }
    atomic_fetch_add(&p->rescored, s.rescored);
    return REATTN_OK;
}
