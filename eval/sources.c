/* sources.c - reattn eval sources: which passages of a text an answer was drawn from.
 *
 * While the answer is generated, what each step recalls is gathered: for every token of the text, the share of
 * layers that recalled it, by token of the answer. It is shown as a strip over the text, one row for each token of
 * the answer, and as the passages that were recalled most, in their own words. The first and last tokens, which are
 * always in scope, are marked and not counted. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "draw.h"
#include "eval.h"
#include "generate.h"
#include "interrupt.h"
#include "load.h"
#include "recalls.h"

enum { BINS = 600, MOST_ROWS = 64, ANSWER = 32, PASSAGES = 6 };

typedef struct row {
    char label[48];   /* the token of the answer */
    float bins[BINS]; /* largest share of layers in each part of the text */
} row;

typedef struct sources {
    const options *opt;
    reattn_model *model;
    reattn_session *session;
    reattn_sampler *sampler;
    recalls *recalls;
    text message, template, answer;
    int32_t *tokens; /* [n] of the prompt */
    int64_t n;
    int n_layer;
    double *share; /* [n] of layers, mean over the answer's tokens */
    row *rows;     /* [n_rows] */
    int n_rows, n_steps;
} sources;

/* ------------------------------------------------------------------------------------------- gather ---------- */

static int read_text(sources *s)
{
    const options *opt = s->opt;
    if (!opt->n_files)
        return cli_fail(EXIT_USAGE, "eval sources needs a text: -f FILE, and a question: -p TEXT");
    int rc = opt->template_file ? text_read(&s->template, opt->template_file) : EXIT_DONE;
    if (!rc)
        rc = load_files(opt, &s->message);
    if (!rc && opt->prompt && !load_append_part(&s->message, opt->prompt, strlen(opt->prompt)))
        rc = cli_fail(EXIT_FAILED, "out of memory");
    return rc;
}

static int make_tokens(sources *s)
{
    if (s->opt->raw)
        return load_tokens(s->model, s->message.data, s->message.len, true, &s->tokens, &s->n);
    const reattn_message message = {"user", s->message.data};
    char *formatted;
    reattn_error err;
    if (reattn_chat_format(s->model, s->template.data, &message, 1, true, &formatted, &err))
        return cli_fail(EXIT_FAILED, "%s", err.msg);
    int rc = load_tokens(s->model, formatted, strlen(formatted), true, &s->tokens, &s->n);
    reattn_free(formatted);
    return rc;
}

/* A token as a label: whole characters, no line breaks. */
static void set_label(row *r, const char *piece, int n)
{
    text clean = {0}, pending = {0};
    size_t at = 0;
    if (utf8_feed(&clean, &pending, piece, (size_t)n) && utf8_feed(&clean, &pending, "", 0))
        for (int size; at < clean.len && (size = utf8_length(clean.data + at, clean.len - at)) > 0 &&
                       at + (size_t)size < sizeof r->label;
             at += (size_t)size)
            memcpy(r->label + at, (unsigned char)clean.data[at] < ' ' ? " " : clean.data + at, (size_t)size);
    r->label[at] = 0;
    text_free(&clean);
    text_free(&pending);
}

/* Adds what the step that chose a token recalled. */
static int gather(sources *s, const char *piece, int n)
{
    recalled_run *runs;
    size_t n_runs;
    int rc = recalls_runs(s->recalls, &runs, &n_runs);
    row *r = s->n_rows < MOST_ROWS ? &s->rows[s->n_rows++] : NULL;
    if (r)
        set_label(r, piece, n);
    for (size_t i = 0; i < n_runs && !rc; i++) {
        double share = (double)runs[i].layers / s->n_layer;
        for (int64_t t = runs[i].first; t < runs[i].first + runs[i].count && t < s->n; t++) {
            s->share[t] += share;
            float *bin = r ? &r->bins[t * BINS / s->n] : NULL;
            if (bin && share > *bin)
                *bin = (float)share;
        }
    }
    s->n_steps++;
    free(runs);
    return rc;
}

static int answer_step(sources *s, bool *more)
{
    int32_t token;
    char piece[512];
    reattn_error err;
    text pending = {0};
    if (reattn_sampler_sample(s->sampler, s->session, &token, &err))
        return cli_fail(EXIT_FAILED, "%s", err.msg);
    *more = !reattn_token_is_eog(s->model, token);
    if (!*more)
        return EXIT_DONE;
    int n = reattn_token_bytes(s->model, token, false, piece, sizeof piece);
    n = n < 0 ? 0 : n > (int)sizeof piece ? (int)sizeof piece : n;
    bool fine = utf8_feed(&s->answer, &pending, piece, (size_t)n);
    text_free(&pending);
    int rc = fine ? gather(s, piece, n) : cli_fail(EXIT_FAILED, "out of memory");
    if (!rc && reattn_session_decode(s->session, token, &err))
        rc = interrupt_pending() ? EXIT_INTERRUPTED : cli_fail(EXIT_FAILED, "%s", err.msg);
    return rc;
}

static int run(sources *s)
{
    reattn_model_info info;
    reattn_error err;
    reattn_sampler_params greedy = reattn_sampler_params_default();
    int64_t limit = s->opt->eval.n_answer ? s->opt->eval.n_answer : ANSWER;
    greedy.temp = 0;
    int rc = read_text(s);
    if (!rc)
        rc = load_model(s->opt, load_is_native(s->opt->session.policy), &s->model);
    if (!rc)
        rc = make_tokens(s);
    if (!rc)
        rc = load_session(s->opt, s->model, s->n + limit, &s->session);
    if (!rc && reattn_sampler_create(s->model, &greedy, &s->sampler, &err))
        rc = cli_fail(EXIT_FAILED, "%s", err.msg);
    if (!rc)
        rc = recalls_watch(s->session, &s->recalls);
    if (rc)
        return rc;
    reattn_model_get_info(s->model, &info);
    s->n_layer = info.n_layer;
    s->share = calloc((size_t)s->n, sizeof *s->share);
    s->rows = calloc(MOST_ROWS, sizeof *s->rows);
    if (!s->share || !s->rows || !text_append(&s->answer, "", 0))
        return cli_fail(EXIT_FAILED, "out of memory");
    interrupt_watch(s->session);
    rc = generate_prompt(s->session, s->tokens, s->n, s->opt->quiet);
    bool more = true;
    for (int64_t i = 0; i < limit && more && !rc; i++)
        rc = answer_step(s, &more);
    interrupt_watch(NULL);
    for (int64_t t = 0; t < s->n && s->n_steps; t++)
        s->share[t] /= s->n_steps;
    return rc == EXIT_INTERRUPTED ? cli_fail(rc, "interrupted") : rc;
}

/* ----------------------------------------------------------------------------------------- passages ---------- */

typedef struct passage {
    int64_t first, end;
    double share; /* largest share of a token in it */
} passage;

static int by_share(const void *a, const void *b)
{
    double x = ((const passage *)a)->share, y = ((const passage *)b)->share;
    return (x < y) - (x > y);
}

/* Tokens around each peak that were recalled at least half as much as the peak; the PASSAGES highest. */
static int find_passages(const sources *s, passage *out)
{
    int n = 0;
    bool *used = calloc((size_t)s->n, sizeof *used);
    while (used && n < PASSAGES) {
        int64_t peak = -1;
        for (int64_t t = 0; t < s->n; t++)
            if (!used[t] && s->share[t] > 0 && (peak < 0 || s->share[t] > s->share[peak]))
                peak = t;
        if (peak < 0)
            break;
        passage p = {peak, peak + 1, s->share[peak]};
        while (p.first > 0 && !used[p.first - 1] && s->share[p.first - 1] >= 0.5 * p.share)
            p.first--;
        while (p.end < s->n && !used[p.end] && s->share[p.end] >= 0.5 * p.share)
            p.end++;
        for (int64_t t = p.first; t < p.end; t++)
            used[t] = true;
        out[n++] = p;
    }
    free(used);
    qsort(out, (size_t)n, sizeof *out, by_share);
    return n;
}

/* The words of tokens [first, end), on one line. */
static bool quote(const sources *s, int64_t first, int64_t end, text *out)
{
    text pending = {0};
    bool fine = text_append(out, "", 0);
    for (int64_t t = first; t < end && fine; t++) {
        char piece[512];
        int n = reattn_token_bytes(s->model, s->tokens[t], false, piece, sizeof piece);
        for (int i = 0; i < n && i < (int)sizeof piece; i++)
            if (piece[i] == '\n' || piece[i] == '\r')
                piece[i] = ' ';
        fine = utf8_feed(out, &pending, piece, n > 0 ? (size_t)(n < (int)sizeof piece ? n : (int)sizeof piece) : 0);
    }
    fine = fine && utf8_feed(out, &pending, "", 0);
    text_free(&pending);
    return fine;
}

static int print(const sources *s)
{
    passage list[PASSAGES];
    int n = find_passages(s, list);
    json_t *passages = json_array();
    if (!s->opt->json)
        printf("%s\n\n", s->answer.data);
    for (int i = 0; i < n; i++) {
        text words = {0};
        if (!quote(s, list[i].first, list[i].end, &words))
            return cli_fail(EXIT_FAILED, "out of memory");
        if (s->opt->json)
            json_array_append_new(passages, json_pack("{s:I, s:I, s:f, s:s%}", "first", (json_int_t)list[i].first,
                                                      "count", (json_int_t)(list[i].end - list[i].first), "share",
                                                      list[i].share, "text", words.data, words.len));
        else
            printf("%d. recalled by %.0f %% of the layers: tokens %lld to %lld, at %.0f %% of the text\n   \"%s\"\n",
                   i + 1, 100 * list[i].share, (long long)list[i].first, (long long)list[i].end - 1,
                   100.0 * (double)list[i].first / (double)s->n, words.data);
        text_free(&words);
    }
    if (!s->opt->json && !n)
        printf("Nothing was recalled: the scope held the whole text, or the policy recalls nothing.\n");
    json_t *all = json_pack("{s:s%, s:I, s:i, s:o}", "text", s->answer.data, s->answer.len, "prompt_tokens",
                            (json_int_t)s->n, "answer_tokens", s->n_steps, "passages", passages);
    int failed = s->opt->json && (!all || json_dumpf(all, stdout, JSON_REAL_PRECISION(9)) || putchar('\n') == EOF);
    json_decref(all);
    return failed ? cli_fail(EXIT_FAILED, "the JSON object could not be written") : EXIT_DONE;
}

/* --------------------------------------------------------------------------------------------- strip --------- */

enum { LABELS = 110, ROW = 14, TOP = 70, SUM = 26, MARGIN = 20 };

static void draw_bins(drawing *d, double y, double h, const float *bins)
{
    for (int b = 0; b < BINS;) { /* equal neighbours are one rectangle */
        int end = b + 1;
        while (end < BINS && bins[end] == bins[b])
            end++;
        if (bins[b] > 0)
            draw_rect(d, LABELS + b, y, end - b, h, draw_density_color(bins[b]));
        b = end;
    }
}

/* What is in scope by rule: the first and the last tokens. */
static void draw_always(const sources *s, drawing *d, double y, double h)
{
    const reattn_session_params *p = reattn_session_get_params(s->session);
    double scale = (double)BINS / (double)s->n, local = s->n > p->local ? (double)(s->n - p->local) * scale : 0;
    const color shade = {0.92, 0.92, 0.86};
    draw_rect(d, LABELS, y, (double)(p->keep < s->n ? p->keep : s->n) * scale, h, shade);
    draw_rect(d, LABELS + local, y, BINS - local, h, shade);
}

static int draw(const sources *s, const char *path)
{
    double height = TOP + SUM + 8 + s->n_rows * ROW + 44;
    float sum[BINS] = {0};
    char line[128];
    drawing *d;
    int rc = draw_open(path, LABELS + BINS + MARGIN, height, &d);
    if (rc)
        return rc;
    for (int64_t t = 0; t < s->n; t++) {
        float *bin = &sum[t * BINS / s->n];
        *bin = s->share[t] > *bin ? (float)s->share[t] : *bin;
    }
    draw_text(d, MARGIN, 24, 0, 13, false, draw_black, "What the answer was drawn from");
    snprintf(line, sizeof line,
             "share of layers that recalled a part of the text, %lld tokens; shaded: always in scope", (long long)s->n);
    draw_text(d, MARGIN, 42, 0, 10, false, draw_grey, line);
    draw_always(s, d, TOP, SUM + 8 + s->n_rows * ROW);
    draw_text(d, LABELS - 8, TOP + SUM / 2.0 + 4, 1, 10, false, draw_black, "whole answer");
    draw_bins(d, TOP, SUM, sum);
    for (int i = 0; i < s->n_rows; i++) {
        double y = TOP + SUM + 8 + i * ROW;
        draw_text(d, LABELS - 8, y + ROW - 4, 1, 10, false, draw_black, s->rows[i].label);
        draw_bins(d, y, ROW - 1, s->rows[i].bins);
    }
    double bottom = TOP + SUM + 8 + s->n_rows * ROW;
    const double frame[5][2] = {
        {LABELS, TOP}, {LABELS + BINS, TOP}, {LABELS + BINS, bottom}, {LABELS, bottom}, {LABELS, TOP}};
    draw_line(d, frame, 5, 0.5, false, draw_grey);
    for (int i = 0; i <= 4; i++) {
        snprintf(line, sizeof line, "%lld", (long long)(s->n * i / 4));
        draw_text(d, LABELS + BINS * i / 4.0, bottom + 15, i == 4 ? 1 : i ? 0.5 : 0, 10, false, draw_black, line);
    }
    draw_text(d, LABELS + BINS / 2.0, bottom + 32, 0.5, 10, false, draw_grey, "token of the prompt");
    return draw_close(d);
}

int eval_sources(const options *opt)
{
    sources s = {.opt = opt};
    int rc = run(&s);
    if (!rc)
        rc = print(&s);
    if (!rc && opt->out)
        rc = draw(&s, opt->out);
    recalls_free(s.recalls);
    free(s.share);
    free(s.rows);
    free(s.tokens);
    text_free(&s.message);
    text_free(&s.template);
    text_free(&s.answer);
    reattn_sampler_free(s.sampler);
    reattn_session_free(s.session);
    reattn_model_free(s.model);
    return rc;
}
