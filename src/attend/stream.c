/* stream.c - decode: every tile of up to 64 tokens is read where it lies, its keys rotated already (turned.h), its
 * values as the store's halves.
 *
 * 1. ask for the blocks of all runs, turn those that are new;
 * 2. cut each list's tiles, in order, into a fixed number of parts: a task folds one part into a state of its own;
 * 3. join the states in order. The result does not depend on the number of threads. */
#include "stream.h"

#include <math.h>
#include <string.h>

#include "attend/join.h"
#include "attend/turned.h"
#include "base/place.h"
#include "cpu/kernels.h"

enum { TASKS_WANTED = 16, PART_TILES = 8, BLOCK = REATTN__BLOCK };

typedef struct work {
    const reattn__attend_args *a;
    const reattn__kernels *cpu;
    int g, D, Dh, Dv, rows; /* rows of a KV head */
    int64_t parts;
    float *q;       /* [Hk][rows][2 Dh] dimensions in the order of kept keys */
    float *q_size;  /* [Hk][rows] |q|, or what rotation can make of it */
    float *state;   /* [parts][Hk] of o [rows][Dv], m [rows], l [rows] */
    float *scratch; /* [n_threads][REATTN__FEW][REATTN__TILE] */
    int16_t *turned_q; /* [n_threads][rows][2 Dh] */
} work;

/* Tokens of a run from `token` on that make one tile: in one page, from a block's start, up to REATTN__TILE. */
static int64_t tile_end(const reattn_run *run, int64_t token)
{
    int64_t start = token / BLOCK * BLOCK, page = (token / REATTN__PAGE + 1) * REATTN__PAGE;
    return REATTN__MIN(REATTN__MIN(start + REATTN__TILE, page), run->first + run->count);
}

static int64_t count_tiles(const reattn__run_list *list)
{
    int64_t n = 0;
    for (int64_t i = 0; i < list->n; i++)
        for (int64_t at = list->runs[i].first; at < list->runs[i].first + list->runs[i].count; n++)
            at = tile_end(&list->runs[i], at);
    return n;
}

/* The position at which query t meets a page's kept keys, which sit at their places in the page. */
static int64_t query_pos(const reattn_run *run, int64_t t, int64_t page)
{
    return run->q_pos + t * run->q_step - (run->k_pos + page - run->first);
}

bool reattn__stream_can(const reattn__attend_args *a)
{
    reattn__planes planes;
    if (!a->turned || !a->src.store || a->T * (a->H / a->src.Hk) > 2 * REATTN__FEW ||
        !reattn__store_planes(a->src.store, a->src.layer, 0, 0, &planes) ||
        !reattn__store_half_values(a->src.store, a->src.layer, 0, 0))
        return false;
    for (int i = 0; i < a->n_list; i++) {
        if (a->lists[i].rope) return false; /* kept keys are rotated as the layer does it */
        for (int64_t r = 0; r < a->lists[i].n; r++) {
            const reattn_run *run = &a->lists[i].runs[r];
            int64_t last = (run->first + run->count - 1) / REATTN__PAGE * REATTN__PAGE;
            if (run->k_div > 1 || run->q_div > 1 || run->t_min > 0 || reattn__run_end(run, a->T) < a->T) return false;
            if (run->k_step != 1 || run->count < 0 || run->first < 0 || query_pos(run, 0, last) < 0 ||
                query_pos(run, a->T - 1, last) < 0)
                return false;
        }
    }
    return true;
}

/* Keeps the blocks of all runs, and makes the rotations reach every position that is met. */
static int keep_blocks(const reattn__attend_args *a, reattn_error *err)
{
    const reattn__layer *layer = reattn__store_shape(a->src.store, a->src.layer);
    int64_t n = 0, n_token = reattn__store_length(a->src.store, a->src.layer), top = REATTN__PAGE;
    for (int i = 0; i < a->n_list; i++) {
        for (int64_t r = 0; r < a->lists[i].n; r++) {
            const reattn_run *run = &a->lists[i].runs[r];
            int64_t page = run->first / REATTN__PAGE * REATTN__PAGE;
            n += run->count / BLOCK + 2;
            top = REATTN__MAX(top, REATTN__MAX(query_pos(run, 0, page), query_pos(run, a->T - 1, page)) + 1);
        }
    }
    int code = reattn__turned_begin(a->turned, layer, n, n_token, err);
    if (code == REATTN_OK) code = reattn__rope_table_need(a->rope, top, err);
    if (code != REATTN_OK) return code;
    for (int i = 0; i < a->n_list; i++) {
        for (int64_t r = 0; r < a->lists[i].n; r++) {
            const reattn_run *run = &a->lists[i].runs[r];
            for (int64_t b = run->first / BLOCK; b * BLOCK < run->first + run->count; b++)
                reattn__turned_ask(a->turned, b, n_token);
        }
    }
    reattn__turned_fill(a->turned, a->src.store, a->src.layer, a->rope, a->n_threads);
    return REATTN_OK;
}

/* Puts the queries' dimensions in the order of kept keys. */
static void pack(work *w)
{
    const reattn__attend_args *a = w->a;
    const reattn_rope *rope = &a->rope->rope;
    int pairs = rope->n_rot / 2, step = rope->kind == REATTN_ROPE_NEOX ? 1 : 2;
    int apart = rope->kind == REATTN_ROPE_NEOX ? pairs : 1;
    /* cos and sin carry a factor; pair 0 at position 0 shows it. */
    float factor = pairs ? fmaxf(1, fabsf(a->rope->cs[0])) : 1;
    for (int64_t i = 0; i < (int64_t)a->src.Hk * w->rows; i++) {
        int64_t head = i / w->rows, row = i % w->rows;
        const float *q = a->q + (row / w->g * a->H + head * w->g + row % w->g) * w->D;
        float *out = w->q + i * 2 * w->Dh;
        double square = 0;
        for (int p = 0; p < pairs; p++) {
            out[p] = q[p * step];
            out[pairs + p] = q[p * step + apart];
        }
        for (int d = 2 * pairs; d < 2 * w->Dh; d++) out[d] = d < w->D ? q[d] : 0;
        for (int d = 0; d < w->D; d++) square += (double)q[d] * (double)q[d];
        w->q_size[i] = (float)sqrt(square) * factor;
    }
}

/* A part's state of a head: o [rows][Dv], m [rows], l [rows]. */
static float *state_of(const work *w, int64_t part, int head)
{
    return w->state + (part * w->a->src.Hk + head) * w->rows * (w->Dv + 2);
}

/* Rotates a head's queries for a run's keys in a page. */
static void turn_queries(const work *w, int head, const reattn_run *run, int64_t page, int16_t *out)
{
    const reattn__rope_table *t = w->a->rope;
    int pairs = t->rope.n_rot / 2;
    for (int row = 0; row < w->rows; row++) {
        int64_t at = (int64_t)head * w->rows + row;
        const float *cs = t->cs + query_pos(run, row / w->g, page) * 2 * pairs;
        float size = w->q_size[at];
        w->cpu->turn_row(w->q + at * 2 * w->Dh, cs, cs + pairs, pairs, w->Dh,
                         size > 1e-30f ? REATTN__QUERY16 / size : 0, out + row * 2 * w->Dh);
    }
}

/* Folds tokens [token, end) of a run into the states of a part. `next` is the token at which the next tile begins. */
static void fold(const work *w, int64_t part, int head, const reattn_run *run, int64_t token, int64_t end, int64_t next,
                 const int16_t *q, int worker)
{
    const int16_t *k[REATTN__TILE / BLOCK];
    const float *scales[REATTN__TILE / BLOCK], *ignored;
    int64_t start = token / BLOCK * BLOCK;
    int n_block = (int)((end - start + BLOCK - 1) / BLOCK);
    for (int b = 0; b < n_block; b++) k[b] = reattn__turned_keys(w->a->turned, start / BLOCK + b, head, &scales[b]);
    for (int row0 = 0; row0 < w->rows; row0 += REATTN__FEW) {
        int n_row = REATTN__MIN(REATTN__FEW, w->rows - row0);
        int32_t lo[REATTN__FEW], hi[REATTN__FEW];
        float q_scale[REATTN__FEW], *o = state_of(w, part, head), *m = o + w->rows * w->Dv;
        bool some = false;
        for (int r = 0; r < n_row; r++) {
            int64_t at = w->a->q_first + (row0 + r) / w->g;
            int64_t from = run->dist_max < at - token ? at - run->dist_max : token;
            int64_t to = run->dist_min > at - (end - 1) ? at - run->dist_min + 1 : end;
            lo[r] = (int32_t)(REATTN__MIN(from, end) - start);
            hi[r] = (int32_t)REATTN__MAX((int64_t)lo[r], to - start);
            some |= lo[r] < hi[r];
            q_scale[r] = w->q_size[(int64_t)head * w->rows + row0 + r] / REATTN__QUERY16 * w->a->scale * REATTN__LOG2_E;
            if (w->a->q_scale) q_scale[r] *= w->a->q_scale[(row0 + r) / w->g];
        }
        if (!some) continue;
        const reattn__tile16 tile = {
            .k = k, .k_scale = scales, .v = reattn__store_half_values(w->a->src.store, w->a->src.layer, head, start),
            .next_k = reattn__turned_keys(w->a->turned, next / BLOCK, head, &ignored),
            .next_v = reattn__store_half_values(w->a->src.store, w->a->src.layer, head, next),
            .n_block = n_block, .n_row = n_row, .Dh = w->Dh, .Dv = w->Dv, .q = q + row0 * 2 * w->Dh, .q_scale = q_scale,
            .lo = lo, .hi = hi, .o = o + row0 * w->Dv, .m = m + row0, .l = m + w->rows + row0,
            .p = w->scratch + (int64_t)worker * REATTN__FEW * REATTN__TILE,
        };
        w->cpu->attend_row16(&tile);
    }
}

static int part_task(void *ctx, int64_t task, int worker)
{
    const work *w = ctx;
    int head = (int)(task % w->a->src.Hk);
    int64_t part = task / w->a->src.Hk, number = 0;
    const reattn__run_list *list = &w->a->lists[w->a->n_list == 1 ? 0 : head];
    int64_t n = count_tiles(list), first = n * part / w->parts, last = n * (part + 1) / w->parts;
    int16_t *q = w->turned_q + (int64_t)worker * w->rows * 2 * w->Dh;
    float *state = state_of(w, part, head);
    memset(state, 0, (size_t)(w->rows * (w->Dv + 2)) * sizeof *state);
    for (int row = 0; row < w->rows; row++) state[w->rows * w->Dv + row] = -INFINITY;
    for (int64_t i = 0; i < list->n && number < last; i++) {
        const reattn_run *run = &list->runs[i];
        int64_t page = -1, end;
        for (int64_t at = run->first; at < run->first + run->count && number < last; at = end, number++) {
            end = tile_end(run, at);
            if (number < first) continue;
            if (at / REATTN__PAGE != page) {
                page = at / REATTN__PAGE;
                turn_queries(w, head, run, page * REATTN__PAGE, q);
            }
            int64_t next = end < run->first + run->count ? end : i + 1 < list->n ? run[1].first : run->first;
            fold(w, part, head, run, at, end, next, q, worker);
        }
    }
    return REATTN_OK;
}

static void finish_row(const work *w, int head, int row)
{
    const reattn__attend_args *a = w->a;
    int64_t at = row / w->g * a->H + head * w->g + row % w->g, stride = (int64_t)a->src.Hk * w->rows * (w->Dv + 2);
    const float *o = state_of(w, 0, head), *m = o + w->rows * w->Dv + row;
    reattn__join_row(o + row * w->Dv, m, m + w->rows, w->parts, stride, 1, w->Dv, a->out + at * w->Dv,
                     a->lse ? a->lse + at : NULL);
}

static size_t place(work *w, unsigned char *base)
{
    const reattn__attend_args *a = w->a;
    int64_t all = (int64_t)a->src.Hk * w->rows;
    size_t at = 0;
    REATTN__PLACE(w->q, all * 2 * w->Dh);
    REATTN__PLACE(w->q_size, all);
    REATTN__PLACE(w->state, w->parts * all * (w->Dv + 2));
    REATTN__PLACE(w->scratch, (int64_t)a->n_threads * REATTN__FEW * REATTN__TILE);
    REATTN__PLACE(w->turned_q, (int64_t)a->n_threads * w->rows * 2 * w->Dh);
    return at;
}

int reattn__stream(const reattn__attend_args *a, reattn_error *err)
{
    work w = {
        .a = a, .cpu = reattn__cpu(), .g = a->H / a->src.Hk, .D = a->src.D, .Dh = (a->src.D + 1) / 2, .Dv = a->src.Dv};
    w.rows = (int)a->T * w.g;
    int64_t tiles = 0;
    for (int i = 0; i < a->n_list; i++) tiles = REATTN__MAX(tiles, count_tiles(&a->lists[i]));
    w.parts = REATTN__MAX(1, REATTN__MIN((TASKS_WANTED + a->src.Hk - 1) / a->src.Hk, tiles / PART_TILES));
    int code = keep_blocks(a, err);
    if (code != REATTN_OK) return code;
    size_t bytes = place(&w, NULL);
    unsigned char *base = reattn__buffer_need(&a->work[1], bytes);
    if (!base) return reattn__fail(err, REATTN_E_NOMEM, "out of memory: attention needs %zu bytes of scratch", bytes);
    place(&w, base);
    pack(&w);
    reattn__parallel(w.parts == 1 ? 1 : a->n_threads, w.parts * a->src.Hk, part_task, &w);
    for (int head = 0; head < a->src.Hk; head++)
        for (int row = 0; row < w.rows; row++) finish_row(&w, head, row);
    return REATTN_OK;
}
