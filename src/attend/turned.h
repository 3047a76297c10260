/* turned.h - rotated keys of the scope, kept from step to step.
 *
 * In decode most of the scope stays. A key is rotated once, by its place in its page; what is left of its position then
 * is the same for a run's keys in that page, and the query takes it: R(q at p) . R(k at j) depends on p - j alone. So a
 * kept key stays right however the scope's positions move. Keys are kept in blocks of 16 tokens, in 16-bit integers
 * (cpu/kernels.h). The cache is as large as a scope, not as the text. One thread at a time changes it. */
#ifndef REATTN_TURNED_H
#define REATTN_TURNED_H

#include "attend/rope.h"
#include "kv/store.h"

/* One layer's. */
typedef struct reattn__turned {
    int Hk, Dh;         /* of the layer; Dh is half the head's dimensions, rounded up */
    int64_t n_slot;     /* room, in blocks */
    int64_t n_map;      /* blocks of tokens that slot_of knows */
    int32_t *slot_of;   /* [n_map] -1: not kept */
    int64_t *block_of;  /* [n_slot] -1: free */
    uint64_t *used;     /* [n_slot] the last step that asked for it */
    int16_t *filled;    /* [n_slot] tokens of the block that were there when it was turned */
    int16_t *keys;      /* [Hk][n_slot][Dh][16][2]; a head's together, for long reads */
    float *scales;      /* [Hk][n_slot][16] */
    int64_t *fresh;     /* [n_slot] slots to fill in this step, */
    int16_t *from;      /* [n_slot] each from this token of its block on: those before it were turned already */
    int64_t n_fresh, hand;
    uint64_t step;
} reattn__turned;

/* A step begins: it will ask for at most n_block blocks. Errors: E_NOMEM (nothing is kept then). */
int reattn__turned_begin(reattn__turned *t, const reattn__layer *layer, int64_t n_block, int64_t n_token,
                         reattn_error *err);
/* Asks for the block of 16 tokens from 16 * block on; n_token tokens are there. */
void reattn__turned_ask(reattn__turned *t, int64_t block, int64_t n_token);
/* Turns what was asked for and is not there. */
void reattn__turned_fill(reattn__turned *t, const reattn__store *store, int layer, const reattn__rope_table *rope,
                         int n_threads);
/* A head's keys of a block that was asked for, and their scales. */
static inline const int16_t *reattn__turned_keys(const reattn__turned *t, int64_t block, int head, const float **scales)
{
    int64_t at = head * t->n_slot + t->slot_of[block];
    *scales = t->scales + at * 16;
    return t->keys + at * t->Dh * 32;
}
/* Forgets everything: the text was rewound. */
void reattn__turned_forget(reattn__turned *t);
void reattn__turned_free(reattn__turned *t);
/* Room that is taken when a step asks for n_block blocks: what leaves the scope often comes back. */
static inline int64_t reattn__turned_room(int64_t n_block) { return n_block + n_block / 4 + 16; }
/* Bytes of room for n_block blocks. */
uint64_t reattn__turned_bytes(const reattn__layer *layer, int64_t n_block);

#endif
