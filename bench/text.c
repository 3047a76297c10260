/* text.c - see text.h. A session reads the text; its own layer function is called from one that keeps the queries. */
#include "text.h"

#include <stdlib.h>
#include <string.h>

#include "session/session.h"

struct bench_text {
    reattn_session *session;
    int64_t first, n; /* queries of tokens [first, n) are kept */
    float *q;         /* [n_layer][n - first][H][D] */
};

static int keep_queries(void *user, int layer, int64_t T, const float *q, const float *k, const float *v, float *out,
                        reattn_error *err)
{
    bench_text *text = user;
    const reattn__layer *shape = &text->session->layers[layer];
    int64_t row = (int64_t)shape->H * shape->D, at = text->session->n - T, skip = REATTN__MAX(text->first - at, 0);
    if (skip < T)
        memcpy(text->q + (layer * (text->n - text->first) + at + skip - text->first) * row, q + skip * row,
               (size_t)((T - skip) * row) * sizeof *q);
    return reattn__session_layer(text->session, layer, T, q, k, v, out, err);
}

static int check_shapes(const reattn_session *s, reattn_error *err)
{
    for (int l = 1; l < s->n_layer; l++)
        if (s->layers[l].H != s->layers[0].H || s->layers[l].Hk != s->layers[0].Hk ||
            s->layers[l].D != s->layers[0].D || s->layers[l].Dv != s->layers[0].Dv)
            return reattn__fail(err, REATTN_E_UNSUPPORTED,
                                "layers of different shapes: give the shape with --heads, "
                                "--kv-heads and --dim instead of a text");
    return REATTN_OK;
}

int bench_text_open(const bench_request *r, bench_text **out, reattn_error *err)
{
    int64_t most_keys = r->keys[r->n_keys - 1], most_queries = r->queries[r->n_queries - 1];
    if (r->n_tokens < most_keys || r->n_tokens < 2 * most_queries)
        return reattn__fail(err, REATTN_E_ARG, "%s has %lld tokens: --keys and twice --queries must not be more",
                            r->text, (long long)r->n_tokens);
    bench_text *text = calloc(1, sizeof *text);
    if (!text)
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    reattn_session_params params = reattn_session_params_default();
    params.type_k = params.type_v = REATTN_F32;
    params.engine = REATTN_ENGINE_CPU;
    params.n_threads = r->n_threads;
    text->n = REATTN__MAX(most_keys, 2 * most_queries);
    text->first = text->n - 2 * most_queries;
    int code = reattn_session_create(r->model, &params, &text->session, err);
    if (code == REATTN_OK)
        code = check_shapes(text->session, err);
    if (code == REATTN_OK) {
        reattn_session *s = text->session;
        size_t bytes = (size_t)(s->n_layer * 2 * most_queries * s->layers[0].H * s->layers[0].D) * sizeof *text->q;
        text->q = calloc(bytes, 1);
        reattn__bridge_free(s->bridge);
        s->bridge = NULL;
        reattn__bridge_args args = {.chunk = s->params.chunk, .n_threads = s->params.n_threads, .fn = keep_queries,
                                    .user = text};
        code = text->q ? reattn__bridge_create(r->model, &args, &s->bridge, err)
                       : reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    }
    if (code == REATTN_OK)
        code = reattn_session_prompt(text->session, r->tokens, text->n, NULL, NULL, err);
    if (code != REATTN_OK) {
        bench_text_close(text);
        return code;
    }
    *out = text;
    return REATTN_OK;
}

void bench_text_close(bench_text *text)
{
    if (!text)
        return;
    reattn_session_free(text->session);
    free(text->q);
    free(text);
}

int bench_text_layers(const bench_text *text)
{
    return text->session->n_layer;
}

const reattn__store *bench_text_store(const bench_text *text)
{
    return text->session->store;
}

int bench_text_queries(const bench_text *text, int layer, int64_t T, bool before, float *q, reattn_error *err)
{
    const reattn__layer *shape = &text->session->layers[layer];
    int64_t row = (int64_t)shape->H * shape->D, kept = text->n - text->first;
    int64_t from = kept - T * (before ? 2 : 1);
    if (from < 0)
        return reattn__fail(err, REATTN_E_INTERNAL, "queries of %lld tokens were kept", (long long)kept);
    memcpy(q, text->q + (layer * kept + from) * row, (size_t)(T * row) * sizeof *q);
    return REATTN_OK;
}
