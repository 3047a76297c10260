/* store.c - pages of keys and values. See store.h. */
#include "store.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "block.h"
#include "row.h"
#include "split.h"

typedef struct layer_store {
    reattn__layer shape;
    size_t keys_bytes, row_v, page_bytes; /* of a head's keys in a page, of a row of values, of a page */
    unsigned char **pages;                /* [n_page] */
    reattn__split_bound *bounds;          /* [n_page][Hk], for split keys */
    float *mean;                          /* [Hk][D] mean key of the first page, for split keys of those behind it */
    int64_t n;                            /* tokens held */
    bool plain;                           /* split keys have no mean, in no page */
} layer_store;

struct reattn__store {
    int n_layer, type_k, type_v;
    uint64_t limit, bytes;
    int64_t n_page, cap_page; /* pages of every layer; room in the page tables */
    layer_store *layers;
};

/* Bytes of a head's keys in a page; 0 when the type cannot hold them. */
static size_t keys_bytes(int type, int D)
{
    return type == REATTN_SPLIT ? reattn__split_front_bytes(D) + reattn__split_back_bytes(D)
                                : reattn__row_bytes(type, D) * REATTN__PAGE;
}

size_t reattn__store_key_bytes(int type, int D)
{
    return keys_bytes(type, D) / REATTN__PAGE;
}

size_t reattn__store_scan_bytes(int type, int D)
{
    return type == REATTN_SPLIT ? reattn__split_front_bytes(D) / REATTN__PAGE : reattn__row_bytes(type, D);
}

static size_t page_bytes(const reattn__layer *l, int type_k, int type_v)
{
    return (keys_bytes(type_k, l->D) + reattn__row_bytes(type_v, l->Dv) * REATTN__PAGE) * (size_t)l->Hk;
}

static int64_t pages_for(int64_t n)
{
    return (n + REATTN__PAGE - 1) / REATTN__PAGE;
}

uint64_t reattn__store_bytes_for(const reattn__layer *layers, int n_layer, int type_k, int type_v, int64_t n)
{
    uint64_t bytes = 0;
    for (int l = 0; l < n_layer; l++) bytes += (uint64_t)pages_for(n) * page_bytes(&layers[l], type_k, type_v);
    return bytes;
}

int reattn__store_create(const reattn__layer *layers, int n_layer, int type_k, int type_v, uint64_t limit,
                         reattn__store **out, reattn_error *err)
{
    if (type_v == REATTN_SPLIT)
        return reattn__fail(err, REATTN_E_ARG, "values cannot be split: use -ctv f32, f16 or q8_0");
    for (int l = 0; l < n_layer; l++) {
        int bad = keys_bytes(type_k, layers[l].D) == 0 ? layers[l].D : 0;
        if (!bad && reattn__row_bytes(type_v, layers[l].Dv) == 0) bad = layers[l].Dv;
        if (bad)
            return reattn__fail(err, REATTN_E_ARG,
                                "layer %d has heads of %d values: q8_0 needs a multiple of 32, use f16", l, bad);
    }
    reattn__store *s = calloc(1, sizeof *s);
    if (s) s->layers = calloc((size_t)n_layer, sizeof *s->layers);
    if (!s || !s->layers) {
        free(s);
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory for the store of %d layers", n_layer);
    }
    s->n_layer = n_layer;
    s->type_k = type_k;
    s->type_v = type_v;
    s->limit = limit;
    for (int l = 0; l < n_layer; l++) {
        s->layers[l].shape = layers[l];
        s->layers[l].keys_bytes = keys_bytes(type_k, layers[l].D);
        s->layers[l].row_v = reattn__row_bytes(type_v, layers[l].Dv);
        s->layers[l].page_bytes = page_bytes(&layers[l], type_k, type_v);
    }
    *out = s;
    return REATTN_OK;
}

/* A page of all layers is one piece of memory, so that it can lie in few, large pages of the machine. */
static size_t slab_bytes(const reattn__store *s)
{
    size_t bytes = 0;
    for (int l = 0; l < s->n_layer; l++) bytes += s->layers[l].page_bytes;
    return bytes;
}

/* Gives back pages beyond the first n_page. */
static void drop_pages(reattn__store *s, int64_t n_page)
{
    for (; s->n_page > n_page; s->n_page--) {
        reattn__free(s->layers[0].pages[s->n_page - 1]);
        s->bytes -= slab_bytes(s);
    }
}

void reattn__store_free(reattn__store *s)
{
    if (!s) return;
    drop_pages(s, 0);
    for (int l = 0; l < s->n_layer; l++) {
        free(s->layers[l].pages);
        free(s->layers[l].bounds);
        free(s->layers[l].mean);
    }
    free(s->layers);
    free(s);
}

const reattn__layer *reattn__store_shape(const reattn__store *s, int layer)
{
    return &s->layers[layer].shape;
}

uint64_t reattn__store_bytes(const reattn__store *s)
{
    return s->bytes;
}

static int grow_tables(reattn__store *s, int64_t n_page, reattn_error *err)
{
    if (n_page <= s->cap_page) return REATTN_OK;
    int64_t cap = REATTN__MAX(n_page, 2 * s->cap_page);
    for (int l = 0; l < s->n_layer; l++) {
        unsigned char **pages = realloc(s->layers[l].pages, (size_t)cap * sizeof *pages);
        if (!pages) return reattn__fail(err, REATTN_E_NOMEM, "out of memory for the page tables of the store");
        s->layers[l].pages = pages;
        if (s->type_k != REATTN_SPLIT) continue;
        layer_store *ls = &s->layers[l];
        reattn__split_bound *bounds = realloc(ls->bounds, (size_t)cap * (size_t)ls->shape.Hk * sizeof *bounds);
        if (bounds) ls->bounds = bounds;
        if (!ls->mean) ls->mean = malloc((size_t)ls->shape.Hk * (size_t)ls->shape.D * sizeof *ls->mean);
        if (!bounds || !ls->mean)
            return reattn__fail(err, REATTN_E_NOMEM, "out of memory for the page tables of the store");
    }
    s->cap_page = cap;
    return REATTN_OK;
}

/* Takes one page in every layer, or none. */
static int take_page(reattn__store *s, reattn_error *err)
{
    unsigned char *at = reattn__alloc(slab_bytes(s));
    if (!at)
        return reattn__fail(err, REATTN_E_NOMEM,
                            "out of memory: the store holds %.1f MiB for %lld tokens and cannot grow",
                            (double)s->bytes / 1048576, (long long)(s->n_page * REATTN__PAGE));
    for (int l = 0; l < s->n_layer; l++) {
        layer_store *ls = &s->layers[l];
        ls->pages[s->n_page] = at;
        at += ls->page_bytes;
        for (int h = 0; h < ls->shape.Hk && ls->bounds; h++)
            ls->bounds[s->n_page * ls->shape.Hk + h] = (reattn__split_bound){0};
    }
    s->bytes += slab_bytes(s);
    s->n_page++;
    return REATTN_OK;
}

int reattn__store_reserve(reattn__store *s, int64_t n, reattn_error *err)
{
    int64_t n_page = pages_for(n);
    uint64_t per_page = slab_bytes(s);
    if (n_page <= s->n_page) return REATTN_OK;
    if (s->limit && (uint64_t)n_page * per_page > s->limit)
        return reattn__fail(
            err, REATTN_E_LIMIT,
            "%lld tokens need %.1f MiB of keys and values, the limit is %.1f MiB: raise --mem-limit, or "
            "use -ctk q8_0 -ctv q8_0",
            (long long)n, (double)((uint64_t)n_page * per_page) / 1048576, (double)s->limit / 1048576);
    int code = grow_tables(s, n_page, err);
    while (code == REATTN_OK && s->n_page < n_page) code = take_page(s, err);
    return code;
}

static int check_range(const float *x, int64_t n, int type, int layer, const char *what, reattn_error *err)
{
    if (!reattn__all_finite(x, n))
        return reattn__fail(err, REATTN_E_NAN,
                            "layer %d gave a %s that is not finite: the model or its file is damaged", layer, what);
    if (type == REATTN_F32) return REATTN_OK;
    float top = 0;
    for (int64_t i = 0; i < n; i++) top = fabsf(x[i]) > top ? fabsf(x[i]) : top;
    if (top > reattn__row_max(type))
        return reattn__fail(err, REATTN_E_NAN,
                            "layer %d gave a %s of %g, too large for %s: use f32 (-ctk f32 -ctv f32)", layer, what,
                            (double)top, reattn__row_name(type));
    return REATTN_OK;
}

/* Where the block of token `at` of a head's keys lies, for types of which a page holds one head after the other. */
static unsigned char *block_k(const layer_store *ls, int head, int64_t at)
{
    size_t block = (size_t)(at % REATTN__PAGE / REATTN__BLOCK), bytes = ls->keys_bytes / REATTN__PAGE * REATTN__BLOCK;
    return ls->pages[at / REATTN__PAGE] + (size_t)head * ls->keys_bytes + block * bytes;
}

/* A head's split keys in the page of token `at`. */
static reattn__split split_of(const layer_store *ls, int head, int64_t at)
{
    unsigned char *page = ls->pages[at / REATTN__PAGE];
    size_t front = reattn__split_front_bytes(ls->shape.D), back = reattn__split_back_bytes(ls->shape.D);
    return (reattn__split){page + (size_t)head * front, page + (size_t)ls->shape.Hk * front + (size_t)head * back};
}

/* Where the row of token `at` of a head's values lies. */
static unsigned char *row_v(const layer_store *ls, int head, int64_t at)
{
    return ls->pages[at / REATTN__PAGE] + ls->keys_bytes * (size_t)ls->shape.Hk +
           ((size_t)head * REATTN__PAGE + (size_t)(at % REATTN__PAGE)) * ls->row_v;
}

/* What is subtracted from the split keys of a page: the first page has nothing, those behind it the first one's
 * mean. */
static const float *mean_of(const layer_store *ls, int head, int64_t at)
{
    return ls->plain || at < REATTN__PAGE ? NULL : ls->mean + (size_t)head * (size_t)ls->shape.D;
}

/* The first page is full. */
static void take_mean(layer_store *ls, int head)
{
    int D = ls->shape.D;
    float *key = ls->mean + (size_t)head * (size_t)D;
    double sum[512] = {0};
    reattn__split keys = split_of(ls, head, 0);
    for (int i = 0; i < REATTN__PAGE; i++) {
        reattn__split_get(&keys, D, i, i + 1, NULL, key, 1);
        for (int d = 0; d < D; d++) sum[d] += (double)key[d];
    }
    for (int d = 0; d < D; d++) key[d] = (float)(sum[d] / REATTN__PAGE);
}

static void put_key(layer_store *ls, int type, int head, int64_t at, const float *k)
{
    if (type != REATTN_SPLIT) {
        reattn__block_put(type, ls->shape.D, k, block_k(ls, head, at), (int)(at % REATTN__BLOCK));
        return;
    }
    reattn__split keys = split_of(ls, head, at);
    reattn__split_put(&keys, ls->shape.D, (int)(at % REATTN__PAGE), k, mean_of(ls, head, at),
                      &ls->bounds[at / REATTN__PAGE * ls->shape.Hk + head]);
    if (at == REATTN__PAGE - 1 && !ls->plain) take_mean(ls, head);
}

int reattn__store_append(reattn__store *s, int layer, int64_t T, const float *k, const float *v, reattn_error *err)
{
    layer_store *ls = &s->layers[layer];
    int Hk = ls->shape.Hk, D = ls->shape.D, Dv = ls->shape.Dv;
    int code = check_range(k, T * Hk * D, s->type_k, layer, "key", err);
    if (code == REATTN_OK) code = check_range(v, T * Hk * Dv, s->type_v, layer, "value", err);
    if (code != REATTN_OK) return code;
    if (ls->n + T > s->n_page * REATTN__PAGE)
        return reattn__fail(err, REATTN_E_INTERNAL, "append without reserve in layer %d", layer);
    for (int64_t t = 0; t < T; t++) {
        for (int h = 0; h < Hk; h++) {
            int64_t at = ls->n + t;
            put_key(ls, s->type_k, h, at, k + (t * Hk + h) * D);
            reattn__row_encode(s->type_v, Dv, v + (t * Hk + h) * Dv, 1, row_v(ls, h, at));
        }
    }
    ls->n += T;
    return REATTN_OK;
}

int64_t reattn__store_length(const reattn__store *s, int layer)
{
    return s->layers[layer].n;
}

void reattn__store_truncate(reattn__store *s, int64_t n)
{
    for (int l = 0; l < s->n_layer; l++) s->layers[l].n = REATTN__MIN(s->layers[l].n, n);
    drop_pages(s, pages_for(n));
}

void reattn__store_movable(reattn__store *s)
{
    for (int l = 0; l < s->n_layer; l++) s->layers[l].plain = true;
}

/* From where tokens are kept their bounds come along: the loosest of all pages holds for any of their keys. */
static void keep_bounds(layer_store *ls, int head)
{
    int Hk = ls->shape.Hk;
    reattn__split_bound most = {0};
    for (int64_t p = 0; p < pages_for(ls->n); p++) {
        const reattn__split_bound *b = &ls->bounds[p * Hk + head];
        most = (reattn__split_bound){fmaxf(most.norm, b->norm), fmaxf(most.high, b->high), fmaxf(most.low, b->low)};
    }
    for (int64_t p = 0; p < pages_for(ls->n); p++) ls->bounds[p * Hk + head] = most;
}

static void move_token(layer_store *ls, int type_k, int head, int64_t from, int64_t to)
{
    if (from == to) return;
    if (type_k == REATTN_SPLIT) {
        reattn__split a = split_of(ls, head, from), b = split_of(ls, head, to);
        reattn__split_move(&a, (int)(from % REATTN__PAGE), &b, (int)(to % REATTN__PAGE), ls->shape.D);
    } else {
        reattn__block_move(type_k, ls->shape.D, block_k(ls, head, from), (int)(from % REATTN__BLOCK),
                           block_k(ls, head, to), (int)(to % REATTN__BLOCK));
    }
    memcpy(row_v(ls, head, to), row_v(ls, head, from), ls->row_v);
}

int reattn__store_keep(reattn__store *s, int layer, const int64_t *kept, int64_t n, reattn_error *err)
{
    layer_store *ls = &s->layers[layer];
    int Hk = ls->shape.Hk;
    if (s->type_k == REATTN_SPLIT && !ls->plain && ls->n > REATTN__PAGE)
        return reattn__fail(err, REATTN_E_INTERNAL, "layer %d: keys with a mean cannot be moved", layer);
    for (int64_t i = 0; i < Hk * n; i++)
        if (kept[i] < 0 || kept[i] >= ls->n || (i % n && kept[i] <= kept[i - 1]))
            return reattn__fail(err, REATTN_E_INTERNAL, "layer %d: token %lld of %lld cannot be kept", layer,
                                (long long)kept[i], (long long)ls->n);
    /* Ascending, so each goes to a place that is free already. */
    for (int h = 0; h < Hk; h++) {
        for (int64_t i = 0; i < n; i++) move_token(ls, s->type_k, h, kept[h * n + i], i);
        if (ls->bounds) keep_bounds(ls, h);
    }
    ls->n = n;
    return REATTN_OK;
}

void reattn__store_read_k(const reattn__store *s, int layer, int head, int64_t first, int64_t count, float *out,
                          int64_t stride)
{
    const layer_store *ls = &s->layers[layer];
    int64_t room = s->type_k == REATTN_SPLIT ? REATTN__PAGE : REATTN__BLOCK; /* what one call below can read */
    while (count > 0) {
        int lo = (int)(first % room), hi = (int)REATTN__MIN(room, lo + count);
        if (s->type_k == REATTN_SPLIT) {
            reattn__split keys = split_of(ls, head, first);
            reattn__split_get(&keys, ls->shape.D, lo, hi, mean_of(ls, head, first), out, stride);
        } else {
            reattn__block_get(s->type_k, ls->shape.D, block_k(ls, head, first), lo, hi, out, stride);
        }
        out += hi - lo;
        first += hi - lo;
        count -= hi - lo;
    }
}

void reattn__store_read_v(const reattn__store *s, int layer, int head, int64_t first, int64_t count, float *out)
{
    const layer_store *ls = &s->layers[layer];
    while (count > 0) {
        int64_t here = REATTN__MIN(count, REATTN__PAGE - first % REATTN__PAGE);
        reattn__row_decode(s->type_v, ls->shape.Dv, row_v(ls, head, first), here, out);
        out += here * ls->shape.Dv;
        first += here;
        count -= here;
    }
}

bool reattn__store_planes(const reattn__store *s, int layer, int head, int64_t at, reattn__planes *out)
{
    const layer_store *ls = &s->layers[layer];
    if (s->type_k != REATTN_SPLIT) return false;
    *out = (reattn__planes){
        .keys = split_of(ls, head, at),
        .mean = mean_of(ls, head, at),
        .bound = ls->bounds[at / REATTN__PAGE * ls->shape.Hk + head],
    };
    return true;
}

const uint16_t *reattn__store_half_values(const reattn__store *s, int layer, int head, int64_t at)
{
    return s->type_v == REATTN_F16 ? (const uint16_t *)row_v(&s->layers[layer], head, at) : NULL;
}
