/* topk.c - exact top-k: screen in f32, decide in f64.
 *
 * The law (ops.h) scores a pair as a float64 sum. The kernels compute the same score in f32, several queries at once,
 * with a proved bound on the difference: |s32 - s| <= reattn__dot_error(D) |q| |k|. So a pair whose f32 score lies more
 * than that below the row's current k-th best cannot enter the top-k and is dropped by one vector compare; every other
 * pair is scored again by the law. About top_k * ln(n / top_k) pairs a row survive. No score matrix is stored.
 *
 * Work is cut into tasks of (KV head, block of query rows, range of keys). The range is the whole for a chunk of many
 * queries and a part for a few (decode), whose lists are then joined: the order of keys is total, so the joined list is
 * the same whatever the cut. */
#include "topk.h"

#include <float.h>
#include <math.h>
#include <stdatomic.h>

#include "base/place.h"
#include "cpu/half.h"
#include "cpu/kernels.h"
#include "kv/block.h"

enum {
    GROUPS = 8,       /* lane groups of one task: they share the conversion of a key tile */
    KEYS_MIN = 2048,  /* keys of one task at least, when keys are split */
    TASKS_WANTED = 16 /* tasks that keep a laptop's cores evenly busy */
};

typedef struct plan {
    const reattn__topk_args *a;
    const reattn__kernels *cpu;
    int Hk, g, D, Dv;
    bool few;  /* so few rows that vectors run along the keys */
    bool f16;  /* and these can be scanned where the store keeps them */
    int lanes; /* rows of a group */
    int64_t rows, groups, blocks; /* query rows of a KV head, their groups, their blocks of GROUPS */
    int64_t splits, split_keys;
    float *qt;        /* [Hk][groups][D][lanes], few: [Hk][groups][lanes][D] */
    double *q_norm;   /* [Hk][groups * lanes] */
    double *floor;    /* [Hk][groups * lanes] no score below it can win */
    reattn_hit *part; /* [splits][T][H][top_k]; the caller's hits if there is one split */
    float *tiles;     /* [n_threads][tile_floats] */
    int64_t tile_floats;
    atomic_llong rescored;
} plan;

/* What a hit callback needs to know of the group and the tile at hand. */
typedef struct scan_state {
    plan *p;
    int head;
    int64_t row0, split, first;  /* first query row of the group, position of the first key at hand */
    int skip, n_key;             /* keys skip .. n_key - 1 are in the range */
    const float *k;              /* [D][REATTN__TILE] the tile as stored; or NULL, and */
    const uint16_t *block;       /* the store's blocks */
    const double *weight;        /* [n_key] or NULL */
    float thr[REATTN__LANES_MAX];
    double err[REATTN__LANES_MAX];
    int64_t rescored;
} scan_state;

static reattn_hit *hits_of(const plan *p, int64_t split, int head, int64_t row)
{
    int64_t t = row / p->g, h = (int64_t)head * p->g + row % p->g;
    return p->part + ((split * p->a->T + t) * p->a->H + h) * p->a->top_k;
}

static const float *query_of(const plan *p, int head, int64_t row)
{
    return p->a->q + ((row / p->g) * p->a->H + (int64_t)head * p->g + row % p->g) * p->D;
}

/* The law, for a key whose values are `step` apart. */
static double score_of(const float *q, const float *k, int64_t step, int D, const double *weight)
{
    double s = 0;
    for (int d = 0; d < D; d++) s += (double)q[d] * (double)k[d * step];
    return weight ? s * *weight : s;
}

/* The law, for key i of a store's f16 blocks. */
static double score_of_half(const float *q, const uint16_t *block, int i, int D)
{
    const uint16_t *k = block + (int64_t)(i / REATTN__BLOCK) * D * REATTN__BLOCK + i % REATTN__BLOCK;
    double s = 0;
    for (int d = 0; d < D; d++) s += (double)q[d] * (double)reattn__half_to_float(k[d * REATTN__BLOCK]);
    return s;
}

static void set_threshold(scan_state *s, int lane, const reattn_hit *list)
{
    const plan *p = s->p;
    const reattn_hit *last = &list[p->a->top_k - 1];
    double least = p->floor[s->head * p->groups * p->lanes + s->row0 + lane];
    if (last->pos >= 0 && last->score > least) least = last->score;
    s->thr[lane] = (float)(least - s->err[lane]);
}

static void rescore(scan_state *s, int key, int lane)
{
    const plan *p = s->p;
    reattn_hit *list = hits_of(p, s->split, s->head, s->row0 + lane);
    const float *q = query_of(p, s->head, s->row0 + lane);
    double score = s->k ? score_of(q, s->k + key, REATTN__TILE, p->D, s->weight ? s->weight + key : NULL)
                        : score_of_half(q, s->block, key, p->D);
    s->rescored++;
    reattn__hit_insert(list, p->a->top_k, (reattn_hit){s->first + key, score});
    set_threshold(s, lane, list);
}

static void on_hit(void *ctx, int key, int n_key, int n_row, const float *scores, int key_step, int row_step)
{
    scan_state *s = ctx;
    for (int i = key < s->skip ? s->skip - key : 0; i < n_key && key + i < s->n_key; i++)
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

/* The keys at hand against one group of rows. `k` is the tile that is scanned (weighted if need be), NULL for blocks. */
static void scan_group(scan_state *s, const float *k, double norm, int64_t group)
{
    plan *p = s->p;
    int lanes = p->lanes;
    double q_top = 0;
    s->row0 = group * lanes;
    for (int r = 0; r < lanes; r++) {
        if (s->row0 + r >= p->rows) {
            s->thr[r] = INFINITY;
            continue;
        }
        double qn = p->q_norm[s->head * p->groups * lanes + s->row0 + r];
        if (qn > q_top) q_top = qn;
        /* The weighted row has two roundings more than the stored one; the constant covers products that underflow. */
        s->err[r] = (reattn__dot_error(p->D) + (s->weight ? 4e-7 : 0)) * qn * norm + 1e-40;
        set_threshold(s, r, hits_of(p, s->split, s->head, s->row0 + r));
    }
    if (q_top * norm < (double)FLT_MAX / 4) {
        const float *qt = p->qt + (s->head * p->groups + group) * p->D * lanes;
        int n_row = (int)REATTN__MIN((int64_t)lanes, p->rows - s->row0);
        int n_block = (s->n_key + REATTN__BLOCK - 1) / REATTN__BLOCK;
        if (!k) p->cpu->scan_f16(qt, n_row, s->block, n_block, p->D, s->thr, on_hit, s);
        else if (p->few) p->cpu->scan_few(qt, n_row, k, s->n_key, p->D, s->thr, on_hit, s);
        else p->cpu->scan(qt, k, s->n_key, p->D, s->thr, on_hit, s);
        return;
    }
    /* The f32 scores could overflow: score every pair by the law. */
    for (int key = s->skip; key < s->n_key; key++)
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

static int scan_task(void *ctx, int64_t task, int worker)
{
    plan *p = ctx;
    const reattn__topk_args *a = p->a;
    double weight[REATTN__TILE];
    float *k = p->tiles + worker * p->tile_floats, *scratch = k + (int64_t)REATTN__TILE * p->D;
    scan_state s = {.p = p, .split = task % p->splits};
    int64_t block = task / p->splits % p->blocks;
    int64_t lo = a->lo + s.split * p->split_keys, hi = REATTN__MIN(a->hi, lo + p->split_keys);
    int64_t end = REATTN__MIN(p->groups, (block + 1) * GROUPS);
    s.head = (int)(task / p->splits / p->blocks);
    s.weight = a->against == REATTN__KEYS_TIMES_L1 || a->against == REATTN__KEYS_TIMES_L2 ? weight : NULL;

    int64_t row_end = REATTN__MIN(p->rows, end * p->lanes);
    for (int64_t row = block * GROUPS * p->lanes; row < row_end; row++) {
        reattn_hit *list = hits_of(p, s.split, s.head, row);
        for (int i = 0; i < a->top_k; i++) list[i] = (reattn_hit){-1, 0};
    }
    for (int64_t at = lo; at < hi;) {
        reattn__stretch stretch;
        const float *scanned = NULL;
        double norm;
        s.skip = 0;
        s.first = at;
        if (p->f16 && reattn__store_stretch(a->src.store, a->src.layer, s.head, at, &stretch)) {
            s.skip = (int)(at % REATTN__BLOCK);
            s.first = at - s.skip;
            s.n_key = (int)REATTN__MIN((int64_t)stretch.n_block * REATTN__BLOCK, hi - s.first);
            s.block = stretch.k;
            norm = (double)stretch.norm;
        } else {
            s.n_key = (int)REATTN__MIN((int64_t)REATTN__TILE, hi - at);
            s.k = k;
            read_tile(p, s.head, at, s.n_key, k, scratch, weight, &scanned);
            norm = tile_norm(scanned, s.n_key, p->D);
        }
        for (int64_t group = block * GROUPS; group < end; group++) scan_group(&s, scanned, norm, group);
        at = s.first + s.n_key;
    }
    atomic_fetch_add(&p->rescored, s.rescored);
    return REATTN_OK;
}

/* The k-th best score of the row's seeds: at least k keys score that much, so nothing below can win. */
static double floor_of(const plan *p, int head, int64_t row)
{
    const reattn__topk_args *a = p->a;
    const reattn_hit *seeds = a->seeds + ((row / p->g) * a->H + (int64_t)head * p->g + row % p->g) * a->top_k;
    double least = INFINITY;
    float key[512];
    for (int i = 0; i < a->top_k; i++) {
        if (seeds[i].pos < a->lo || seeds[i].pos >= a->hi) return -INFINITY;
        reattn__source_k(&a->src, head, seeds[i].pos, 1, key, 1);
        least = fmin(least, score_of(query_of(p, head, row), key, 1, p->D, NULL));
    }
    return least;
}

/* Packs the queries of a KV head into groups, and takes their norms and floors. Rows beyond the last are zero. */
static int pack_task(void *ctx, int64_t task, int worker)
{
    plan *p = ctx;
    int lanes = p->lanes, head = (int)(task / p->groups);
    int64_t group = task % p->groups;
    float *qt = p->qt + task * p->D * lanes;
    (void)worker;
    for (int r = 0; r < lanes; r++) {
        int64_t row = group * lanes + r;
        const float *q = row < p->rows ? query_of(p, head, row) : NULL;
        double sum = 0;
        for (int d = 0; d < p->D; d++) {
            float x = q ? q[d] : 0;
            qt[p->few ? (int64_t)r * p->D + d : (int64_t)d * lanes + r] = x;
            sum += (double)x * (double)x;
        }
        p->q_norm[task * lanes + r] = sqrt(sum) * (1 + 1e-12);
        p->floor[task * lanes + r] = q && p->a->seeds && p->a->against == REATTN__KEYS ? floor_of(p, head, row) : -INFINITY;
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

static void cut_work(plan *p)
{
    const reattn__topk_args *a = p->a;
    p->Hk = a->src.Hk;
    p->g = a->H / p->Hk;
    p->D = a->against == REATTN__VALUES ? a->src.Dv : a->src.D;
    p->Dv = a->src.Dv;
    p->rows = a->T * p->g;
    p->few = p->rows <= 2 * REATTN__FEW;
    p->f16 = p->few && a->src.store && a->against == REATTN__KEYS;
    p->lanes = p->few ? REATTN__FEW : p->cpu->lanes;
    p->groups = (p->rows + p->lanes - 1) / p->lanes;
    p->blocks = (p->groups + GROUPS - 1) / GROUPS;
    p->splits = 1;
    int64_t keys = a->hi - a->lo, tasks = p->Hk * p->blocks;
    if (tasks < TASKS_WANTED) {
        int64_t most = REATTN__MAX(1, keys / KEYS_MIN);
        p->splits = REATTN__MIN(most, (TASKS_WANTED + tasks - 1) / tasks);
    }
    p->split_keys = (keys + p->splits - 1) / p->splits;
    p->tile_floats = (int64_t)REATTN__TILE * (2 * p->D + p->Dv); /* the tile, the weighted tile, the values */
}

/* Places the parts of the work buffer; returns its size. */
static size_t place(plan *p, unsigned char *base)
{
    int64_t lists = p->a->T * p->a->H, rows = p->Hk * p->groups * p->lanes;
    size_t at = 0;
    REATTN__PLACE(p->qt, rows * p->D);
    REATTN__PLACE(p->q_norm, rows);
    REATTN__PLACE(p->floor, rows);
    REATTN__PLACE(p->tiles, p->a->n_threads * p->tile_floats);
    if (p->splits > 1) REATTN__PLACE(p->part, p->splits * lists * p->a->top_k);
    else p->part = p->a->hits;
    return at;
}

int reattn__topk(const reattn__topk_args *a, reattn_error *err)
{
    plan p = {.a = a, .cpu = reattn__cpu()};
    if (a->hi <= a->lo || a->T == 0) {
        for (int64_t i = 0; i < a->T * a->H * a->top_k; i++) a->hits[i] = (reattn_hit){-1, 0};
        return REATTN_OK;
    }
    cut_work(&p);
    size_t bytes = place(&p, NULL);
    unsigned char *base = reattn__buffer_need(a->work, bytes);
    if (!base) return reattn__fail(err, REATTN_E_NOMEM, "out of memory: selection needs %zu bytes of scratch", bytes);
    place(&p, base);
    /* A little work is done sooner than a thread is woken. */
    bool small = p.Hk * p.rows * (a->hi - a->lo) < 8 * KEYS_MIN;
    reattn__parallel(p.rows < 64 ? 1 : a->n_threads, p.Hk * p.groups, pack_task, &p);
    int code = reattn__parallel(small ? 1 : a->n_threads, p.Hk * p.blocks * p.splits, scan_task, &p);
    if (p.splits > 1) join_splits(&p);
    if (a->rescored) *a->rescored += atomic_load(&p.rescored);
    return code;
}
