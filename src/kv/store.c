/* store.c - pages of keys and values. See store.h. */
#include "store.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "block.h"
#include "row.h"

typedef struct layer_store {
    reattn__layer shape;
    size_t row_k, row_v, page_bytes;
    unsigned char **pages; /* [n_page] */
    float *norms;          /* [n_page][Hk] no key of the page is longer */
    int64_t n;             /* tokens held */
} layer_store;

struct reattn__store {
    int n_layer, type_k, type_v;
    uint64_t limit, bytes;
    int64_t n_page, cap_page; /* pages of every layer; room in the page tables */
    layer_store *layers;
};

static size_t page_bytes(const reattn__layer *l, int type_k, int type_v)
{
    return (reattn__row_bytes(type_k, l->D) + reattn__row_bytes(type_v, l->Dv)) * (size_t)l->Hk * REATTN__PAGE;
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
    for (int l = 0; l < n_layer; l++) {
        int bad = reattn__row_bytes(type_k, layers[l].D) == 0 ? layers[l].D : 0;
        if (!bad && reattn__row_bytes(type_v, layers[l].Dv) == 0) bad = layers[l].Dv;
        if (bad)
            return reattn__fail(err, REATTN_E_ARG, "layer %d has heads of %d values: q8_0 needs a multiple of 32, use f16",
                                l, bad);
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
        s->layers[l].row_k = reattn__row_bytes(type_k, layers[l].D);
        s->layers[l].row_v = reattn__row_bytes(type_v, layers[l].Dv);
        s->layers[l].page_bytes = page_bytes(&layers[l], type_k, type_v);
    }
    *out = s;
    return REATTN_OK;
}

/* Gives back pages beyond the first n_page. */
static void drop_pages(reattn__store *s, int64_t n_page)
{
    for (int l = 0; l < s->n_layer; l++) {
        layer_store *ls = &s->layers[l];
        for (int64_t p = n_page; p < s->n_page; p++) {
            reattn__free(ls->pages[p]);
            s->bytes -= ls->page_bytes;
        }
    }
    s->n_page = REATTN__MIN(s->n_page, n_page);
}

void reattn__store_free(reattn__store *s)
{
    if (!s) return;
    drop_pages(s, 0);
    for (int l = 0; l < s->n_layer; l++) {
        free(s->layers[l].pages);
        free(s->layers[l].norms);
    }
    free(s->layers);
    free(s);
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
        float *norms = realloc(s->layers[l].norms, (size_t)cap * (size_t)s->layers[l].shape.Hk * sizeof *norms);
        if (!norms) return reattn__fail(err, REATTN_E_NOMEM, "out of memory for the page tables of the store");
        s->layers[l].norms = norms;
    }
    s->cap_page = cap;
    return REATTN_OK;
}

/* Takes one page in every layer, or none. */
static int take_page(reattn__store *s, reattn_error *err)
{
    int l;
    for (l = 0; l < s->n_layer; l++) {
        layer_store *ls = &s->layers[l];
        ls->pages[s->n_page] = reattn__alloc(ls->page_bytes);
        if (!ls->pages[s->n_page]) break;
        for (int h = 0; h < ls->shape.Hk; h++) ls->norms[s->n_page * ls->shape.Hk + h] = 0;
    }
    if (l == s->n_layer) {
        for (l = 0; l < s->n_layer; l++) s->bytes += s->layers[l].page_bytes;
        s->n_page++;
        return REATTN_OK;
    }
    while (l-- > 0) reattn__free(s->layers[l].pages[s->n_page]);
    return reattn__fail(err, REATTN_E_NOMEM, "out of memory: the store holds %.1f MiB for %lld tokens and cannot grow",
                        (double)s->bytes / 1048576, (long long)(s->n_page * REATTN__PAGE));
}

int reattn__store_reserve(reattn__store *s, int64_t n, reattn_error *err)
{
    int64_t n_page = pages_for(n);
    uint64_t per_page = 0;
    if (n_page <= s->n_page) return REATTN_OK;
    for (int l = 0; l < s->n_layer; l++) per_page += s->layers[l].page_bytes;
    if (s->limit && (uint64_t)n_page * per_page > s->limit)
        return reattn__fail(err, REATTN_E_LIMIT,
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
        return reattn__fail(err, REATTN_E_NAN, "layer %d gave a %s that is not finite: the model or its file is damaged",
                            layer, what);
    if (type == REATTN_F32) return REATTN_OK;
    float top = 0;
    for (int64_t i = 0; i < n; i++) top = fabsf(x[i]) > top ? fabsf(x[i]) : top;
    if (top > reattn__row_max(type))
        return reattn__fail(err, REATTN_E_NAN, "layer %d gave a %s of %g, too large for %s: use f32 (-ctk f32 -ctv f32)",
                            layer, what, (double)top, reattn__row_name(type));
    return REATTN_OK;
}

/* Where the block of token `at` of a head's keys lies in its page. */
static unsigned char *block_k(const layer_store *ls, int head, int64_t at)
{
    size_t row = (size_t)head * REATTN__PAGE + (size_t)(at % REATTN__PAGE / REATTN__BLOCK * REATTN__BLOCK);
    return ls->pages[at / REATTN__PAGE] + row * ls->row_k;
}

/* Where the row of token `at` of a head's values lies. */
static unsigned char *row_v(const layer_store *ls, int head, int64_t at)
{
    size_t keys = ls->row_k * (size_t)ls->shape.Hk * REATTN__PAGE;
    return ls->pages[at / REATTN__PAGE] + keys +
           ((size_t)head * REATTN__PAGE + (size_t)(at % REATTN__PAGE)) * ls->row_v;
}

/* Half a per cent covers the rounding of the stored key and of this sum. */
static void note_norm(layer_store *ls, int head, int64_t at, const float *k)
{
    float sum = 0, *norm = &ls->norms[at / REATTN__PAGE * ls->shape.Hk + head];
    for (int d = 0; d < ls->shape.D; d++) sum += k[d] * k[d];
    *norm = fmaxf(*norm, sqrtf(sum) * 1.005f + 1e-3f);
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
            reattn__block_put(s->type_k, D, k + (t * Hk + h) * D, block_k(ls, h, at), (int)(at % REATTN__BLOCK));
            note_norm(ls, h, at, k + (t * Hk + h) * D);
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

void reattn__store_read_k(const reattn__store *s, int layer, int head, int64_t first, int64_t count, float *out,
                          int64_t stride)
{
    const layer_store *ls = &s->layers[layer];
    while (count > 0) {
        int lo = (int)(first % REATTN__BLOCK);
        int hi = (int)REATTN__MIN((int64_t)REATTN__BLOCK, lo + count);
        reattn__block_get(s->type_k, ls->shape.D, block_k(ls, head, first), lo, hi, out, stride);
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

bool reattn__store_stretch(const reattn__store *s, int layer, int head, int64_t at, reattn__stretch *out)
{
    const layer_store *ls = &s->layers[layer];
    if (s->type_k != REATTN_F16) return false;
    at = at / REATTN__BLOCK * REATTN__BLOCK;
    *out = (reattn__stretch){
        .k = (const uint16_t *)block_k(ls, head, at),
        .v = s->type_v == REATTN_F16 ? (const uint16_t *)row_v(ls, head, at) : NULL,
        .n_block = (int)((REATTN__PAGE - at % REATTN__PAGE) / REATTN__BLOCK),
        .norm = ls->norms[at / REATTN__PAGE * ls->shape.Hk + head],
    };
    return true;
}
