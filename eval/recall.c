/* recall.c - see recall.h. */
#include "recall.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "passages.h"

enum { PASSAGES = 3 };

/* What the last step of a prompt had in scope. */
typedef struct scope {
    bool all;
    int64_t keep, local;        /* tokens below the one and from the other on, in every layer */
    const recalled_span *spans; /* [n] */
    size_t n;
} scope;

static scope scope_of(const reattn_session *session, const recalled_span *spans, size_t n)
{
    const reattn_session_params *p = reattn_session_get_params(session);
    const int64_t length = reattn_session_length(session);
    /* The tail is a step of its own; its first query has `local` last tokens, and the others see them too. */
    const int64_t step = p->tail ? p->tail < length ? p->tail : length : (length - 1) % p->chunk + 1;
    const int64_t last = p->local + (p->local_per == REATTN_LOCAL_PER_QUERY ? step - 1 : 0);
    reattn_stats stats;
    reattn_session_get_stats(session, &stats);
    return (scope){!strcmp(p->policy, "native") || stats.scope_max >= length, p->keep, length - last, spans, n};
}

/* The words of what one step recalled. */
static json_t *quote(const reattn_model *model, const reattn_session *session, const recalled_run *runs, size_t n,
                     int n_layer)
{
    passages p = {0};
    json_t *list = NULL;
    if (!passages_start(&p, reattn_session_length(session), n_layer)) {
        passages_add(&p, runs, n);
        list = passages_json(&p, model, reattn_session_tokens(session), PASSAGES);
    }
    passages_free(&p);
    return list;
}

/* Tokens of [first, end) in the scope of one head of a layer. */
static int64_t tokens_in(const scope *s, int layer, int head, int64_t first, int64_t end)
{
    int64_t count = 0;
    for (int64_t t = first; t < end; t++) {
        bool in = s->all || t < s->keep || t >= s->local;
        for (const recalled_span *r = s->spans; r < s->spans + s->n && !in; r++)
            in = r->layer == layer && (r->kv_head < 0 || r->kv_head == head) && t >= r->span.first &&
                 t < r->span.first + r->span.count;
        count += in;
    }
    return count;
}

json_t *recall_measure(const recalls *r, const reattn_model *model, const reattn_session *session, const passage *p)
{
    reattn_model_info info;
    recalled_run *runs;
    size_t n_spans, n_runs;
    const recalled_span *spans = recalls_spans(r, &n_spans);
    if (!spans || recalls_runs(r, &runs, &n_runs))
        return NULL;
    scope s = scope_of(session, spans, n_spans);
    json_t *layers = json_array(), *list = json_array();
    double values = 0, needles = 0;
    reattn_model_get_info(model, &info);
    for (int l = 0; l < info.n_layer; l++) {
        int whole = 0;
        for (int h = 0; h < info.n_head_kv; h++) {
            whole += tokens_in(&s, l, h, p->value, p->value_end) == p->value_end - p->value;
            needles += (double)tokens_in(&s, l, h, p->first, p->end) / (double)(p->end - p->first);
        }
        json_array_append_new(layers, json_real((double)whole / info.n_head_kv));
        values += whole;
    }
    for (size_t i = 0; i < n_runs; i++)
        json_array_append_new(
            list, json_pack("[I, I, i]", (json_int_t)runs[i].first, (json_int_t)runs[i].count, runs[i].layers));
    json_t *quoted = quote(model, session, runs, n_runs, info.n_layer);
    free(runs);
    double all = (double)info.n_layer * info.n_head_kv;
    json_t *out =
        json_pack("{s:I, s:I, s:f, s:f, s:b, s:o, s:o, s:o*}", "needle_token", (json_int_t)p->first, "needle_tokens",
                  (json_int_t)(p->end - p->first), "value_share", values / all, "needle_share", needles / all,
                  "everything", s.all, "layers", layers, "recalled", list, "passages", quoted);
    if (out && quoted)
        return out;
    if (quoted)
        cli_fail(EXIT_FAILED, "out of memory");
    json_decref(out);
    return NULL;
}

int recall_locate(const reattn_model *model, const char *text, size_t len, const int32_t *tokens, int64_t n,
                  size_t from, size_t to, int64_t *first, int64_t *end)
{
    /* From the end: what is put before a text (BOS, a space) does not matter. */
    size_t at = len;
    *first = *end = -1;
    for (int64_t t = n - 1; t >= 0 && at > from; t--) {
        char piece[512];
        int size = reattn_token_bytes(model, tokens[t], true, piece, sizeof piece);
        if (size < 0 || size > (int)sizeof piece || (size_t)size > at || memcmp(text + at - size, piece, (size_t)size))
            return cli_fail(EXIT_FAILED,
                            "the bytes of this model's tokens are not those of the text (at byte %zu of %zu): "
                            "where a needle is cannot be told",
                            at, len);
        if (at - (size_t)size < to && *end < 0)
            *end = t + 1;
        at -= (size_t)size;
        *first = t;
    }
    return *end > *first ? EXIT_DONE : cli_fail(EXIT_FAILED, "the needle is not in the prompt");
}
