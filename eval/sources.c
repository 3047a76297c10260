/* sources.c - reattn eval sources: which passages of a text an answer was drawn from.
 *
 * While the answer is generated, what each step recalls is gathered: for every token of the text, the share of
 * layers that recalled it, by token of the answer. It is shown as a strip over the text, one row for each token of
 * the answer, and as the passages that were recalled most, in their own words. The first and last tokens, which are
 * always in scope, are marked and not counted. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval.h"
#include "generate.h"
#include "interrupt.h"
#include "load.h"
#include "passages.h"
#include "recalls.h"
#include "strip.h"

enum { MOST_ROWS = 64, ANSWER = 32, PASSAGES = 6 };

typedef struct sources {
    const options *opt;
    reattn_model *model;
    reattn_session *session;
    reattn_sampler *sampler;
    recalls *recalls;
    text message, template, answer;
    int32_t *tokens; /* [n] of the prompt */
    int64_t n;
    passages gathered;
    strip strip; /* the first row is the whole answer */
    json_t *passages;
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

/* Adds what the step that chose a token recalled. */
static int gather(sources *s, const char *piece, int n)
{
    recalled_run *runs;
    size_t n_runs;
    int rc = recalls_runs(s->recalls, &runs, &n_runs);
    if (rc)
        return rc;
    passages_add(&s->gathered, runs, n_runs);
    if (s->strip.n_rows <= MOST_ROWS) {
        strip_row *row = &s->strip.rows[s->strip.n_rows++];
        strip_label(row, piece, (size_t)n);
        for (size_t i = 0; i < n_runs; i++)
            strip_add(&s->strip, row, runs[i].first, runs[i].count, (double)runs[i].layers / s->gathered.n_layer);
    }
    free(runs);
    return EXIT_DONE;
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
    s->strip = (strip){.n = s->n, .rows = calloc(MOST_ROWS + 1, sizeof *s->strip.rows), .n_rows = 1, .tall = true};
    if (!s->strip.rows || !text_append(&s->answer, "", 0))
        return cli_fail(EXIT_FAILED, "out of memory");
    if ((rc = passages_start(&s->gathered, s->n, info.n_layer)))
        return rc;
    interrupt_watch(s->session);
    rc = generate_prompt(s->session, s->tokens, s->n, s->opt->quiet);
    bool more = true;
    for (int64_t i = 0; i < limit && more && !rc; i++)
        rc = answer_step(s, &more);
    interrupt_watch(NULL);
    if (!rc && !(s->passages = passages_json(&s->gathered, s->model, s->tokens, PASSAGES)))
        rc = EXIT_FAILED;
    return rc == EXIT_INTERRUPTED ? cli_fail(rc, "interrupted") : rc;
}

/* -------------------------------------------------------------------------------------------- output --------- */

static int print(const sources *s)
{
    size_t n = json_array_size(s->passages);
    if (!s->opt->json)
        printf("%s\n\n", s->answer.data);
    for (size_t i = 0; i < n && !s->opt->json; i++) {
        const json_t *p = json_array_get(s->passages, i);
        long long first = json_integer_value(json_object_get(p, "first"));
        printf("%zu. recalled by %.0f %% of the layers: tokens %lld to %lld, at %.0f %% of the text\n   \"%s\"\n",
               i + 1, 100 * json_number_value(json_object_get(p, "share")), first,
               first + (long long)json_integer_value(json_object_get(p, "count")) - 1,
               100.0 * (double)first / (double)s->n, json_string_value(json_object_get(p, "text")));
    }
    if (!s->opt->json && !n)
        printf("Nothing was recalled: the scope held the whole text, or the policy recalls nothing.\n");
    json_t *all = json_pack("{s:s%, s:I, s:i, s:O}", "text", s->answer.data, s->answer.len, "prompt_tokens",
                            (json_int_t)s->n, "answer_tokens", s->gathered.n_steps, "passages", s->passages);
    int failed = s->opt->json && (!all || json_dumpf(all, stdout, JSON_REAL_PRECISION(9)) || putchar('\n') == EOF);
    json_decref(all);
    return failed ? cli_fail(EXIT_FAILED, "the JSON object could not be written") : EXIT_DONE;
}

static int draw(sources *s, const char *path)
{
    strip *strip = &s->strip;
    const reattn_session_params *p = reattn_session_get_params(s->session);
    strip->keep = p->keep;
    strip->local = p->local;
    snprintf(strip->title, sizeof strip->title, "What the answer was drawn from");
    snprintf(strip->note, sizeof strip->note,
             "share of layers that recalled a part of the text, %lld tokens; shaded: always in scope", (long long)s->n);
    snprintf(strip->rows[0].label, sizeof strip->rows[0].label, "whole answer");
    for (int64_t t = 0; t < s->n; t++)
        strip_add(strip, &strip->rows[0], t, 1, passages_share(&s->gathered, t));
    strip->quotes = json_array();
    for (size_t i = 0; i < json_array_size(s->passages); i++)
        json_array_append_new(strip->quotes, strip_quote(json_array_get(s->passages, i), ""));
    return strip_write(strip, 1, path);
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
    passages_free(&s.gathered);
    strip_free(&s.strip);
    json_decref(s.passages);
    free(s.tokens);
    text_free(&s.message);
    text_free(&s.template);
    text_free(&s.answer);
    reattn_sampler_free(s.sampler);
    reattn_session_free(s.session);
    reattn_model_free(s.model);
    return rc;
}
