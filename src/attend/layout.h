/* layout.h - a plan's runs laid out as tiles that the kernels take. */
#ifndef REATTN_LAYOUT_H
#define REATTN_LAYOUT_H

#include "attend/attend.h"

/* Consecutive tokens read into consecutive rows and rotated at (k_pos + i * k_step) / k_div. */
typedef struct reattn__piece {
    int64_t token, count, row, k_pos, k_step, k_div;
} reattn__piece;

/* Up to REATTN__TILE rows that meet the same rotation of the queries. Either every query sees all of them (whole), or
 * they are one piece of one run and its limits decide. */
typedef struct reattn__tile_info {
    int64_t row, token;
    int64_t dist_min, dist_max, t_min, t_end;
    int count, rotation;
    bool whole;
} reattn__tile_info;

/* How queries t_min .. t_end - 1 are rotated for some of the runs: at (q_pos + t * q_step) / q_div. */
typedef struct reattn__rotation {
    int64_t q_pos, q_step, q_div, t_min, t_end;
} reattn__rotation;

typedef struct reattn__layout {
    reattn__piece *pieces;
    reattn__tile_info *tiles;
    reattn__rotation *rotations;
    int64_t n_piece, n_tile, n_row;
    int n_rotation;
    int64_t max_pos; /* highest position of a key or a query */
} reattn__layout;

/* Room that a layout of these runs needs at most. */
int64_t reattn__layout_pieces_max(const reattn__run_list *list);
/* Fills a layout whose arrays hold reattn__layout_pieces_max entries (rotations: list->n). Runs and parts of runs that
 * no query sees are left out. */
int reattn__layout_build(const reattn__run_list *list, int64_t q_first, int64_t T, reattn__layout *layout,
                         reattn_error *err);
/* The first piece of a tile; those that follow are its own up to row tile->row + tile->count. */
int64_t reattn__layout_find(const reattn__layout *layout, const reattn__tile_info *tile);
/* Rotates the keys of a piece, which are columns of a tile from k on. angles: scratch, [n_rot][REATTN__TILE]. */
void reattn__layout_turn(const reattn__rope_table *table, const reattn__piece *piece, float *k, float *angles);

#endif
