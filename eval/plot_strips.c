/* plot_strips.c - see plot.h. */
#include "plot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "passages.h"
#include "strip.h"
#include "text.h"

enum { MOST_ROWS = 64 };

static json_int_t whole(const json_t *one, const char *member)
{
    return json_integer_value(json_object_get(one, member));
}

/* What is in `list` but cannot be drawn is freed too. */
static int write_all(strip *list, int n, const char *path, int rc)
{
    if (!rc)
        rc = strip_write(list, n, path);
    for (int i = 0; i < n; i++)
        strip_free(&list[i]);
    free(list);
    return rc;
}

/* -------------------------------------------------------------------------------------------- recall --------- */

/* Which text a case is about, under which configuration. */
static void title_of(const json_t *one, char *buf, size_t cap)
{
    snprintf(buf, cap, "%s: %s, %lld tokens, seed %lld", json_string_value(json_object_get(one, "config")),
             json_string_value(json_object_get(one, "haystack")), (long long)whole(one, "length"),
             (long long)whole(one, "seed"));
}

static bool same_text(const json_t *a, const json_t *b)
{
    static const char *const members[] = {"model", "config", "haystack", "length", "seed"};
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        if (!json_equal(json_object_get(a, members[i]), json_object_get(b, members[i])))
            return false;
    return true;
}

/* Options are kept as text. */
static int64_t option_of(const json_t *one, const char *name)
{
    const char *s = json_string_value(json_object_get(json_object_get(one, "options"), name));
    return s ? strtoll(s, NULL, 10) : 0;
}

static void add_question(strip *s, const json_t *one)
{
    const json_t *runs = json_object_get(one, "recalled"),
                 *passage = json_array_get(json_object_get(one, "passages"), 0);
    size_t layers = json_array_size(json_object_get(one, "layers"));
    strip_row *row = &s->rows[s->n_rows++];
    char before[64];
    bool right = json_number_value(json_object_get(one, "score")) > 0;
    snprintf(row->label, sizeof row->label, "%lld %%, %s", (long long)whole(one, "depth"), right ? "right" : "wrong");
    row->marked = whole(one, "needle_token");
    row->marked_end = row->marked + whole(one, "needle_tokens");
    for (size_t i = 0; i < json_array_size(runs); i++) {
        const json_t *run = json_array_get(runs, i);
        json_int_t first = json_integer_value(json_array_get(run, 0)),
                   count = json_integer_value(json_array_get(run, 1));
        strip_add(s, row, first, count,
                  (double)json_integer_value(json_array_get(run, 2)) / (double)(layers ? layers : 1));
    }
    s->keep = json_is_true(json_object_get(one, "everything")) ? s->n : option_of(one, "keep");
    s->local = option_of(one, "local");
    snprintf(before, sizeof before, "%lld %%: ", (long long)whole(one, "depth"));
    if (passage)
        json_array_append_new(s->quotes, strip_quote(passage, before));
}

/* The strip of the text that case `first` is about. */
static int draw_text_of(const json_t *cases, size_t first, strip *s)
{
    const json_t *of = json_array_get(cases, first);
    size_t n = json_array_size(cases);
    *s = (strip){.rows = calloc(n, sizeof *s->rows), .quotes = json_array()};
    if (!s->rows || !s->quotes)
        return cli_fail(EXIT_FAILED, "out of memory");
    title_of(of, s->title, sizeof s->title);
    snprintf(s->note, sizeof s->note,
             "%s; share of layers that recalled a part of the text as the answer began; framed: the needle; shaded: "
             "always in scope",
             json_string_value(json_object_get(of, "model")));
    for (size_t i = first; i < n; i++)
        if (same_text(of, json_array_get(cases, i)) && whole(json_array_get(cases, i), "prompt_tokens") > s->n)
            s->n = whole(json_array_get(cases, i), "prompt_tokens");
    for (size_t i = first; i < n; i++)
        if (same_text(of, json_array_get(cases, i)) && json_object_get(json_array_get(cases, i), "recalled"))
            add_question(s, json_array_get(cases, i));
    return EXIT_DONE;
}

int plot_recalled(const json_t *cases, const char *path)
{
    size_t n_cases = json_array_size(cases);
    strip *list = calloc(n_cases + 1, sizeof *list);
    int n = 0, rc = list ? EXIT_DONE : cli_fail(EXIT_FAILED, "out of memory");
    for (size_t i = 0; i < n_cases && !rc; i++) {
        bool drawn = !json_object_get(json_array_get(cases, i), "recalled");
        for (size_t k = 0; k < i && !drawn; k++)
            drawn = same_text(json_array_get(cases, k), json_array_get(cases, i));
        if (!drawn)
            rc = draw_text_of(cases, i, &list[n++]);
    }
    if (!rc && !n)
        rc = cli_fail(EXIT_FAILED, "there are no cases with what was recalled: eval recall writes them");
    return write_all(list, n, path, rc);
}

/* --------------------------------------------------------------------------------------------- trace --------- */

/* The objects of a file, one a line. */
static int read_lines(const char *path, json_t *lines)
{
    text all = {0};
    int rc = text_read(&all, path), number = 1;
    for (char *s = all.data, *end; !rc && s && *s; s = end + 1, number++) {
        json_error_t err;
        if (!(end = strchr(s, '\n')))
            break;
        json_t *one = json_loadb(s, (size_t)(end - s), JSON_ALLOW_NUL, &err);
        if (!json_is_object(one) || json_array_append(lines, one))
            rc = cli_fail(EXIT_FAILED, "%s: line %d is no record of a trace", path, number);
        json_decref(one);
    }
    text_free(&all);
    return rc;
}

/* The row of a token of the answer (NULL: there are enough), and its part of the sum. */
static int add_step(strip *s, strip_row *row, const json_t *one, passages *sum)
{
    const json_t *spans = json_object_get(one, "spans"), *label = json_object_get(one, "text");
    size_t n = json_array_size(spans);
    recalled_run *runs = malloc((n + 1) * sizeof *runs);
    if (!runs)
        return cli_fail(EXIT_FAILED, "out of memory");
    if (row)
        strip_label(row, json_string_value(label), json_string_length(label));
    for (size_t i = 0; i < n; i++) {
        const json_t *span = json_array_get(spans, i);
        runs[i] = (recalled_run){whole(span, "first"), whole(span, "count"), (int)whole(span, "layers")};
        if (row)
            strip_add(s, row, runs[i].first, runs[i].count, (double)runs[i].layers / sum->n_layer);
    }
    passages_add(sum, runs, n);
    free(runs);
    return EXIT_DONE;
}

/* `lines` are the steps and, last, what the whole answer was drawn from. */
static int draw_trace(const char *path, const json_t *lines, strip *s)
{
    size_t n = json_array_size(lines);
    const json_t *last = n ? json_array_get(lines, n - 1) : NULL, *quoted = json_object_get(last, "passages");
    passages sum = {0};
    int layers = (int)whole(last, "layers");
    *s = (strip){.n = whole(last, "prompt_tokens"),
                 .keep = whole(last, "keep"),
                 .local = whole(last, "local"),
                 .rows = calloc(MOST_ROWS + 1, sizeof *s->rows),
                 .n_rows = 1,
                 .tall = true,
                 .quotes = json_array()};
    if (!s->rows || !s->quotes)
        return cli_fail(EXIT_FAILED, "out of memory");
    if (!quoted || s->n < 1 || layers < 1)
        return cli_fail(EXIT_FAILED, "%s: the last line has no passages: reattn run did not finish it", path);
    int rc = passages_start(&sum, s->n, layers);
    snprintf(s->title, sizeof s->title, "What the answer was drawn from: %s", path);
    snprintf(s->note, sizeof s->note,
             "share of layers that recalled a part of the text, %lld tokens; shaded: always in scope", (long long)s->n);
    for (size_t i = 0; i + 1 < n && !rc; i++)
        rc = add_step(s, s->n_rows <= MOST_ROWS ? &s->rows[s->n_rows++] : NULL, json_array_get(lines, i), &sum);
    snprintf(s->rows[0].label, sizeof s->rows[0].label, "whole answer");
    for (int64_t t = 0; t < s->n && !rc; t++)
        strip_add(s, &s->rows[0], t, 1, passages_share(&sum, t));
    for (size_t i = 0; i < json_array_size(quoted); i++)
        json_array_append_new(s->quotes, strip_quote(json_array_get(quoted, i), ""));
    passages_free(&sum);
    return rc;
}

int plot_traces(const char *const *files, int n, const char *path)
{
    strip *list = calloc((size_t)n + 1, sizeof *list);
    int done = 0, rc = list ? EXIT_DONE : cli_fail(EXIT_FAILED, "out of memory");
    for (; done < n && !rc; done++) {
        json_t *lines = json_array();
        rc = read_lines(files[done], lines);
        if (!rc)
            rc = draw_trace(files[done], lines, &list[done]);
        json_decref(lines);
    }
    return write_all(list, done, path, rc);
}
