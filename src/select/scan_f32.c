/* scan_f32.c - screen in f32, decide in f64: for keys of any type, and for scores other than q . k.
 *
 * The kernels compute the law's score in f32, several queries at once, with a proved bound on the difference:
 * |s32 - s| <= reattn__dot_error(D) |q| |k|. So a pair whose f32 score lies more than that below the row's current k-th
 * best cannot enter the top-k and is dropped by one vector compare; every other pair is scored again by the law. About
 * top_k * ln(n / top_k) pairs a row survive. */
#include <float.h>
#include <math.h>

#include "base/place.h"
#include "scan.h"

enum { GROUPS = 8 }; /* lane groups of one task: they share the conversion of a key tile */

typedef reattn__scan_plan plan;

/* What a hit callback needs to know of the group and the tile at hand. */
typedef struct scan_state {
    plan *p;
    int head;
    int64_t row0, split, first; /* first query row of the group, position of the tile's first key */
    int n_key;
    const float *k;       /* [D][REATTN__TILE] the tile as stored */
    const double *weight; /* [n_key] or NULL */
    float thr[REATTN__LANES_MAX];
    double err[REATTN__LANES_MAX];
    int64_t rescored;
} scan_state;

void reattn__scan_f32_cut(plan *p)
{
    p->f32.lanes = p->few ? REATTN__FEW : p->cpu->lanes;
    p->f32.groups = (p->rows + p->f32.lanes - 1) / p->f32.lanes;
    p->block_rows = GROUPS * p->f32.lanes;
    p->task_heads = 1;
    p->f32.tile_floats = (int64_t)REATTN__TILE * (2 * p->D + p->Dv); /* the tile, the weighted tile, the values */
}

size_t reattn__scan_f32_place(plan *p, unsigned char *base, size_t at)
{
    int64_t rows = p->Hk * p->f32.groups * p->f32.lanes;
    REATTN__PLACE(p->f32.qt, rows * p->D);
    REATTN__PLACE(p->f32.q_norm, rows);
    REATTN__PLACE(p->f32.tiles, p->a->n_threads * p->f32.tile_floats);
    return at;
}

/* Packs a group of queries and takes their norms. Rows beyond the last are zero. */
static void pack_group(plan *p, int head, int64_t group)
{
    int lanes = p->f32.lanes;
    int64_t at = head * p->f32.groups + group;
    float *qt = p->f32.qt + at * p->D * lanes;
    for (int r = 0; r < lanes; r++) {
        int64_t row = group * lanes + r;
        const float *q = row < p->rows ? reattn__scan_query(p, head, row) : NULL;
        double sum = 0;
        for (int d = 0; d < p->D; d++) {
            float x = q ? q[d] : 0;
            qt[p->few ? (int64_t)r * p->D + d : (int64_t)d * lanes + r] = x;
            sum += (double)x * (double)x;
        }
        p->f32.q_norm[at * lanes + r] = sqrt(sum) * (1 + 1e-12);
        if (q) atomic_init(&p->floor[head * p->rows + row], reattn__scan_floor(p, head, row));
    }
}

int reattn__scan_f32_pack(void *ctx, int64_t task, int worker)
{
    plan *p = ctx;
    int head = (int)(task / p->blocks);
    int64_t group = task % p->blocks * GROUPS, end = REATTN__MIN(p->f32.groups, group + GROUPS);
    (void)worker;
    for (; group < end; group++) pack_group(p, head, group);
    return REATTN_OK;
}

static void set_threshold(scan_state *s, int lane, const reattn_hit *list)
{
    const plan *p = s->p;
    const reattn_hit *last = &list[p->a->top_k - 1];
    double least = atomic_load_explicit(&p->floor[s->head * p->rows + s->row0 + lane], memory_order_relaxed);
    if (last->pos >= 0 && last->score > least) least = last->score;
    s->thr[lane] = (float)(least - s->err[lane]);
}

static void rescore(scan_state *s, int key, int lane)
{
    const plan *p = s->p;
    reattn_hit *list = reattn__scan_hits(p, s->split, s->head, s->row0 + lane);
    const float *q = reattn__scan_query(p, s->head, s->row0 + lane);
    double score = reattn__scan_law(q, s->k + key, REATTN__TILE, p->D, s->weight ? s->weight + key : NULL);
    s->rescored++;
    reattn__hit_insert(list, p->a->top_k, (reattn_hit){s->first + key, score});
    set_threshold(s, lane, list);
}

static void on_hit(void *ctx, int key, int n_key, int n_row, const float *scores, int key_step, int row_step)
{
    scan_state *s = ctx;
    for (int i = 0; i < n_key && key + i < s->n_key; i++)
        for (int r = 0; r < n_row; r++)
            if (scores[i * key_step + r * row_step] >= s->thr[r]) rescore(s, key + i, r);
}

/* Largest norm of the tile's keys, rounded up; infinite if it does not fit an f32. */
static double tile_norm(const float *k, int n_key, int D)
{
    float top = 0, sum[REATTN__TILE] = {0};
    for (int d = 0; d < D; d++, k += REATTN__TILE)
        for (int i = 0; i < n_key; i++) sum[i] += k[i] * k[i];
    for (int i = 0; i < n_key; i++)
        if (!(sum[i] <= top)) top = sum[i];
    return sqrt((double)top) * (1 + 1e-4) + 1e-22; /* squares below 2^-149 vanish: 1e-22 covers their root */
}

/* The keys at hand against one group of rows. `k` is the tile that is scanned, weighted if need be. */
static void scan_group(scan_state *s, const float *k, double norm, int64_t group)
{
    plan *p = s->p;
    int lanes = p->f32.lanes;
    double q_top = 0;
    s->row0 = group * lanes;
    for (int r = 0; r < lanes; r++) {
        if (s->row0 + r >= p->rows) {
            s->thr[r] = INFINITY;
            continue;
        }
        double qn = p->f32.q_norm[s->head * p->f32.groups * lanes + s->row0 + r];
        if (qn > q_top) q_top = qn;
        /* The weighted row has two roundings more than the stored one; the constant covers products that underflow. */
        s->err[r] = (reattn__dot_error(p->D) + (s->weight ? 4e-7 : 0)) * qn * norm + 1e-40;
        set_threshold(s, r, reattn__scan_hits(p, s->split, s->head, s->row0 + r));
    }
    if (q_top * norm < (double)FLT_MAX / 4) {
        const float *qt = p->f32.qt + (s->head * p->f32.groups + group) * p->D * lanes;
        int n_row = (int)REATTN__MIN((int64_t)lanes, p->rows - s->row0);
        if (p->few) p->cpu->scan_few(qt, n_row, k, s->n_key, p->D, s->thr, on_hit, s);
        else p->cpu->scan(qt, k, s->n_key, p->D, s->thr, on_hit, s);
        return;
    }
    /* The f32 scores could overflow: score every pair by the law. */
    for (int key = 0; key < s->n_key; key++)
        for (int r = 0; r < lanes && s->row0 + r < p->rows; r++) rescore(s, key, r);
}

/* Reads a tile: what the law sees in k, what is scanned in *scanned, weights if there are any. */
static void read_tile(const plan *p, int head, int64_t first, int n, float *k, float *scratch, double *weight,
                      const float **scanned)
{
    const reattn__source *src = &p->a->src;
    *scanned = k;
    if (p->a->against == REATTN__VALUES) {
        reattn__source_v(src, head, first, n, scratch);
        for (int i = 0; i < n; i++)
            for (int d = 0; d < p->D; d++) k[d * REATTN__TILE + i] = scratch[(int64_t)i * p->D + d];
        return;
    }
    reattn__source_k(src, head, first, n, k, REATTN__TILE);
    if (p->a->against != REATTN__KEYS_TIMES_L1 && p->a->against != REATTN__KEYS_TIMES_L2) return;
    float *v = scratch + (int64_t)REATTN__TILE * p->D;
    reattn__source_v(src, head, first, n, v);
    for (int i = 0; i < n; i++) {
        double sum = 0;
        for (int d = 0; d < p->Dv; d++) {
            double x = (double)v[(int64_t)i * p->Dv + d];
            sum += p->a->against == REATTN__KEYS_TIMES_L1 ? fabs(x) : x * x;
        }
        weight[i] = p->a->against == REATTN__KEYS_TIMES_L1 ? sum : sqrt(sum);
        for (int d = 0; d < p->D; d++) scratch[d * REATTN__TILE + i] = k[d * REATTN__TILE + i] * (float)weight[i];
    }
    *scanned = scratch;
}

int reattn__scan_f32_task(void *ctx, int64_t task, int worker)
{
    plan *p = ctx;
    const reattn__topk_args *a = p->a;
    const reattn__scan_part part = reattn__scan_part_of(p, task);
    double weight[REATTN__TILE];
    float *k = p->f32.tiles + worker * p->f32.tile_floats, *scratch = k + (int64_t)REATTN__TILE * p->D;
    scan_state s = {.p = p, .head = part.head0, .split = part.split, .k = k};
    s.weight = a->against == REATTN__KEYS_TIMES_L1 || a->against == REATTN__KEYS_TIMES_L2 ? weight : NULL;

    for (int64_t row = part.row0; row < part.row1; row++) {
        reattn_hit *list = reattn__scan_hits(p, s.split, s.head, row);
        for (int i = 0; i < a->top_k; i++) list[i] = (reattn_hit){-1, 0};
    }
    for (s.first = part.lo; s.first < part.hi; s.first += s.n_key) {
        const float *scanned;
        s.n_key = (int)REATTN__MIN((int64_t)REATTN__TILE, part.hi - s.first);
        read_tile(p, s.head, s.first, s.n_key, k, scratch, weight, &scanned);
        double norm = tile_norm(scanned, s.n_key, p->D);
        for (int64_t group = part.row0 / p->f32.lanes; group * p->f32.lanes < part.row1; group++)
            scan_group(&s, scanned, norm, group);
    }
    atomic_fetch_add(&p->rescored, s.rescored);
    return REATTN_OK;
}
