/* passages.c - see passages.h. */
#include "passages.h"

#include <stdbool.h>
#include <stdlib.h>

#include "text.h"

typedef struct found {
    int64_t first, end;
    double share;
} found;

int passages_start(passages *p, int64_t n_tokens, int n_layer)
{
    *p = (passages){calloc((size_t)n_tokens + 1, sizeof *p->share), n_tokens, n_layer, 0};
    return p->share ? EXIT_DONE : cli_fail(EXIT_FAILED, "out of memory");
}

void passages_free(passages *p)
{
    free(p->share);
    *p = (passages){0};
}

void passages_add(passages *p, const recalled_run *runs, size_t n)
{
    p->n_steps++;
    for (size_t i = 0; i < n; i++)
        for (int64_t t = runs[i].first; t < runs[i].first + runs[i].count && t < p->n; t++)
            p->share[t] += (double)runs[i].layers / p->n_layer;
}

double passages_share(const passages *p, int64_t token)
{
    return p->n_steps ? p->share[token] / p->n_steps : 0;
}

static int by_share(const void *a, const void *b)
{
    double x = ((const found *)a)->share, y = ((const found *)b)->share;
    return (x < y) - (x > y);
}

/* Takes the highest peak, then the highest of what is left. Returns how many; -1 if there is no memory. */
static int find(const passages *p, found *out, int most)
{
    int n = 0;
    bool *used = calloc((size_t)p->n + 1, sizeof *used);
    if (!used)
        return -1;
    while (n < most) {
        int64_t peak = -1;
        for (int64_t t = 0; t < p->n; t++)
            if (!used[t] && p->share[t] > 0 && (peak < 0 || p->share[t] > p->share[peak]))
                peak = t;
        if (peak < 0)
            break;
        found f = {peak, peak + 1, p->share[peak]};
        while (f.first > 0 && !used[f.first - 1] && p->share[f.first - 1] >= 0.5 * f.share)
            f.first--;
        while (f.end < p->n && !used[f.end] && p->share[f.end] >= 0.5 * f.share)
            f.end++;
        for (int64_t t = f.first; t < f.end; t++)
            used[t] = true;
        f.share = passages_share(p, peak);
        out[n++] = f;
    }
    free(used);
    qsort(out, (size_t)n, sizeof *out, by_share);
    return n;
}

static bool quote(const reattn_model *model, const int32_t *tokens, int64_t first, int64_t end, text *out)
{
    text pending = {0};
    bool fine = text_append(out, "", 0);
    for (int64_t t = first; t < end && fine; t++) {
        char piece[512];
        int n = reattn_token_bytes(model, tokens[t], false, piece, sizeof piece);
        n = n < 0 ? 0 : n < (int)sizeof piece ? n : (int)sizeof piece;
        for (int i = 0; i < n; i++)
            if (piece[i] == '\n' || piece[i] == '\r')
                piece[i] = ' ';
        fine = !n || utf8_feed(out, &pending, piece, (size_t)n);
    }
    fine = fine && utf8_feed(out, &pending, "", 0);
    text_free(&pending);
    return fine;
}

json_t *passages_json(const passages *p, const reattn_model *model, const int32_t *tokens, int most)
{
    found *list = malloc((size_t)most * sizeof *list);
    json_t *out = json_array();
    int n = list ? find(p, list, most) : -1;
    bool fine = n >= 0 && out;
    for (int i = 0; i < n && fine; i++) {
        text words = {0};
        fine = quote(model, tokens, list[i].first, list[i].end, &words) &&
               !json_array_append_new(out, json_pack("{s:I, s:I, s:f, s:s%}", "first", (json_int_t)list[i].first,
                                                     "count", (json_int_t)(list[i].end - list[i].first), "share",
                                                     list[i].share, "text", words.data, words.len));
        text_free(&words);
    }
    free(list);
    if (fine)
        return out;
    json_decref(out);
    cli_fail(EXIT_FAILED, "out of memory");
    return NULL;
}
