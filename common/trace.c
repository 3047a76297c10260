/* trace.c - see trace.h. A step reports the spans of each layer (and KV head). They become edges, +1 where a layer's
 * spans begin and -1 where they end; sorted, their running sum is the number of layers that chose a position. */
#include "trace.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

typedef struct edge {
    int64_t pos;
    int delta;
} edge;

struct trace {
    FILE *file;
    const char *path;
    reattn_session *session;
    int64_t token; /* position of the query of the step that is gathered */
    int layer;
    reattn_span *spans; /* of one layer, all heads */
    size_t n_spans, cap_spans;
    edge *edges; /* of the step's finished layers */
    size_t n_edges, cap_edges;
    bool no_memory;
};

/* Makes room for n more items; false (and the flag set) if there is no memory. */
static bool reserve(trace *t, void **items, size_t *cap, size_t held, size_t n, size_t size)
{
    if (held + n <= *cap)
        return true;
    size_t grown = 2 * (held + n);
    void *p = realloc(*items, grown * size);
    if (!p)
        return t->no_memory = true, false;
    *items = p;
    *cap = grown;
    return true;
}

static int by_first(const void *a, const void *b)
{
    int64_t x = ((const reattn_span *)a)->first, y = ((const reattn_span *)b)->first;
    return (x > y) - (x < y);
}

static int by_pos(const void *a, const void *b)
{
    int64_t x = ((const edge *)a)->pos, y = ((const edge *)b)->pos;
    return (x > y) - (x < y);
}

/* A layer counts once where several of its heads chose the same position: its spans are joined first. */
static void finish_layer(trace *t)
{
    if (!t->n_spans || !reserve(t, (void **)&t->edges, &t->cap_edges, t->n_edges, 2 * t->n_spans, sizeof *t->edges))
        return;
    qsort(t->spans, t->n_spans, sizeof *t->spans, by_first);
    for (size_t i = 0; i < t->n_spans;) {
        int64_t first = t->spans[i].first, end = first;
        for (; i < t->n_spans && t->spans[i].first <= end; i++)
            if (t->spans[i].first + t->spans[i].count > end)
                end = t->spans[i].first + t->spans[i].count;
        t->edges[t->n_edges++] = (edge){first, 1};
        t->edges[t->n_edges++] = (edge){end, -1};
    }
    t->n_spans = 0;
}

static void on_recall(const reattn_trace *r, void *user)
{
    trace *t = user;
    if (r->token != t->token) {
        t->token = r->token;
        t->layer = r->layer;
        t->n_spans = t->n_edges = 0;
    }
    if (r->layer != t->layer) {
        finish_layer(t);
        t->layer = r->layer;
    }
    size_t n = (size_t)r->n_spans;
    if (!n || !reserve(t, (void **)&t->spans, &t->cap_spans, t->n_spans, n, sizeof *t->spans))
        return;
    memcpy(t->spans + t->n_spans, r->spans, n * sizeof *t->spans);
    t->n_spans += n;
}

int trace_open(const char *path, reattn_session *session, trace **out)
{
    trace *t = calloc(1, sizeof *t);
    FILE *f = t ? fopen(path, "w") : NULL;
    if (!f) {
        free(t);
        return cli_fail(EXIT_FAILED, "%s: %s", path, strerror(errno));
    }
    t->file = f;
    t->path = path;
    t->session = session;
    t->token = -1;
    reattn_session_set_trace(session, on_recall, t);
    *out = t;
    return EXIT_DONE;
}

/* Runs of positions that the same number of layers chose. */
static json_t *span_list(trace *t)
{
    json_t *list = json_array();
    finish_layer(t);
    if (t->n_edges)
        qsort(t->edges, t->n_edges, sizeof *t->edges, by_pos);
    int layers = 0;
    int64_t first = 0;
    for (size_t i = 0; i < t->n_edges;) {
        int64_t pos = t->edges[i].pos;
        int change = 0;
        for (; i < t->n_edges && t->edges[i].pos == pos; i++)
            change += t->edges[i].delta;
        if (!change)
            continue;
        if (layers)
            json_array_append_new(list, json_pack("{s:I, s:I, s:i}", "first", (json_int_t)first, "count",
                                                  (json_int_t)(pos - first), "layers", layers));
        layers += change;
        first = pos;
    }
    t->n_edges = 0;
    return list;
}

int trace_token(trace *t, int64_t position, const char *bytes, size_t n)
{
    text piece = {0}, pending = {0};
    bool fine = utf8_feed(&piece, &pending, bytes, n) && utf8_feed(&piece, &pending, "", 0);
    if (t->token != position - 1) /* the step recalled nothing */
        t->n_spans = t->n_edges = 0;
    json_t *line = fine ? json_pack("{s:I, s:s%, s:o}", "token", (json_int_t)position, "text", piece.data, piece.len,
                                    "spans", span_list(t))
                        : NULL;
    text_free(&piece);
    text_free(&pending);
    if (!line || t->no_memory) {
        json_decref(line);
        return cli_fail(EXIT_FAILED, "out of memory");
    }
    fine = !json_dumpf(line, t->file, JSON_COMPACT) && fputc('\n', t->file) != EOF;
    json_decref(line);
    return fine ? EXIT_DONE : cli_fail(EXIT_FAILED, "%s: %s", t->path, strerror(errno));
}

int trace_close(trace *t)
{
    int rc = EXIT_DONE;
    if (!t)
        return rc;
    reattn_session_set_trace(t->session, NULL, NULL);
    if (fclose(t->file))
        rc = cli_fail(EXIT_FAILED, "%s: %s", t->path, strerror(errno));
    free(t->spans);
    free(t->edges);
    free(t);
    return rc;
}
