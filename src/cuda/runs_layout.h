/* runs_layout.h - a plan's runs as the kernels of runs.cu take them. Plain C: no device is needed to make a layout.
 *
 * Runs say which query sees which key, and where both sit. Out of them come, for each list of runs,
 *   segments  tokens in a row whose keys are rotated once, at (k_pos + i k_step) / k_div, into rows of scratch. Runs
 *             that rotate alike and touch share a segment
 *   turns     the ways in which queries are rotated: at (q_pos + t q_step) / q_div
 *   parts     (many queries) what a block of rows looks at: rows of one segment under one turn, cut into tiles of
 *             `tile` keys. Of a run a block has the keys that any of its queries sees, and no others. Those of a turn
 *             follow each other
 *   cuts      (one query) the keys that it sees, those of a turn together, dealt evenly to so many thread blocks that
 *             no cut has two turns
 * A row is (query, head of the group): row = t * g + head. */
#ifndef REATTN_CUDA_RUNS_LAYOUT_H
#define REATTN_CUDA_RUNS_LAYOUT_H

#ifdef __cplusplus
extern "C" {
#endif

#include "attend/attend.h"

typedef struct reattn__cuda_segment {
    int64_t k_pos, k_step, k_div;
    int32_t token, row, count, unused; /* its first token, and the row that this one's key becomes */
} reattn__cuda_segment;

typedef struct reattn__cuda_turn {
    int64_t q_pos, q_step, q_div;
} reattn__cuda_turn;

/* Key i of a part is token `token + i`, row `row + i`. Query t sees it if t_min <= t < t_end and dist_min <= (q_first +
 * t) - (token + i) <= dist_max. Its tiles are those numbered tile .. tile_end - 1 of its block. */
typedef struct reattn__cuda_part {
    int32_t token, row, count, tile, tile_end, turn, t_min, t_end, dist_min, dist_max;
} reattn__cuda_part;

/* Rows begin .. end - 1, met by a query at position q_pos. */
typedef struct reattn__cuda_cut {
    int32_t begin, end, q_pos, unused;
} reattn__cuda_cut;

typedef struct reattn__cuda_layout_args {
    const reattn__run_list *lists; /* [n_list] */
    int n_list;
    int64_t T, n;   /* queries, those of the last T of n tokens. n < 2^30 */
    int g;          /* query heads of a KV head */
    int rows, tile; /* many queries: rows of a block, keys of a tile */
    int cuts;       /* one query: thread blocks that there should be */
} reattn__cuda_layout_args;

/* The arrays lie in one piece of memory, `image`, that a device can have a copy of. */
typedef struct reattn__cuda_layout {
    int32_t *segment_first, *turn_first; /* [n_list + 1] where a list's begin */
    int32_t *rows;                       /* [n_list] keys that are rotated */
    int32_t *positions; /* [n_list] one more than the highest position of a key or a query that sees one */
    reattn__cuda_segment *segments;
    reattn__cuda_turn *turns;
    int32_t *part_first; /* [n_list * blocks + 1] where those of block b of list i begin: i * blocks + b */
    reattn__cuda_part *parts;
    reattn__cuda_cut *cuts; /* [n_list][n_cut] */
    int n_list, blocks, n_cut;
    int32_t rows_most, turns_most, tiles_most; /* of a list, of a list, of a block */
    int64_t seen;                              /* keys that the last query sees, in the list where it sees most */
    size_t bytes;                              /* of the image */
    reattn__buffer image, work;
} reattn__cuda_layout;

/* All zeros is an empty layout; its memory is kept for the next one. Errors: E_ARG (a run reaches outside the text, or
 * has a negative position or divisor), E_NOMEM. */
int reattn__cuda_layout_make(reattn__cuda_layout *layout, const reattn__cuda_layout_args *args, reattn_error *err);
void reattn__cuda_layout_free(reattn__cuda_layout *layout);

#ifdef __cplusplus
}
#endif
#endif
