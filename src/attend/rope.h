/* rope.h - rotary position embedding with a table of cosines and sines. */
#ifndef REATTN_ROPE_H
#define REATTN_ROPE_H

#include "base/base.h"
#include "reattn/ops.h"

/* cos and sin of every pair at positions 0 .. n_pos - 1, computed as ggml's CPU code does, in f32, so that a rotated
 * key has the bits that the host model would have given it. Twice: a position's pairs together, for queries, and a
 * pair's positions together, for tiles of keys. */
typedef struct reattn__rope_table {
    reattn_rope rope; /* freq_factors borrowed */
    float *cs;        /* [n_pos][2][n_rot / 2] cosines, then sines */
    float *cos, *sin; /* [n_rot / 2][n_pos] */
    int64_t n_pos;
} reattn__rope_table;

/* Makes the table reach n_pos positions. Errors: E_NOMEM (the table stays as it was). */
int reattn__rope_table_need(reattn__rope_table *table, int64_t n_pos, reattn_error *err);
/* Bytes that it takes at most once it has grown to n_pos positions. */
uint64_t reattn__rope_table_bytes(const reattn_rope *rope, int64_t n_pos);
void reattn__rope_table_free(reattn__rope_table *table);

/* What the angles of all positions have in common: pair p turns step^p a position (theta); of YaRN, between which pairs
 * its ramp lies; and the factor on cosines and sines. */
typedef struct reattn__rope_pace {
    float step, low, high, magnitude;
} reattn__rope_pace;
reattn__rope_pace reattn__rope_pace_of(const reattn_rope *rope);

/* Writes the cosines, then the sines of one position: cs [n_rot]. */
void reattn__rope_angles(const reattn_rope *rope, int64_t pos, float *cs);
/* Rotates one row x [D] in place by angles cs; `inverse` turns it back (exact up to rounding, factors undone). */
void reattn__rope_row(const reattn_rope *rope, const float *cs, float *x);
void reattn__rope_row_back(const reattn_rope *rope, const float *cs, float *x);

/* Whether both rotate alike. */
bool reattn__rope_same(const reattn_rope *a, const reattn_rope *b);
/* E_ARG unless the parameters make sense for heads of D values. */
int reattn__rope_check(const reattn_rope *rope, int D, reattn_error *err);

#endif
