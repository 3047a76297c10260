/* mass.c - how much of a step's attention each key of one run got: the sum, over the queries, of its probability.
 *
 * Attention itself never knows a probability before its last key; with lse known, a second look at the keys that are
 * asked for gives them all, one tile after the other, each tile by one task. Nothing here runs unless it is asked for.
 * Many queries: lane groups of one query head each, so that what a key got is a sum of lanes. Few: a KV head's rows. */
#include <math.h>
#include <string.h>

#include "attend.h"
#include "attend/join.h"
#include "attend/layout.h"
#include "base/place.h"
#include "cpu/kernels.h"

typedef struct work {
    const reattn__attend_args *a;
    const reattn__kernels *cpu;
    int g, D, lanes;
    bool few;
    int64_t rows, groups;    /* of a query head (few: of a KV head); how many kernel calls they take */
    int64_t count;           /* keys of the run */
    int64_t n_tile;          /* of the longest list */
    reattn__run_list *runs;  /* [n_list] the run alone */
    reattn__layout *layouts; /* [n_list] */
    float *q, *lse;          /* [H, few: Hk][groups] of [D][lanes] and [lanes], few: [lanes][D] */
    float *k, *angles, *sum; /* of each thread: [D][TILE], [D][TILE], [TILE][lanes] */
} work;

/* How the heads of a list rotate. */
static reattn__rope_table *rope_of(const work *w, int list)
{
    return w->runs[list].rope ? w->runs[list].rope : w->a->rope;
}

static int heads(const work *w)
{
    return w->few ? w->a->src.Hk : w->a->H;
}

/* Query and head of a row. */
static int64_t query_of(const work *w, int64_t row)
{
    return w->few ? row / w->g : row;
}
static int head_of(const work *w, int head, int64_t row)
{
    return w->few ? head * w->g + (int)(row % w->g) : head;
}

static int pack_task(void *ctx, int64_t task, int worker)
{
    work *w = ctx;
    const reattn__attend_args *a = w->a;
    int head = (int)(task / w->groups), kv = w->few ? head : head / w->g, list = a->n_list == 1 ? 0 : kv;
    const reattn__layout *l = &w->layouts[list];
    const reattn__rotation *rot = l->n_rotation > 0 ? &l->rotations[0] : NULL;
    const reattn__rope_table *table = rope_of(w, list);
    float *q = w->q + task * w->D * w->lanes, *lse = w->lse + task * w->lanes, row[512];
    (void)worker;
    for (int r = 0; r < w->lanes; r++) {
        int64_t at = task % w->groups * w->lanes + r, t = query_of(w, at);
        memset(row, 0, sizeof row);
        lse[r] = INFINITY;
        float scale = a->scale * REATTN__LOG2_E;
        if (at < w->rows && rot && t >= rot->t_min && t < rot->t_end) {
            int64_t from = t * a->H + head_of(w, head, at), pos = (rot->q_pos + t * rot->q_step) / rot->q_div;
            memcpy(row, a->q + from * w->D, (size_t)w->D * sizeof *row);
            reattn__rope_row(&table->rope, table->cs + pos * table->rope.n_rot, row);
            if (a->q_scale) scale *= a->q_scale[t];
            if (a->lse[from] > -INFINITY) lse[r] = a->lse[from] * REATTN__LOG2_E;
        }
        for (int d = 0; d < w->D; d++) q[w->few ? r * w->D + d : d * w->lanes + r] = row[d] * scale;
    }
    return REATTN_OK;
}

/* Which of the tile's keys each row of a group sees; false if none sees any. */
static bool visible(const work *w, const reattn__tile_info *tile, int64_t group, int32_t *lo, int32_t *hi)
{
    bool some = false;
    for (int r = 0; r < w->lanes; r++) {
        int64_t at = group * w->lanes + r;
        int64_t t = query_of(w, at), back = w->a->q_first + t - tile->token; /* distance to the tile's first key */
        lo[r] = 0;
        hi[r] = at < w->rows ? tile->count : 0;
        if (at < w->rows && !tile->whole) {
            int64_t from = back > tile->dist_max ? back - tile->dist_max : 0;
            lo[r] = (int32_t)REATTN__MIN(from, (int64_t)tile->count);
            hi[r] = back < tile->dist_min ? 0 : (int32_t)REATTN__MIN(back - tile->dist_min + 1, (int64_t)tile->count);
        }
        if (t < tile->t_min || t >= tile->t_end) hi[r] = 0;
        some |= lo[r] < hi[r];
    }
    return some;
}

/* Adds up what a tile's keys got of one head of `heads`: sum [TILE][lanes], few: [lanes][TILE]. */
static void sum_tile(const work *w, int head, const reattn__tile_info *tile, const float *k, float *sum)
{
    int32_t lo[REATTN__LANES_MAX], hi[REATTN__LANES_MAX];
    memset(sum, 0, (size_t)(REATTN__TILE * w->lanes * (w->few ? w->groups : 1)) * sizeof *sum);
    for (int64_t group = 0; group < w->groups; group++) {
        if (!visible(w, tile, group, lo, hi)) continue;
        int64_t at = head * w->groups + group;
        const reattn__mass_tile args = {
            .q = w->q + at * w->D * w->lanes,
            .k = k,
            .n_key = tile->count,
            .n_row = (int)REATTN__MIN((int64_t)w->lanes, w->rows - group * w->lanes),
            .D = w->D,
            .lo = lo,
            .hi = hi,
            .lse = w->lse + at * w->lanes,
            .sum = sum + (w->few ? group * w->lanes * REATTN__TILE : 0),
        };
        if (w->few) w->cpu->mass_few(&args);
        else w->cpu->mass(&args);
    }
}

/* What key `column` of the tile got of query head j of the group: rows in order. */
static float total(const work *w, const float *sum, int64_t column, int j)
{
    float all = 0;
    if (w->few)
        for (int64_t row = j; row < w->rows; row += w->g) all += sum[row * REATTN__TILE + column];
    else
        for (int lane = 0; lane < w->lanes; lane++) all += sum[column * w->lanes + lane];
    return all;
}

static int tile_task(void *ctx, int64_t task, int worker)
{
    work *w = ctx;
    const reattn__attend_args *a = w->a;
    int kv = (int)(task / w->n_tile), list = a->n_list == 1 ? 0 : kv;
    const reattn__layout *l = &w->layouts[list];
    if (task % w->n_tile >= l->n_tile) return REATTN_OK;
    const reattn__tile_info *tile = &l->tiles[task % w->n_tile];
    float *k = w->k + (int64_t)worker * w->D * REATTN__TILE;
    float *sum = w->sum + (int64_t)worker * REATTN__TILE * w->lanes * (w->few ? w->groups : 1);
    float *angles = w->angles + (int64_t)worker * w->D * REATTN__TILE;
    int64_t first = reattn__layout_find(l, tile), end = first;
    for (; end < l->n_piece && l->pieces[end].row < tile->row + tile->count; end++) {
        const reattn__piece *piece = &l->pieces[end];
        reattn__source_k(&a->src, kv, piece->token, piece->count, k + piece->row - tile->row, REATTN__TILE);
        reattn__layout_turn(rope_of(w, list), piece, k + piece->row - tile->row, angles);
    }
    for (int j = 0; j < w->g; j++) {
        if (j == 0 || !w->few) sum_tile(w, w->few ? kv : kv * w->g + j, tile, k, sum);
        float *mass = a->mass + (kv * w->g + j) * w->count - w->runs[list].runs->first;
        for (int64_t i = first; i < end; i++)
            for (int64_t c = 0; c < l->pieces[i].count; c++)
                mass[l->pieces[i].token + c] = total(w, sum, l->pieces[i].row - tile->row + c, j);
    }
    return REATTN_OK;
}

/* The run alone, laid out as attention lays it out. Lives in the first work buffer. */
static int lay_out(work *w, reattn_error *err)
{
    const reattn__attend_args *a = w->a;
    size_t n = (size_t)a->n_list, pieces = 0;
    for (int i = 0; i < a->n_list; i++) {
        const reattn__run_list one = {.runs = a->lists[i].runs + a->mass_run, .n = 1};
        pieces += (size_t)reattn__layout_pieces_max(&one);
    }
    size_t bytes = n * (sizeof *w->layouts + sizeof *w->runs + sizeof(reattn__rotation)) +
                   pieces * (sizeof(reattn__piece) + sizeof(reattn__tile_info));
    unsigned char *at = reattn__buffer_need(&a->work[0], bytes);
    if (!at) return reattn__fail(err, REATTN_E_NOMEM, "out of memory: a plan needs %zu bytes", bytes);
    w->layouts = (reattn__layout *)at;
    w->runs = (reattn__run_list *)(w->layouts + n);
    reattn__rotation *rotations = (reattn__rotation *)(w->runs + n);
    reattn__piece *piece = (reattn__piece *)(rotations + n);
    reattn__tile_info *tile = (reattn__tile_info *)(piece + pieces);
    int64_t max_pos = 0;
    for (int i = 0; i < a->n_list; i++) {
        w->runs[i] = a->lists[i];
        w->runs[i].runs += a->mass_run;
        w->runs[i].n = 1;
        int64_t room = reattn__layout_pieces_max(&w->runs[i]);
        w->layouts[i] = (reattn__layout){.pieces = piece, .tiles = tile, .rotations = rotations + i};
        piece += room;
        tile += room;
        int code = reattn__layout_build(&w->runs[i], a->q_first, a->T, &w->layouts[i], err);
        if (code != REATTN_OK) return code;
        w->n_tile = REATTN__MAX(w->n_tile, w->layouts[i].n_tile);
        if (w->runs[i].rope) code = reattn__rope_table_need(w->runs[i].rope, w->layouts[i].max_pos + 1, err);
        else max_pos = REATTN__MAX(max_pos, w->layouts[i].max_pos);
        if (code != REATTN_OK) return code;
    }
    return reattn__rope_table_need(a->rope, max_pos + 1, err);
}

static size_t place(work *w, unsigned char *base)
{
    size_t at = 0;
    int64_t calls = heads(w) * w->groups, threads = w->a->n_threads;
    REATTN__PLACE(w->q, calls * w->D * w->lanes);
    REATTN__PLACE(w->lse, calls * w->lanes);
    REATTN__PLACE(w->k, threads * w->D * REATTN__TILE);
    REATTN__PLACE(w->angles, threads * w->D * REATTN__TILE);
    REATTN__PLACE(w->sum, threads * REATTN__TILE * w->lanes * (w->few ? w->groups : 1));
    return at;
}

int reattn__attend_mass(const reattn__attend_args *a, reattn_error *err)
{
    work w = {.a = a, .cpu = reattn__cpu(), .g = a->H / a->src.Hk, .D = a->src.D};
    for (int i = 0; i < a->n_list; i++)
        if (a->mass_run < 0 || a->mass_run >= a->lists[i].n || !a->lse ||
            a->lists[i].runs[a->mass_run].count != a->lists[0].runs[a->mass_run].count)
            return reattn__fail(err, REATTN_E_ARG, "mass of run %lld, which list %d does not have like the others",
                                (long long)a->mass_run, i);
    w.count = REATTN__MAX(a->lists[0].runs[a->mass_run].count, (int64_t)0);
    memset(a->mass, 0, (size_t)(a->H * w.count) * sizeof *a->mass);
    int code = lay_out(&w, err);
    if (code != REATTN_OK || w.n_tile == 0) return code;
    w.few = a->T * w.g <= 2 * REATTN__FEW;
    w.lanes = w.few ? REATTN__FEW : w.cpu->lanes;
    w.rows = w.few ? a->T * w.g : a->T;
    w.groups = (w.rows + w.lanes - 1) / w.lanes;
    size_t bytes = place(&w, NULL);
    unsigned char *base = reattn__buffer_need(&a->work[1], bytes);
    if (!base) return reattn__fail(err, REATTN_E_NOMEM, "out of memory: attention needs %zu bytes of scratch", bytes);
    place(&w, base);
    int n_threads = a->T < 16 && w.n_tile < 16 ? 1 : a->n_threads;
    reattn__parallel(n_threads, heads(&w) * w.groups, pack_task, &w);
    return reattn__parallel(n_threads, a->src.Hk * w.n_tile, tile_task, &w);
}
