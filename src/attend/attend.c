/* attend.c - flash attention over a plan's runs.
 *
 * 1. layout: each list of runs becomes tiles of up to REATTN__TILE keys.
 * 2. pack: the queries are rotated and packed into lane groups, the scale (times log2 e) folded in.
 * 3. For each segment of the tiles: the keys and values are read once, as f32, the keys rotated (prepare), then every
 *    block of lane groups folds the segment's tiles into its running state (fold). Segments bound the scratch: it does
 *    not grow with the text, whatever the plan.
 * 4. finish: states are joined and divided.
 * Split keys are attended to in 16-bit integers where the CPU multiplies those faster. Few queries (decode) on split
 * keys have a way of their own (stream.c); on others the tiles are dealt to several states, by number, so that all
 * cores have work and the result does not depend on how many there are. */
#include "attend.h"

#include <math.h>
#include <string.h>

#include "attend/join.h"
#include "attend/layout.h"
#include "attend/stream.h"
#include "base/place.h"
#include "cpu/kernels.h"
#include "kv/block.h"

enum {
    GROUPS = 8,          /* lane groups of one task: they share the tile while it is in the cache */
    SEGMENT_TILES = 128, /* tiles of a segment */
    TASKS_WANTED = 16,
    PART_TILES = 8 /* tiles of one state at least, when they are dealt */
};

typedef struct work {
    const reattn__attend_args *a;
    const reattn__kernels *cpu;
    int Hk, g, D, Dv, n_rotation;
    bool few;  /* so few rows that vectors run along the keys */
    int lanes; /* rows of a group */
    int64_t rows, groups, blocks, parts;
    int64_t n_tile; /* tiles of the longest list */
    reattn__layout *layouts; /* [n_list] */
    float *qt;               /* [n_rotation][Hk][groups][D][lanes], few: [lanes][D] */
    float *k, *v;            /* [Hk][SEGMENT_TILES][D][TILE], [Hk][SEGMENT_TILES][TILE][Dv]; in16: a thread's, [1] */
    bool in16;               /* in 16-bit integers (kernels.h), for split keys: not qt, k, v, but */
    int Dh;                  /* D / 2, rounded up */
    int16_t *q16;            /* [n_rotation][Hk][groups][Dh][lanes][2] */
    float *q_scale;          /* [n_rotation][Hk][groups][lanes] */
    int16_t *k16, *v16;      /* [Hk][SEGMENT_TILES][Dh][TILE][2], [Hk][SEGMENT_TILES][TILE / 2][Dv][2] */
    float *tile_scale;       /* [Hk][SEGMENT_TILES][2] of keys, of values */
    float *state;            /* [parts][Hk][groups][state_floats] */
    float *p;                /* [n_threads][2 TILE][lanes] */
    float *turn;             /* [n_threads][2][n_rot / 2][TILE] angles of keys whose positions do not run by one */
    int64_t state_floats;
    int64_t tile0, tile1; /* tiles of the segment at hand, the same numbers in every list */
} work;

static const reattn__layout *layout_of(const work *w, int head)
{
    return &w->layouts[w->a->n_list == 1 ? 0 : head];
}

static reattn__rope_table *rope_of(const work *w, int head)
{
    reattn__rope_table *own = w->a->lists[w->a->n_list == 1 ? 0 : head].rope;
    return own ? own : w->a->rope;
}

/* A state: o [Dv][lanes] (few: [lanes][Dv]), m [lanes], l [lanes]. */
static float *state_of(const work *w, int64_t part, int head, int64_t group)
{
    return w->state + ((part * w->Hk + head) * w->groups + group) * w->state_floats;
}

/* A rotated row as lane r of a group of integers. */
static void pack_row16(const work *w, int64_t task, int r, const float *row, float scale)
{
    int16_t *q = w->q16 + task * w->Dh * w->lanes * 2;
    float square = 0;
    for (int d = 0; d < w->D; d++) square += row[d] * row[d];
    float size = sqrtf(square), inverse = size > 1e-30f ? REATTN__QUERY16 / size : 0;
    w->q_scale[task * w->lanes + r] = size / REATTN__QUERY16 * scale;
    for (int d = 0; d < 2 * w->Dh; d++)
        q[(d / 2 * w->lanes + r) * 2 + d % 2] = d < w->D ? (int16_t)rintf(row[d] * inverse) : 0;
}

static int pack_task(void *ctx, int64_t task, int worker)
{
    work *w = ctx;
    int lanes = w->lanes, d_step = w->few ? 1 : lanes, r_step = w->few ? w->D : 1;
    int64_t group = task % w->groups;
    int head = (int)(task / w->groups % w->Hk), rotation = (int)(task / w->groups / w->Hk);
    const reattn__layout *layout = layout_of(w, head);
    const reattn__rope_table *table = rope_of(w, head);
    const reattn_rope *rope = &table->rope;
    float *qt = w->qt + task * w->D * lanes, row[4096];
    const reattn__rotation *rot = rotation < layout->n_rotation ? &layout->rotations[rotation] : NULL;
    (void)worker;
    for (int r = 0; r < lanes; r++) {
        int64_t at = group * lanes + r, t = at / w->g;
        float scale = w->a->scale * REATTN__LOG2_E;
        memset(row, 0, (size_t)w->D * sizeof *row);
        if (at < w->rows && rot && t >= rot->t_min && t < rot->t_end) {
            memcpy(row, w->a->q + (t * w->a->H + (int64_t)head * w->g + at % w->g) * w->D, (size_t)w->D * sizeof *row);
            reattn__rope_row(rope, table->cs + (rot->q_pos + t * rot->q_step) / rot->q_div * rope->n_rot, row);
            if (w->a->q_scale) scale *= w->a->q_scale[t];
        }
        if (w->in16) {
            pack_row16(w, task, r, row, scale);
            continue;
        }
        for (int d = 0; d < w->D; d++) qt[d * d_step + r * r_step] = row[d] * scale;
    }
    return REATTN_OK;
}

/* Reads and rotates one head's tile into place `slot` of the segment. */
static void prepare(const work *w, int head, int64_t number, int64_t slot, int worker)
{
    const reattn__layout *l = layout_of(w, head);
    const reattn__tile_info *tile = &l->tiles[number];
    int64_t at = (int64_t)head * SEGMENT_TILES + slot, room = w->in16 ? worker : at;
    float *k = w->k + room * w->D * REATTN__TILE, *v = w->v + room * w->Dv * REATTN__TILE;
    float *angles = w->turn + (int64_t)worker * w->D * REATTN__TILE;
    for (int64_t i = reattn__layout_find(l, tile); i < l->n_piece && l->pieces[i].row < tile->row + tile->count; i++) {
        const reattn__piece *piece = &l->pieces[i];
        int64_t column = piece->row - tile->row;
        reattn__source_k(&w->a->src, head, piece->token, piece->count, k + column, REATTN__TILE);
        reattn__source_v(&w->a->src, head, piece->token, piece->count, v + column * w->Dv);
        reattn__layout_turn(rope_of(w, head), piece, k + column, angles);
    }
    if (!w->in16) return;
    w->cpu->pack_keys(k, tile->count, w->D, w->k16 + at * w->Dh * REATTN__TILE * 2, w->tile_scale + 2 * at);
    w->cpu->pack_values(v, tile->count, w->Dv, w->v16 + at * w->Dv * REATTN__TILE, w->tile_scale + 2 * at + 1);
}

static int prepare_task(void *ctx, int64_t task, int worker)
{
    const work *w = ctx;
    int64_t n = w->tile1 - w->tile0, number = w->tile0 + task % n;
    int head = (int)(task / n);
    if (number < layout_of(w, head)->n_tile) prepare(w, head, number, task % n, worker);
    return REATTN_OK;
}

/* Which of the tile's keys each lane sees; false if none sees any. */
static bool visible(const work *w, const reattn__tile_info *tile, int64_t group, int32_t *lo, int32_t *hi)
{
    int lanes = w->lanes;
    bool some = false;
    for (int r = 0; r < lanes; r++) {
        int64_t row = REATTN__MIN(group * lanes + r, w->rows - 1), t = row / w->g;
        int64_t back = w->a->q_first + t - tile->token; /* distance to the tile's first key */
        int64_t from = back > tile->dist_max ? back - tile->dist_max : 0;
        int64_t to = back < tile->dist_min ? 0 : REATTN__MIN(back - tile->dist_min + 1, (int64_t)tile->count);
        if (t < tile->t_min || t >= tile->t_end) to = 0;
        lo[r] = (int32_t)REATTN__MIN(from, (int64_t)tile->count);
        hi[r] = (int32_t)to;
        some |= lo[r] < hi[r];
    }
    return some;
}

static void fold16(const work *w, const reattn__tile_info *info, int64_t slot, int64_t queries, const int32_t *lo,
                   const int32_t *hi, float *state, int worker)
{
    const reattn__many16 tile = {
        .q = w->q16 + queries * w->Dh * w->lanes * 2, .q_scale = w->q_scale + queries * w->lanes,
        .k = w->k16 + slot * w->Dh * REATTN__TILE * 2, .v = w->v16 + slot * w->Dv * REATTN__TILE,
        .k_scale = w->tile_scale[2 * slot], .v_scale = w->tile_scale[2 * slot + 1],
        .n_key = info->count, .Dh = w->Dh, .Dv = w->Dv, .lo = lo, .hi = hi,
        .o = state, .m = state + (int64_t)w->Dv * w->lanes, .l = state + (int64_t)(w->Dv + 1) * w->lanes,
        .p = w->p + (int64_t)worker * 2 * REATTN__TILE * w->lanes,
    };
    w->cpu->attend16(&tile);
}

static int fold_task(void *ctx, int64_t task, int worker)
{
    work *w = ctx;
    int lanes = w->lanes;
    int64_t part = task % w->parts, block = task / w->parts % w->blocks;
    int head = (int)(task / w->parts / w->blocks);
    int64_t end = REATTN__MIN(w->groups, (block + 1) * GROUPS);
    const reattn__layout *l = layout_of(w, head);
    int64_t tile1 = REATTN__MIN(w->tile1, l->n_tile);
    int32_t lo[REATTN__LANES_MAX], hi[REATTN__LANES_MAX];
    for (int64_t i = w->tile0 + part; i < tile1; i += w->parts) {
        const reattn__tile_info *info = &l->tiles[i];
        int64_t slot = (int64_t)head * SEGMENT_TILES + i - w->tile0;
        if (w->blocks == 1) prepare(w, head, i, i - w->tile0, worker);
        for (int64_t group = block * GROUPS; group < end; group++) {
            if (!info->whole && !visible(w, info, group, lo, hi)) continue;
            float *state = state_of(w, part, head, group);
            int64_t queries = (info->rotation * w->Hk + head) * w->groups + group;
            if (w->in16) {
                fold16(w, info, slot, queries, info->whole ? NULL : lo, hi, state, worker);
                continue;
            }
            reattn__tile tile = {
                .q = w->qt + queries * w->D * lanes,
                .k = w->k + slot * w->D * REATTN__TILE,
                .v = w->v + slot * w->Dv * REATTN__TILE,
                .n_key = info->count,
                .n_row = (int)REATTN__MIN((int64_t)lanes, w->rows - group * lanes),
                .D = w->D,
                .Dv = w->Dv,
                .lo = info->whole ? NULL : lo,
                .hi = info->whole ? NULL : hi,
                .o = state,
                .m = state + (int64_t)w->Dv * lanes,
                .l = state + (int64_t)(w->Dv + 1) * lanes,
                .p = w->p + (int64_t)worker * 2 * REATTN__TILE * lanes,
            };
            if (w->few) w->cpu->attend_few(&tile);
            else w->cpu->attend(&tile);
        }
    }
    return REATTN_OK;
}

static int clear_task(void *ctx, int64_t task, int worker)
{
    work *w = ctx;
    int lanes = w->lanes;
    float *state = w->state + task * w->state_floats;
    (void)worker;
    memset(state, 0, (size_t)w->state_floats * sizeof *state);
    for (int r = 0; r < lanes; r++) state[(int64_t)w->Dv * lanes + r] = -INFINITY;
    return REATTN_OK;
}

/* Joins the parts' states of one lane group, in order, and writes its rows. */
static int finish_task(void *ctx, int64_t task, int worker)
{
    work *w = ctx;
    int lanes = w->lanes, head = (int)(task / w->groups);
    int d_step = w->few ? 1 : lanes, r_step = w->few ? w->Dv : 1;
    int64_t group = task % w->groups;
    (void)worker;
    for (int r = 0; r < lanes && group * lanes + r < w->rows; r++) {
        int64_t row = group * lanes + r;
        int64_t at = row / w->g * w->a->H + (int64_t)head * w->g + row % w->g;
        const float *state = state_of(w, 0, head, group), *m = state + (int64_t)w->Dv * lanes + r;
        reattn__join_row(state + r * r_step, m, m + lanes, w->parts, w->Hk * w->groups * w->state_floats, d_step, w->Dv,
                         w->a->out + at * w->Dv, w->a->lse ? w->a->lse + at : NULL);
    }
    return REATTN_OK;
}

/* Lays the runs out. The layouts live in the first work buffer. */
static int lay_out(work *w, reattn_error *err)
{
    const reattn__attend_args *a = w->a;
    size_t bytes = (size_t)a->n_list * sizeof *w->layouts;
    for (int i = 0; i < a->n_list; i++) {
        size_t pieces = (size_t)reattn__layout_pieces_max(&a->lists[i]);
        bytes += pieces * (sizeof(reattn__piece) + sizeof(reattn__tile_info)) +
                 (size_t)a->lists[i].n * sizeof(reattn__rotation);
    }
    unsigned char *at = reattn__buffer_need(&a->work[0], bytes);
    if (!at) return reattn__fail(err, REATTN_E_NOMEM, "out of memory: a plan needs %zu bytes", bytes);
    w->layouts = (reattn__layout *)at;
    at += (size_t)a->n_list * sizeof *w->layouts;
    int64_t max_pos = 0;
    for (int i = 0; i < a->n_list; i++) {
        reattn__layout *l = &w->layouts[i];
        size_t pieces = (size_t)reattn__layout_pieces_max(&a->lists[i]);
        l->pieces = (reattn__piece *)at;
        at += pieces * sizeof *l->pieces;
        l->tiles = (reattn__tile_info *)at;
        at += pieces * sizeof *l->tiles;
        l->rotations = (reattn__rotation *)at;
        at += (size_t)a->lists[i].n * sizeof *l->rotations;
        int code = reattn__layout_build(&a->lists[i], a->q_first, a->T, l, err);
        if (code != REATTN_OK) return code;
        w->n_rotation = REATTN__MAX(w->n_rotation, l->n_rotation);
        w->n_tile = REATTN__MAX(w->n_tile, l->n_tile);
        if (a->lists[i].rope) code = reattn__rope_table_need(a->lists[i].rope, l->max_pos + 1, err);
        else max_pos = REATTN__MAX(max_pos, l->max_pos);
        if (code != REATTN_OK) return code;
    }
    return reattn__rope_table_need(a->rope, max_pos + 1, err);
}

static size_t place(work *w, unsigned char *base)
{
    int lanes = w->lanes;
    size_t at = 0;
    int64_t queries = w->n_rotation * w->Hk * w->groups, tiles = (int64_t)w->Hk * SEGMENT_TILES;
    int64_t plain = w->in16 ? w->a->n_threads : tiles;
    REATTN__PLACE(w->k, plain * REATTN__TILE * w->D);
    REATTN__PLACE(w->v, plain * REATTN__TILE * w->Dv);
    if (w->in16) {
        REATTN__PLACE(w->q16, queries * w->Dh * lanes * 2);
        REATTN__PLACE(w->q_scale, queries * lanes);
        REATTN__PLACE(w->k16, tiles * w->Dh * REATTN__TILE * 2);
        REATTN__PLACE(w->v16, tiles * REATTN__TILE * w->Dv);
        REATTN__PLACE(w->tile_scale, tiles * 2);
    } else {
        REATTN__PLACE(w->qt, queries * w->D * lanes);
    }
    REATTN__PLACE(w->state, w->parts * w->Hk * w->groups * w->state_floats);
    REATTN__PLACE(w->p, (int64_t)w->a->n_threads * 2 * REATTN__TILE * lanes);
    REATTN__PLACE(w->turn, (int64_t)w->a->n_threads * REATTN__TILE * w->D);
    return at;
}

/* What follows from the shape of the step. */
static void cut_work(work *w, int64_t n_tile)
{
    const reattn__attend_args *a = w->a;
    w->g = a->H / w->Hk;
    w->rows = a->T * w->g;
    w->few = w->rows <= 2 * REATTN__FEW;
    reattn__planes split;
    w->in16 = w->cpu->attend16 && !w->few && a->src.store &&
              reattn__store_planes(a->src.store, a->src.layer, 0, 0, &split);
    w->Dh = (w->D + 1) / 2;
    w->lanes = w->few ? REATTN__FEW : w->cpu->lanes;
    w->groups = (w->rows + w->lanes - 1) / w->lanes;
    w->blocks = (w->groups + GROUPS - 1) / GROUPS;
    w->state_floats = (int64_t)(w->Dv + 2) * w->lanes;
    int64_t tasks = w->Hk * w->blocks;
    w->parts = 1;
    if (tasks < TASKS_WANTED)
        w->parts = REATTN__MAX(1, REATTN__MIN((TASKS_WANTED + tasks - 1) / tasks, n_tile / PART_TILES));
}

uint64_t reattn__attend_scratch(const reattn__layer *layer, int64_t T, int n_threads)
{
    reattn__attend_args a = {.T = T, .H = layer->H, .n_threads = n_threads};
    work w = {.a = &a, .cpu = reattn__cpu(), .Hk = layer->Hk, .D = layer->D, .Dv = layer->Dv, .n_rotation = 1};
    cut_work(&w, SEGMENT_TILES);
    return place(&w, NULL);
}

static int attend(const reattn__attend_args *a, reattn_error *err)
{
    work w = {.a = a, .cpu = reattn__cpu(), .Hk = a->src.Hk, .D = a->src.D, .Dv = a->src.Dv};
    if (a->T == 0) return REATTN_OK;
    if (reattn__stream_can(a)) return reattn__stream(a, err);
    int code = lay_out(&w, err);
    if (code != REATTN_OK) return code;
    cut_work(&w, w.n_tile);

    size_t bytes = place(&w, NULL);
    unsigned char *base = reattn__buffer_need(&a->work[1], bytes);
    if (!base) return reattn__fail(err, REATTN_E_NOMEM, "out of memory: attention needs %zu bytes of scratch", bytes);
    place(&w, base);

    /* A few queries are packed sooner than a thread is woken. */
    int n_threads = w.rows < 64 ? 1 : a->n_threads;
    reattn__parallel(n_threads, w.n_rotation * w.Hk * w.groups, pack_task, &w);
    reattn__parallel(n_threads, w.parts * w.Hk * w.groups, clear_task, &w);
    for (w.tile0 = 0; w.tile0 < w.n_tile; w.tile0 = w.tile1) {
        w.tile1 = REATTN__MIN(w.n_tile, w.tile0 + SEGMENT_TILES);
        /* With one block of queries nobody shares a tile: whoever folds it prepares it. */
        if (w.blocks > 1) reattn__parallel(a->n_threads, w.Hk * (w.tile1 - w.tile0), prepare_task, &w);
        bool small = w.blocks == 1 && w.tile1 - w.tile0 < 2 * PART_TILES;
        reattn__parallel(small ? 1 : a->n_threads, w.Hk * w.blocks * w.parts, fold_task, &w);
    }
    reattn__parallel(n_threads, w.Hk * w.groups, finish_task, &w);
    return REATTN_OK;
}

int reattn__attend(const reattn__attend_args *a, reattn_error *err)
{
    int code = attend(a, err);
    return code == REATTN_OK && a->mass ? reattn__attend_mass(a, err) : code;
}
