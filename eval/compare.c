/* compare.c - reattn eval compare: methods x tests x lengths, with speed and memory beside quality.
 *
 * Two tests: `niah`, the share of needles that are found, and `ppl`, the perplexity of the last quarter of a text. A
 * session is opened for each length, so that memory is that of the length. What a configuration refuses is a record
 * with the reason. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compare.h"
#include "interrupt.h"
#include "load.h"
#include "metric_softmax.h"
#include "niah.h"
#include "ppl.h"

enum { DECODED = 16 }; /* tokens generated after a text, for the speed */

typedef struct compare {
    niah niah; /* its suite's eval is that of the whole run */
    numbers lengths;
    bool has_niah, has_ppl;
} compare;

/* ---------------------------------------------------------------------------------------- perplexity --------- */

/* One text under one configuration. */
typedef struct reading {
    eval *eval;
    const config *config;
    const haystack *haystack;
    int64_t seed, length;
    const int32_t *tokens; /* [length] */
    reattn_session *session;
    int n_vocab;
    double nll; /* sum over the n tokens of the last quarter */
    int64_t n;
} reading;

static void ppl_id(const reading *r, char *buf, size_t cap)
{
    char name[512];
    snprintf(name, sizeof name, "ppl/%s/%lld/%lld", r->haystack->name, (long long)r->length, (long long)r->seed);
    eval_id(r->eval, r->config, name, buf, cap);
}

static int64_t quarter(const reading *r)
{
    return r->length - r->length / 4;
}

static bool score(int64_t position, const float *logits, void *user)
{
    reading *r = user;
    int64_t predicted = position + 1;
    int top;
    if (predicted >= quarter(r) && predicted < r->length) {
        r->nll += metric_log_sum(logits, r->n_vocab, &top) - logits[r->tokens[predicted]];
        r->n++;
    }
    return !interrupt_pending();
}

/* Greedy tokens after the text, of which only the time matters. */
static int decode(reading *r, reattn_stats *after, reattn_error *err)
{
    int code = 0;
    for (int i = 0; i < DECODED && !code; i++) {
        int top;
        metric_log_sum(reattn_session_logits(r->session), r->n_vocab, &top);
        code = reattn_session_decode(r->session, top, err);
    }
    reattn_session_get_stats(r->session, after);
    return code;
}

/* What no token is scored in is read as a prompt, whose speed is measured; the rest, from a chunk boundary on, token by
 * token given. */
static int read_text(reading *r, json_t *record)
{
    reattn_error err;
    reattn_stats s;
    int64_t chunk = reattn_session_get_params(r->session)->chunk, start = (quarter(r) - 1) / chunk * chunk;
    int code = start ? reattn_session_prompt(r->session, r->tokens, start, eval_progress, r->eval, &err) : 0;
    reattn_session_get_stats(r->session, &s);
    double read_ms = s.prompt_ms;
    for (int64_t at = start; at < r->length && !code; at += chunk) {
        int64_t n = r->length - at < chunk ? r->length - at : chunk;
        code = reattn_session_score(r->session, r->tokens + at, n, score, r, &err);
        eval_progress(at + n, r->length, r->eval);
    }
    reattn_session_get_stats(r->session, &s);
    if (!start)
        read_ms = s.prompt_ms;
    if (!code)
        code = decode(r, &s, &err);
    target_timings(start ? start : r->length, read_ms, s.decode_tokens, s.decode_ms, record);
    if (code == REATTN_E_CANCELLED || interrupt_pending())
        return EXIT_INTERRUPTED;
    return code ? eval_refuse(r->eval, r->config, &err) : EXIT_DONE;
}

static int ask(reading *r, json_t *record)
{
    int32_t *tokens;
    reattn_error err;
    options opt = r->config->opt;
    opt.session.tail = 0; /* a text has no question at its end */
    int rc = ppl_tokens(r->eval, r->haystack, r->seed, r->length, &tokens);
    if (rc)
        return rc;
    r->tokens = tokens;
    rc = load_try_session(&opt, r->eval->model, r->length + DECODED, &r->session, &err)
             ? eval_refuse(r->eval, r->config, &err)
             : EXIT_DONE;
    if (!rc)
        rc = load_catalyst(&opt, r->eval->model, r->session);
    if (!rc) {
        interrupt_watch(r->session);
        rc = read_text(r, record);
        interrupt_watch(NULL);
    }
    if (!rc) {
        target_bytes(r->eval->model, r->session, record);
        json_object_set_new(record, "tokens", json_integer(r->n));
        json_object_set_new(record, "nll", json_real(r->nll / (double)r->n));
        json_object_set_new(record, "ppl", json_real(exp(r->nll / (double)r->n)));
    }
    reattn_session_free(r->session);
    free(tokens);
    return rc;
}

static int run_text(reading *r)
{
    char id[1024];
    bool has;
    ppl_id(r, id, sizeof id);
    int rc = eval_has(r->eval, r->config, id, &has);
    if (rc || has)
        return rc;
    json_t *record = eval_case(r->eval, r->config, id);
    if (!record)
        return cli_fail(EXIT_FAILED, "out of memory");
    json_object_set_new(record, "test", json_string("ppl"));
    json_object_set_new(record, "haystack", json_string(r->haystack->name));
    json_object_set_new(record, "length", json_integer(r->length));
    json_object_set_new(record, "seed", json_integer(r->seed));
    r->eval->bar.label = r->config->name;
    rc = ask(r, record);
    r->eval->done += r->length;
    if (rc == EVAL_REFUSED) {
        json_object_set_new(record, "refused", json_string(r->eval->refused));
        if (!r->eval->opt->quiet)
            cli_note("%s: %s", r->config->name, r->eval->refused);
        rc = EXIT_DONE;
    }
    if (!rc)
        return results_add(r->eval->results, record);
    json_decref(record);
    return rc;
}

static int plan_text(reading *r)
{
    char id[1024];
    ppl_id(r, id, sizeof id);
    return eval_plan(r->eval, r->config, id, r->length);
}

static int for_each_text(compare *c, int64_t length, int (*visit)(reading *r))
{
    niah *j = &c->niah;
    eval *e = &j->suite.eval;
    reattn_model_info info;
    int rc = EXIT_DONE;
    reattn_model_get_info(e->model, &info);
    for (int i = 0; i < e->n_configs && !rc; i++)
        for (int h = 0; h < j->n_haystacks && !rc; h++)
            for (int s = 0; s < j->seeds.n && !rc; s++)
                rc = visit(&(reading){.eval = e,
                                      .config = &e->configs[i],
                                      .haystack = &j->haystacks[h],
                                      .seed = j->seeds.v[s],
                                      .length = length,
                                      .n_vocab = info.n_vocab});
    return rc;
}

/* ---------------------------------------------------------------------------------------------- the task ----- */

static int read_tests(compare *c, const char *typed)
{
    for (const char *s = typed ? typed : "niah,ppl"; *s;) {
        size_t n = strcspn(s, ",");
        if (n == 4 && !memcmp(s, "niah", n))
            c->has_niah = true;
        else if (n == 3 && !memcmp(s, "ppl", n))
            c->has_ppl = true;
        else
            return cli_fail(EXIT_USAGE, "--tasks: there is no %.*s to compare by; there are niah and ppl", (int)n, s);
        s += n + (s[n] == ',');
    }
    return c->has_niah || c->has_ppl ? EXIT_DONE : cli_fail(EXIT_USAGE, "--tasks needs niah, ppl or both");
}

/* The needle cases become those of one length. */
static void set_length(niah *j, int64_t length)
{
    j->lengths.v[0] = length;
    j->lengths.n = 1;
    j->cell = -1;
    j->suite.n = (int64_t)j->n_haystacks * j->seeds.n * j->depths.n;
    j->suite.room = length + j->n_answer;
}

static int run_model(compare *c)
{
    niah *j = &c->niah;
    int rc = EXIT_DONE;
    for (int i = 0; i < c->lengths.n && !rc; i++) {
        set_length(j, c->lengths.v[i]);
        rc = c->has_niah ? suite_plan(&j->suite) : EXIT_DONE;
        if (!rc && c->has_ppl)
            rc = for_each_text(c, c->lengths.v[i], plan_text);
    }
    if (rc)
        return rc;
    eval_run(&j->suite.eval);
    for (int i = 0; i < c->lengths.n && !rc; i++) {
        set_length(j, c->lengths.v[i]);
        rc = c->has_niah ? suite_ask(&j->suite) : EXIT_DONE;
        if (!rc && c->has_ppl)
            rc = for_each_text(c, c->lengths.v[i], run_text);
    }
    progress_clear();
    return rc;
}

static int run(compare *c, const options *opt)
{
    eval *e = &c->niah.suite.eval;
    int rc = eval_start(e, opt, "compare");
    if (!rc)
        rc = niah_start(&c->niah, opt);
    if (!rc)
        rc = read_tests(c, opt->eval.tasks);
    if (!rc)
        rc = numbers_read("--lengths", opt->eval.lengths, 64, INT64_C(1) << 32, &c->lengths);
    if (rc)
        return rc;
    e->tolerant = true;
    c->niah.suite.test = "niah";
    json_t *settings = eval_settings(e);
    niah_settings(&c->niah, settings);
    rc = eval_open_results(e, settings);
    for (bool more = true; more && !rc;) {
        rc = run_model(c);
        if (!rc)
            rc = eval_next_model(e, &more);
    }
    if (rc == EXIT_INTERRUPTED)
        return eval_interrupted(e);
    if (!rc)
        rc = compare_report(opt->json, e->results);
    return rc || !opt->eval.picture ? rc : compare_plot(results_cases(e->results), opt->eval.picture);
}

int eval_compare(const options *opt)
{
    compare c = {0};
    int rc = run(&c, opt);
    niah_free(&c.niah);
    numbers_free(&c.lengths);
    eval_end(&c.niah.suite.eval);
    return rc;
}
