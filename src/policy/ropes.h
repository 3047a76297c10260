/* ropes.h - rotations that a method changes: one table of angles for all layers that rotate alike. Keys are stored
 * unrotated, so a table can be exchanged between two steps: all keys are then rotated anew. */
#ifndef REATTN_ROPES_H
#define REATTN_ROPES_H

#include "policy.h"

typedef struct reattn__ropes {
    int n, *of;                 /* [n_layer] which of the n below a layer uses */
    reattn_rope *own;           /* [n] as the model rotates */
    reattn__rope_table *tables; /* [n] as the method wants it */
} reattn__ropes;

/* Bytes of the tables of layers for n positions: one for each way in which they rotate. */
uint64_t reattn__ropes_table_bytes(const reattn__layer *layers, int n_layer, int64_t n);
/* Errors: E_NOMEM. Freeing what is all zeros is fine. */
int reattn__ropes_create(reattn__ropes *ropes, const reattn__layer *layers, int n_layer, reattn_error *err);
void reattn__ropes_free(reattn__ropes *ropes);
/* How the model rotates in a layer. */
const reattn_rope *reattn__ropes_own(const reattn__ropes *ropes, int layer);
/* The table of a layer for this rotation, emptied if it was another one before. */
reattn__rope_table *reattn__ropes_use(reattn__ropes *ropes, int layer, const reattn_rope *rope);

/* For methods whose only state is ropes: create and destroy of a policy. Rotations of less than 4 dimensions have no
 * base to change: E_UNSUPPORTED. */
int reattn__ropes_new(const reattn_session_params *params, const reattn__layer *layers, int n_layer, void **state,
                      reattn_error *err);
void reattn__ropes_destroy(void *state);
uint64_t reattn__ropes_bytes_for(const reattn_session_params *params, const reattn__layer *layers, int n_layer,
                                 int64_t n, uint64_t *grows);
/* Every token at its own position, rotated by this table. */
int reattn__ropes_plan(reattn__plan *plan, const reattn__step *step, reattn__rope_table *table, reattn_error *err);

/* How many times the trained length n tokens are, rounded up; at least 1. */
int64_t reattn__ropes_times(int64_t n, int64_t trained);
/* The base at which the slowest pair turns `a` times slower and the fastest as before (NTK-aware scaling). */
float reattn__ropes_ntk_base(const reattn_rope *own, double a);

#endif
