/* ropes.c - see ropes.h. */
#include "ropes.h"

#include <math.h>
#include <stdlib.h>

int reattn__ropes_create(reattn__ropes *r, const reattn__layer *layers, int n_layer, reattn_error *err)
{
    *r = (reattn__ropes){.of = calloc((size_t)n_layer, sizeof *r->of), .own = calloc((size_t)n_layer, sizeof *r->own),
                         .tables = calloc((size_t)n_layer, sizeof *r->tables)};
    if (!r->of || !r->own || !r->tables) {
        reattn__ropes_free(r);
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    }
    for (int l = 0; l < n_layer; l++) {
        int i = 0;
        while (i < r->n && !reattn__rope_same(&r->own[i], &layers[l].rope)) i++;
        if (i == r->n) {
            r->own[i] = r->tables[i].rope = layers[l].rope;
            r->n++;
        }
        r->of[l] = i;
    }
    return REATTN_OK;
}

void reattn__ropes_free(reattn__ropes *r)
{
    for (int i = 0; i < r->n; i++) reattn__rope_table_free(&r->tables[i]);
    free(r->of);
    free(r->own);
    free(r->tables);
    *r = (reattn__ropes){0};
}

uint64_t reattn__ropes_table_bytes(const reattn__layer *layers, int n_layer, int64_t n)
{
    uint64_t bytes = 0;
    for (int l = 0; l < n_layer; l++) {
        int before = 0;
        while (before < l && !reattn__rope_same(&layers[before].rope, &layers[l].rope)) before++;
        if (before == l) bytes += reattn__rope_table_bytes(&layers[l].rope, n);
    }
    return bytes;
}

const reattn_rope *reattn__ropes_own(const reattn__ropes *r, int layer)
{
    return &r->own[r->of[layer]];
}

reattn__rope_table *reattn__ropes_use(reattn__ropes *r, int layer, const reattn_rope *rope)
{
    reattn__rope_table *table = &r->tables[r->of[layer]];
    if (!reattn__rope_same(&table->rope, rope)) {
        reattn__rope_table_free(table);
        table->rope = *rope;
    }
    return table;
}

float reattn__ropes_ntk_base(const reattn_rope *own, double a)
{
    return (float)((double)own->freq_base * pow(a, (double)own->n_rot / (own->n_rot - 2)));
}

int64_t reattn__ropes_times(int64_t n, int64_t trained)
{
    return REATTN__MAX((n + trained - 1) / trained, 1);
}

int reattn__ropes_new(const reattn_session_params *params, const reattn__layer *layers, int n_layer, void **state,
                      reattn_error *err)
{
    (void)params;
    for (int l = 0; l < n_layer; l++)
        if (layers[l].rope.n_rot < 4)
            return reattn__fail(err, REATTN_E_UNSUPPORTED, "layer %d rotates %d dimensions: the method needs 4", l,
                                layers[l].rope.n_rot);
    reattn__ropes *ropes = calloc(1, sizeof *ropes);
    if (!ropes) return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    int code = reattn__ropes_create(ropes, layers, n_layer, err);
    if (code != REATTN_OK) free(ropes);
    else *state = ropes;
    return code;
}

void reattn__ropes_destroy(void *state)
{
    if (!state) return;
    reattn__ropes_free(state);
    free(state);
}

uint64_t reattn__ropes_bytes_for(const reattn_session_params *params, const reattn__layer *layers, int n_layer,
                                 int64_t n, uint64_t *grows)
{
    (void)params;
    *grows = reattn__ropes_table_bytes(layers, n_layer, n);
    return 0;
}

int reattn__ropes_plan(reattn__plan *plan, const reattn__step *s, reattn__rope_table *table, reattn_error *err)
{
    int code = reattn__plan_room(plan, 1, 1, err);
    if (code != REATTN_OK) return code;
    reattn__plan_full(plan, s);
    plan->lists[0].rope = table;
    return REATTN_OK;
}
