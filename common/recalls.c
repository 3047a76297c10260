/* recalls.c - see recalls.h. A step reports the spans of each layer (and KV head). For runs they become edges, +1
 * where a layer's spans begin and -1 where they end; sorted, their running sum is the number of layers that chose a
 * position. */
#include "recalls.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct recalls {
    reattn_session *session;
    int64_t token;        /* position of the query of the step that is gathered */
    recalled_span *spans; /* [n], never NULL */
    size_t n, cap;
    bool no_memory;
};

static void on_recall(const reattn_trace *t, void *user)
{
    recalls *r = user;
    size_t more = (size_t)t->n_spans;
    if (t->token != r->token) {
        r->token = t->token;
        r->n = 0;
    }
    if (r->n + more > r->cap) {
        recalled_span *spans = realloc(r->spans, 2 * (r->n + more) * sizeof *spans);
        if (!spans) {
            r->no_memory = true;
            return;
        }
        r->spans = spans;
        r->cap = 2 * (r->n + more);
    }
    for (size_t i = 0; i < more; i++)
        r->spans[r->n++] = (recalled_span){t->layer, t->kv_head, t->spans[i]};
}

int recalls_watch(reattn_session *session, recalls **out)
{
    const char *policy = reattn_session_get_params(session)->policy;
    if (reattn_policy_drops(policy))
        return cli_fail(EXIT_USAGE, "--policy %s drops keys for good: what of the text it holds is not traced", policy);
    recalls *r = calloc(1, sizeof *r);
    if (r)
        r->spans = malloc(sizeof *r->spans);
    if (!r || !r->spans) {
        free(r);
        return cli_fail(EXIT_FAILED, "out of memory");
    }
    r->session = session;
    r->cap = 1;
    r->token = -1;
    reattn_session_set_trace(session, on_recall, r);
    *out = r;
    return EXIT_DONE;
}

void recalls_free(recalls *r)
{
    if (!r)
        return;
    reattn_session_set_trace(r->session, NULL, NULL);
    free(r->spans);
    free(r);
}

const recalled_span *recalls_spans(const recalls *r, size_t *n)
{
    *n = r->token == reattn_session_length(r->session) - 1 ? r->n : 0;
    if (!r->no_memory)
        return r->spans;
    cli_fail(EXIT_FAILED, "out of memory");
    return NULL;
}

typedef struct edge {
    int64_t pos;
    int delta;
} edge;

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

/* Appends the edges of one layer's spans, joined. Returns how many edges there are then. */
static size_t layer_edges(reattn_span *spans, size_t n, edge *edges, size_t n_edges)
{
    qsort(spans, n, sizeof *spans, by_first);
    for (size_t i = 0; i < n;) {
        int64_t first = spans[i].first, end = first;
        for (; i < n && spans[i].first <= end; i++)
            if (spans[i].first + spans[i].count > end)
                end = spans[i].first + spans[i].count;
        edges[n_edges++] = (edge){first, 1};
        edges[n_edges++] = (edge){end, -1};
    }
    return n_edges;
}

int recalls_runs(const recalls *r, recalled_run **runs, size_t *n_runs)
{
    size_t n, n_edges = 0;
    const recalled_span *spans = recalls_spans(r, &n);
    if (!spans)
        return EXIT_FAILED;
    reattn_span *layer = malloc((n + 1) * sizeof *layer);
    edge *edges = malloc((2 * n + 1) * sizeof *edges);
    *runs = malloc((2 * n + 1) * sizeof **runs);
    *n_runs = 0;
    if (layer && edges && *runs) {
        for (size_t i = 0; i < n;) {
            size_t in_layer = 0;
            for (int l = spans[i].layer; i < n && spans[i].layer == l; i++)
                layer[in_layer++] = spans[i].span;
            n_edges = layer_edges(layer, in_layer, edges, n_edges);
        }
        qsort(edges, n_edges, sizeof *edges, by_pos);
    }
    int layers = 0, rc = layer && edges && *runs ? EXIT_DONE : cli_fail(EXIT_FAILED, "out of memory");
    int64_t first = 0;
    for (size_t i = 0; i < n_edges;) {
        int64_t pos = edges[i].pos;
        int change = 0;
        for (; i < n_edges && edges[i].pos == pos; i++)
            change += edges[i].delta;
        if (!change)
            continue;
        if (layers)
            (*runs)[(*n_runs)++] = (recalled_run){first, pos - first, layers};
        layers += change;
        first = pos;
    }
    free(layer);
    free(edges);
    if (rc) {
        free(*runs);
        *runs = NULL;
    }
    return rc;
}
