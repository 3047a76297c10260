/* lines.c - see lines.h. */
#include "lines.h"

#include <stdlib.h>

#include "base/base.h"

static int queries(bench_lines *l, const bench_kind *kind, reattn_error *err)
{
    int code = REATTN_OK;
    for (int i = 0; i < l->r->n_queries && code == REATTN_OK; i++) {
        l->T = l->r->queries[i];
        code = kind->line(l, err);
        if (code == REATTN_OK && !l->r->json)
            kind->print(l);
        l->n_rows += code == REATTN_OK;
    }
    return code;
}

static int all(bench_lines *l, const bench_kind *kind, reattn_error *err)
{
    const bench_request *r = l->r;
    int code = bench_data_open(r, &l->data, err);
    if (code != REATTN_OK)
        return code;
    l->shape = bench_data_shape(l->data);
    l->rows = calloc((size_t)(r->n_keys * r->n_queries * r->n_types), kind->row_bytes);
    if (!l->rows)
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    code = kind->start(l, err);
    for (int i = 0; i < r->n_types && code == REATTN_OK; i++)
        for (int j = 0; j < r->n_keys && code == REATTN_OK; j++) {
            l->type_k = r->types_k[i], l->type_v = r->types_v[i], l->keys = r->keys[j];
            code = kind->open(l, err);
            if (code == REATTN_OK)
                code = queries(l, kind, err);
            kind->close(l);
        }
    return code == REATTN_OK ? kind->finish(l, err) : code;
}

int bench_lines_run(const bench_request *request, const bench_kind *kind, void *ctx, reattn_error *err)
{
    bench_request r = *request;
    bench_lines *l = ctx;
    l->r = &r;
    if (r.n_threads == 0)
        r.n_threads = reattn__cores();
    int code = all(l, kind, err);
    kind->stop(l);
    free(l->rows);
    bench_data_close(l->data);
    return code;
}
