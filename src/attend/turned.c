/* turned.c - see turned.h. */
#include "turned.h"

#include <stdlib.h>
#include <string.h>

#include "cpu/kernels.h"

enum { BLOCK = REATTN__BLOCK };

void reattn__turned_forget(reattn__turned *t)
{
    for (int64_t i = 0; i < t->n_map; i++) t->slot_of[i] = -1;
    for (int64_t i = 0; i < t->n_slot; i++) t->block_of[i] = -1;
}

void reattn__turned_free(reattn__turned *t)
{
    free(t->slot_of);
    free(t->block_of);
    free(t->used);
    free(t->filled);
    free(t->fresh);
    free(t->from);
    reattn__free(t->keys);
    reattn__free(t->scales);
    *t = (reattn__turned){0};
}

uint64_t reattn__turned_bytes(const reattn__layer *layer, int64_t n_block)
{
    uint64_t keys = (uint64_t)(layer->D + 1) / 2 * 2 * BLOCK * sizeof(int16_t);
    return (uint64_t)n_block * (uint64_t)layer->Hk * (keys + BLOCK * sizeof(float));
}

int reattn__turned_begin(reattn__turned *t, const reattn__layer *layer, int64_t n_block, int64_t n_token,
                         reattn_error *err)
{
    int64_t n_map = (n_token + BLOCK - 1) / BLOCK;
    int Hk = layer->Hk, Dh = (layer->D + 1) / 2;
    if (n_map > t->n_map) {
        n_map = REATTN__MAX(n_map, t->n_map * 2);
        int32_t *map = realloc(t->slot_of, (size_t)n_map * sizeof *map);
        if (!map) return reattn__fail(err, REATTN_E_NOMEM, "out of memory for the kept scope");
        for (int64_t i = t->n_map; i < n_map; i++) map[i] = -1;
        t->slot_of = map;
        t->n_map = n_map;
    }
    if (n_block > t->n_slot) {
        int32_t *map = t->slot_of;
        n_map = t->n_map;
        t->slot_of = NULL;
        reattn__turned_free(t);
        int64_t n = reattn__turned_room(n_block);
        *t = (reattn__turned){.Hk = Hk, .Dh = Dh, .n_slot = n, .n_map = n_map, .slot_of = map};
        t->block_of = malloc((size_t)n * sizeof *t->block_of);
        t->used = calloc((size_t)n, sizeof *t->used);
        t->filled = malloc((size_t)n * sizeof *t->filled);
        t->fresh = malloc((size_t)n * sizeof *t->fresh);
        t->from = malloc((size_t)n * sizeof *t->from);
        t->keys = reattn__alloc((size_t)n * (size_t)Hk * (size_t)Dh * 2 * BLOCK * sizeof *t->keys);
        t->scales = reattn__alloc((size_t)n * (size_t)Hk * BLOCK * sizeof *t->scales);
        if (!t->block_of || !t->used || !t->filled || !t->fresh || !t->from || !t->keys || !t->scales) {
            reattn__turned_free(t);
            return reattn__fail(err, REATTN_E_NOMEM, "out of memory: the kept scope of a layer takes %.1f MiB",
                                (double)reattn__turned_bytes(layer, n) / 1048576);
        }
        reattn__turned_forget(t);
    }
    t->step++;
    t->n_fresh = 0;
    return REATTN_OK;
}

/* The next slot that neither this step nor the one before asked for; failing that, not this one. */
static int64_t free_slot(reattn__turned *t)
{
    for (int64_t tried = 0;; tried++) {
        int64_t slot = t->hand++ % t->n_slot;
        if (t->block_of[slot] < 0 || t->used[slot] + (tried < t->n_slot) < t->step) return slot;
    }
}

void reattn__turned_ask(reattn__turned *t, int64_t block, int64_t n_token)
{
    int64_t slot = t->slot_of[block];
    int16_t want = (int16_t)REATTN__MIN((int64_t)BLOCK, n_token - block * BLOCK);
    if (slot >= 0 && t->used[slot] == t->step && t->filled[slot] == want) return;
    if (slot < 0) {
        slot = free_slot(t);
        if (t->block_of[slot] >= 0) t->slot_of[t->block_of[slot]] = -1;
        t->block_of[slot] = block;
        t->slot_of[block] = (int32_t)slot;
        t->filled[slot] = 0;
    }
    t->used[slot] = t->step;
    if (t->filled[slot] == want) return;
    t->from[t->n_fresh] = REATTN__MIN(t->filled[slot], want);
    t->fresh[t->n_fresh++] = slot;
    t->filled[slot] = want;
}

typedef struct filling {
    reattn__turned *t;
    const reattn__store *store;
    int layer;
    const reattn__rope_table *rope;
} filling;

/* What is new in a block goes beside what was turned before: each token has a place in every row of the block. */
static void insert(const int16_t *keys, const float *scales, int Dh, int from, int to, int16_t *out, float *out_scales)
{
    for (int row = 0; row < Dh; row++)
        memcpy(out + (row * BLOCK + from) * 2, keys + (row * BLOCK + from) * 2, (size_t)(to - from) * 2 * sizeof *out);
    memcpy(out_scales + from, scales + from, (size_t)(to - from) * sizeof *scales);
}

static int fill_task(void *ctx, int64_t task, int worker)
{
    const filling *f = ctx;
    reattn__turned *t = f->t;
    const reattn_rope *rope = &f->rope->rope;
    const reattn__kernels *cpu = reattn__cpu();
    int head = (int)(task % t->Hk), pairs = rope->n_rot / 2, step = rope->kind == REATTN_ROPE_NEOX ? 1 : 2;
    int apart = rope->kind == REATTN_ROPE_NEOX ? pairs : 1, D = reattn__store_shape(f->store, f->layer)->D;
    int64_t slot = t->fresh[task / t->Hk], token = t->block_of[slot] * BLOCK, pos = token % REATTN__PAGE;
    int from = t->from[task / t->Hk], to = t->filled[slot];
    float k[512 * REATTN__TILE], part_scales[BLOCK];
    int16_t part[512 * BLOCK];
    (void)worker;
    if (to - from < BLOCK)
        for (int d = 0; d < D; d++) memset(k + d * REATTN__TILE, 0, BLOCK * sizeof *k);
    reattn__store_read_k(f->store, f->layer, head, token + from, to - from, k + from, REATTN__TILE);
    cpu->rope(k, BLOCK, pairs, step, apart, f->rope->cos + pos, f->rope->sin + pos, f->rope->n_pos);
    int64_t at = head * t->n_slot + slot;
    int16_t *keys = t->keys + at * t->Dh * 2 * BLOCK;
    float *scales = t->scales + at * BLOCK;
    cpu->pack_block(k, D, pairs, step, apart, from > 0 ? part : keys, from > 0 ? part_scales : scales);
    if (from > 0) insert(part, part_scales, t->Dh, from, to, keys, scales);
    return REATTN_OK;
}

void reattn__turned_fill(reattn__turned *t, const reattn__store *store, int layer, const reattn__rope_table *rope,
                         int n_threads)
{
    filling f = {t, store, layer, rope};
    int64_t tasks = t->n_fresh * t->Hk;
    reattn__parallel(tasks < 16 ? 1 : n_threads, tasks, fill_task, &f);
}
