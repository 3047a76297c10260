/* layout.c - cuts runs into tiles. Small spans share a tile, so that kernels see full ones. */
#include "layout.h"

#include "cpu/kernels.h"

int64_t reattn__layout_pieces_max(const reattn__run_list *list)
{
    int64_t n = 0;
    /* A run falls into three stretches (partly, wholly, partly seen), each with a broken tile at either end. */
    for (int64_t i = 0; i < list->n; i++) n += REATTN__MAX(list->runs[i].count, 0) / REATTN__TILE + 6;
    return n;
}

static int rotation_of(reattn__layout *l, const reattn_run *run, int64_t t_end)
{
    const reattn__rotation r = {run->q_pos, run->q_step, REATTN__MAX(run->q_div, 1), run->t_min, t_end};
    const reattn__rotation *last = l->n_rotation > 0 ? &l->rotations[l->n_rotation - 1] : NULL;
    if (last && last->q_pos == r.q_pos && last->q_step == r.q_step && last->q_div == r.q_div &&
        last->t_min == r.t_min && last->t_end == r.t_end)
        return l->n_rotation - 1;
    l->rotations[l->n_rotation] = r;
    return l->n_rotation++;
}

/* Adds tokens [token, token + count) of a run, all of them in one tile. */
static void add_piece(reattn__layout *l, const reattn_run *run, int64_t token, int64_t count, int rotation, bool whole)
{
    const reattn__rotation *r = &l->rotations[rotation];
    reattn__tile_info *tile = l->n_tile ? &l->tiles[l->n_tile - 1] : NULL;
    bool join = tile && whole && tile->whole && tile->rotation == rotation && tile->count + count <= REATTN__TILE;
    l->pieces[l->n_piece++] =
        (reattn__piece){token, count, l->n_row, run->k_pos + (token - run->first) * run->k_step, run->k_step,
                        REATTN__MAX(run->k_div, 1)};
    if (join) tile->count += (int)count;
    else
        l->tiles[l->n_tile++] = (reattn__tile_info){
            l->n_row, token, run->dist_min, run->dist_max, r->t_min, r->t_end, (int)count, rotation, whole};
    l->n_row += count;
}

/* Room left in the last tile for whole pieces of this rotation; a full tile if a new one must be opened. */
static int64_t room(const reattn__layout *l, int rotation)
{
    const reattn__tile_info *tile = l->n_tile ? &l->tiles[l->n_tile - 1] : NULL;
    if (!tile || !tile->whole || tile->rotation != rotation || tile->count == REATTN__TILE) return REATTN__TILE;
    return REATTN__TILE - tile->count;
}

int reattn__layout_build(const reattn__run_list *list, int64_t q_first, int64_t T, reattn__layout *l, reattn_error *err)
{
    l->n_piece = l->n_tile = l->n_row = l->max_pos = 0;
    l->n_rotation = 0;
    for (int64_t i = 0; i < list->n; i++) {
        const reattn_run *run = &list->runs[i];
        int64_t t_end = reattn__run_end(run, T);
        if (run->count <= 0 || run->dist_min > run->dist_max || run->t_min >= t_end) continue;
        int64_t k_last = run->k_pos + (run->count - 1) * run->k_step;
        int64_t q_pos0 = run->q_pos + run->t_min * run->q_step, q_pos1 = run->q_pos + (t_end - 1) * run->q_step;
        if (run->first < 0 || run->k_pos < 0 || k_last < 0 || q_pos0 < 0 || q_pos1 < 0 || run->k_div < 0 ||
            run->q_div < 0 || run->t_min < 0 || run->t_end < 0)
            return reattn__fail(err, REATTN_E_ARG, "run %lld has a negative token, position, divisor or query",
                                (long long)i);
        int64_t q_lo = q_first + run->t_min, q_last = q_first + t_end - 1;
        bool all = run->t_min == 0 && t_end == T; /* else no tile is whole */
        /* Tokens that some query sees: distance at least dist_min from the last, at most dist_max from the first. */
        int64_t lo = run->first, hi = run->first + run->count;
        if (run->dist_max < q_lo - lo) lo = q_lo - run->dist_max;
        if (run->dist_min > q_last - (hi - 1)) hi = q_last - run->dist_min + 1;
        if (lo >= hi) continue;
        int rotation = rotation_of(l, run, t_end);
        l->max_pos = REATTN__MAX(l->max_pos, REATTN__MAX(run->k_pos, k_last) / REATTN__MAX(run->k_div, 1));
        l->max_pos = REATTN__MAX(l->max_pos, REATTN__MAX(q_pos0, q_pos1) / REATTN__MAX(run->q_div, 1));
        /* Of these, every query sees [whole_lo, whole_hi). */
        int64_t whole_lo = lo, whole_hi = all ? hi : lo;
        if (run->dist_max < q_last - lo) whole_lo = q_last - run->dist_max;
        if (all && run->dist_min > q_lo - (hi - 1)) whole_hi = q_lo - run->dist_min + 1;
        for (int64_t at = lo; at < hi;) {
            bool whole = at >= whole_lo && at < whole_hi;
            int64_t end = whole ? whole_hi : at < whole_lo && whole_lo < hi ? whole_lo : hi;
            int64_t count = REATTN__MIN(end - at, whole ? room(l, rotation) : REATTN__TILE);
            add_piece(l, run, at, count, rotation, whole);
            at += count;
        }
    }
    return REATTN_OK;
}

/* Pieces are sorted by row. */
int64_t reattn__layout_find(const reattn__layout *l, const reattn__tile_info *tile)
{
    int64_t a = 0, b = l->n_piece - 1;
    while (a < b) {
        int64_t mid = (a + b + 1) / 2;
        if (l->pieces[mid].row <= tile->row) a = mid;
        else b = mid - 1;
    }
    return a;
}

void reattn__layout_turn(const reattn__rope_table *t, const reattn__piece *piece, float *k, float *angles)
{
    const reattn_rope *rope = &t->rope;
    const reattn__kernels *cpu = reattn__cpu();
    int pairs = rope->n_rot / 2, step = rope->kind == REATTN_ROPE_NEOX ? 1 : 2;
    int apart = rope->kind == REATTN_ROPE_NEOX ? pairs : 1;
    if (piece->k_step == 1 && piece->k_div == 1) {
        cpu->rope(k, (int)piece->count, pairs, step, apart, t->cos + piece->k_pos, t->sin + piece->k_pos, t->n_pos);
        return;
    }
    float *cos = angles, *sin = cos + (int64_t)pairs * REATTN__TILE;
    int64_t pos[REATTN__TILE];
    for (int64_t i = 0; i < piece->count; i++) pos[i] = (piece->k_pos + i * piece->k_step) / piece->k_div;
    for (int pair = 0; pair < pairs; pair++) {
        for (int64_t i = 0; i < piece->count; i++) {
            cos[pair * REATTN__TILE + i] = t->cos[pair * t->n_pos + pos[i]];
            sin[pair * REATTN__TILE + i] = t->sin[pair * t->n_pos + pos[i]];
        }
    }
    cpu->rope(k, (int)piece->count, pairs, step, apart, cos, sin, REATTN__TILE);
}
