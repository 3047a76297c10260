/* ppl.c - reattn eval ppl: perplexity by position in a text.
 *
 * A text is read once, with every token given (teacher forcing). The perplexity of a bucket of positions is e to the
 * mean of -log p(token | all before it). With --kl a second session with policy full reads the same pieces, and its
 * predictions are compared with, up to the trained length. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval.h"
#include "interrupt.h"
#include "load.h"
#include "metric_softmax.h"
#include "pivot.h"
#include "ppl.h"

typedef struct ppl {
    eval eval;
    haystack *haystacks; /* [n_haystacks] */
    int n_haystacks;
    numbers lengths, seeds;
    int64_t length, bucket, trained;
    int n_vocab;
} ppl;

/* One text under one configuration. */
typedef struct reading {
    ppl *job;
    const config *config;
    const haystack *haystack;
    int64_t seed;
    const int32_t *tokens;          /* [length] */
    reattn_session *session, *full; /* full NULL without --kl */
    float *expected;                /* [chunk][n_vocab] logits of full for the piece at hand */
    int64_t piece;                  /* position of its first token */
    double nll, kl;                 /* sums over the bucket at hand */
    int64_t same_top, n_kl, n;
    int rc;
} reading;

/* -------------------------------------------------------------------------------------------- reading -------- */

static void id_of(const reading *r, int64_t from, char *buf, size_t cap)
{
    char name[512];
    snprintf(name, sizeof name, "%s/%lld/%lld", r->haystack->name, (long long)r->seed, (long long)from);
    eval_id(&r->job->eval, r->config, name, buf, cap);
}

/* Writes the bucket that ends before `end` and begins the next one. What is at position 0 nothing predicts. */
static int finish_bucket(reading *r, int64_t end)
{
    char id[1024];
    bool has;
    eval *e = &r->job->eval;
    int64_t from = end - r->job->bucket;
    id_of(r, from, id, sizeof id);
    int rc = eval_has(e, r->config, id, &has);
    if (!rc && !has) {
        double nll = r->nll / (double)r->n;
        json_t *one = eval_case(e, r->config, id);
        json_object_set_new(one, "haystack", json_string(r->haystack->name));
        json_object_set_new(one, "seed", json_integer(r->seed));
        json_object_set_new(one, "position", json_integer(from));
        json_object_set_new(one, "tokens", json_integer(r->n));
        json_object_set_new(one, "nll", json_real(nll));
        json_object_set_new(one, "ppl", json_real(exp(nll)));
        if (r->n_kl) {
            json_object_set_new(one, "kl", json_real(r->kl / (double)r->n_kl));
            json_object_set_new(one, "same_top", json_real((double)r->same_top / (double)r->n_kl));
        }
        rc = results_add(e->results, one);
    }
    r->nll = r->kl = 0;
    r->n = r->n_kl = r->same_top = 0;
    return rc;
}

static bool keep_expected(int64_t position, const float *logits, void *user)
{
    reading *r = user;
    size_t n = (size_t)r->job->n_vocab;
    memcpy(r->expected + (size_t)(position - r->piece) * n, logits, n * sizeof *logits);
    return !interrupt_pending();
}

/* The logits after `position` are about the token after it. */
static bool score(int64_t position, const float *logits, void *user)
{
    reading *r = user;
    ppl *j = r->job;
    int64_t predicted = position + 1;
    int top, expected_top;
    if (predicted % j->bucket == 0 && (r->rc = finish_bucket(r, predicted)))
        return false;
    if (predicted < j->length) {
        double sum = metric_log_sum(logits, j->n_vocab, &top);
        r->nll += sum - logits[r->tokens[predicted]];
        r->n++;
        if (r->full && predicted < j->trained) {
            const float *expected = r->expected + (size_t)(position - r->piece) * (size_t)j->n_vocab;
            double expected_sum = metric_log_sum(expected, j->n_vocab, &expected_top);
            r->kl += metric_divergence(expected, expected_sum, logits, sum, j->n_vocab);
            r->same_top += top == expected_top;
            r->n_kl++;
        }
    }
    return !interrupt_pending();
}

/* Piece by piece of a chunk, so that only one piece's logits of full are held. */
static int read_pieces(reading *r)
{
    ppl *j = r->job;
    reattn_error err;
    int64_t chunk = reattn_session_get_params(r->session)->chunk;
    for (r->piece = 0; r->piece < j->length; r->piece += chunk) {
        int64_t n = j->length - r->piece < chunk ? j->length - r->piece : chunk;
        bool compare = r->full && r->piece + 1 < j->trained;
        int code = compare ? reattn_session_score(r->full, r->tokens + r->piece, n, keep_expected, r, &err) : 0;
        if (!code)
            code = reattn_session_score(r->session, r->tokens + r->piece, n, score, r, &err);
        if (r->rc)
            return r->rc;
        if (interrupt_pending())
            return EXIT_INTERRUPTED;
        if (code)
            return cli_fail(EXIT_FAILED, "%s: %s", r->config->name, err.msg);
        eval_progress(r->piece + n, j->length, &j->eval);
    }
    j->eval.done += j->length;
    return EXIT_DONE;
}

/* True in *all if every bucket is there. */
static int is_done(const reading *r, bool *all)
{
    char id[1024];
    int rc = EXIT_DONE;
    *all = true;
    for (int64_t from = 0; from + r->job->bucket <= r->job->length && *all && !rc; from += r->job->bucket) {
        id_of(r, from, id, sizeof id);
        rc = eval_has(&r->job->eval, r->config, id, all);
    }
    return rc;
}

int ppl_tokens(const eval *e, const haystack *h, int64_t seed, int64_t length, int32_t **tokens)
{
    text hay = {0};
    int rounds;
    int64_t n = 0;
    /* At most 8 bytes a token is more than enough for prose; a text with longer ones is taken whole. */
    size_t most = (size_t)length * 8 < h->text.len ? (size_t)length * 8 : h->text.len;
    int rc = haystack_take(h, seed, most, &hay, &rounds) ? EXIT_DONE : cli_fail(EXIT_FAILED, "out of memory");
    if (!rc)
        rc = load_tokens(e->model, hay.data, hay.len, true, tokens, &n);
    text_free(&hay);
    if (!rc && n < length) {
        free(*tokens);
        rc = cli_fail(EXIT_USAGE,
                      "%s has %lld tokens, fewer than --lengths %lld: what is read twice is no longer hard to "
                      "predict",
                      h->name, (long long)n, (long long)length);
    }
    return rc;
}

static int run_text(ppl *j, const config *c, const haystack *h, int64_t seed)
{
    reading r = {.job = j, .config = c, .haystack = h, .seed = seed};
    int32_t *tokens;
    bool done;
    int rc = is_done(&r, &done);
    if (rc || done || (rc = ppl_tokens(&j->eval, h, seed, j->length, &tokens)))
        return rc;
    r.tokens = tokens;
    rc = load_session(&c->opt, j->eval.model, j->length, &r.session);
    if (!rc && j->eval.opt->eval.kl) {
        options opt = c->opt;
        snprintf(opt.session.policy, sizeof opt.session.policy, "full");
        opt.session.chunk = reattn_session_get_params(r.session)->chunk;
        rc = load_session(&opt, j->eval.model, j->length, &r.full);
        r.expected = malloc((size_t)opt.session.chunk * (size_t)j->n_vocab * sizeof *r.expected);
        if (!rc && !r.expected)
            rc = cli_fail(EXIT_FAILED, "out of memory");
    }
    if (!rc) {
        j->eval.bar.label = c->name;
        interrupt_watch(r.session);
        rc = read_pieces(&r);
        interrupt_watch(NULL);
    }
    reattn_session_free(r.session);
    reattn_session_free(r.full);
    free(r.expected);
    free(tokens);
    return rc;
}

/* ---------------------------------------------------------------------------------------------- the task ----- */

static int read_options(ppl *j, const options *opt)
{
    j->bucket = opt->eval.bucket;
    int rc = numbers_read("--lengths", opt->eval.lengths, 2, INT64_C(1) << 32, &j->lengths);
    for (int i = 0; i < j->lengths.n; i++)
        j->length = j->lengths.v[i] > j->length ? j->lengths.v[i] : j->length;
    if (!rc && j->bucket > j->length)
        rc = cli_fail(EXIT_USAGE, "--bucket %lld is larger than --lengths %lld: there would be no result",
                      (long long)j->bucket, (long long)j->length);
    if (!rc)
        rc = eval_read_seeds(opt, &j->seeds);
    if (!rc)
        rc = eval_read_haystacks(opt, &j->haystacks, &j->n_haystacks);
    return rc;
}

static json_t *settings_of(const ppl *j)
{
    json_t *s = eval_settings(&j->eval);
    json_object_set_new(s, "bucket", json_integer(j->bucket));
    json_object_set_new(s, "kl", json_boolean(j->eval.opt->eval.kl));
    return s;
}

static int for_each(ppl *j, int (*visit)(ppl *j, const config *c, const haystack *h, int64_t seed))
{
    int rc = EXIT_DONE;
    for (int c = 0; c < j->eval.n_configs && !rc; c++)
        for (int h = 0; h < j->n_haystacks && !rc; h++)
            for (int s = 0; s < j->seeds.n && !rc; s++)
                rc = visit(j, &j->eval.configs[c], &j->haystacks[h], j->seeds.v[s]);
    return rc;
}

static int plan_text(ppl *j, const config *c, const haystack *h, int64_t seed)
{
    reading r = {.job = j, .config = c, .haystack = h, .seed = seed};
    bool done;
    int rc = is_done(&r, &done);
    if (!rc && !done) {
        j->eval.total += j->length;
        j->eval.cases_left++;
    }
    return rc;
}

static int run_model(ppl *j)
{
    reattn_model_info info;
    reattn_model_get_info(j->eval.model, &info);
    j->trained = info.n_ctx_train;
    j->n_vocab = info.n_vocab;
    int rc = for_each(j, plan_text);
    if (rc)
        return rc;
    eval_run(&j->eval);
    rc = for_each(j, run_text);
    progress_clear();
    return rc;
}

static int run(ppl *j, const options *opt)
{
    const pivot tables[] = {
        {{"haystack"}, "position", "config", "nll", "perplexity", 1, 2, true},
        {{"haystack"}, "position", "config", "kl", "KL divergence from full attention", 1, 4, false},
        {{"haystack"}, "position", "config", "same_top", "% same likeliest token as full", 100, 1, false}};
    int rc = eval_start(&j->eval, opt, "ppl");
    if (!rc)
        rc = read_options(j, opt);
    if (!rc)
        rc = eval_open_results(&j->eval, settings_of(j));
    for (bool more = true; more && !rc;) {
        rc = run_model(j);
        if (!rc)
            rc = eval_next_model(&j->eval, &more);
    }
    if (rc == EXIT_INTERRUPTED)
        return eval_interrupted(&j->eval);
    return rc ? rc : pivot_report(opt->json, j->eval.results, tables, opt->eval.kl ? 3 : 1);
}

int eval_ppl(const options *opt)
{
    ppl j = {0};
    int rc = run(&j, opt);
    eval_free_haystacks(j.haystacks, j.n_haystacks);
    numbers_free(&j.lengths);
    numbers_free(&j.seeds);
    eval_end(&j.eval);
    return rc;
}
