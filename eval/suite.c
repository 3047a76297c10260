/* suite.c - see suite.h. */
#include "suite.h"

#include <math.h>
#include <stdio.h>

#include "files.h"

enum { ID = 1024 };

static void id_of(const suite *s, const config *c, int64_t i, char *buf, size_t cap)
{
    char name[512];
    size_t at = s->test ? (size_t)snprintf(name, sizeof name, "%s/", s->test) : 0;
    s->name(s, i, name + at, sizeof name - at);
    eval_id(&s->eval, c, name, buf, cap);
}

const json_t *suite_case(const suite *s, const config *c, int64_t i)
{
    char id[ID];
    id_of(s, c, i, id, sizeof id);
    return results_find(s->eval.results, id);
}

static int plan(suite *s, const config *c)
{
    int64_t before = -1;
    int rc = EXIT_DONE;
    for (int64_t i = 0; i < s->n && !rc; i++) {
        char id[ID];
        int left = s->eval.cases_left;
        id_of(s, c, i, id, sizeof id);
        rc = eval_plan(&s->eval, c, id, s->cost(s, c, i, before));
        if (s->eval.cases_left != left)
            before = i;
    }
    return rc;
}

void sample_free(sample *s)
{
    text_free(&s->prompt);
    text_free(&s->lead);
    json_decref(s->item);
    json_decref(s->expected);
    json_decref(s->own);
    *s = (sample){0};
}

static json_t *new_record(const suite *s, const config *c, const char *id, const sample *one)
{
    json_t *record = eval_case(&s->eval, c, id);
    if (record && s->test)
        json_object_set_new(record, "test", json_string(s->test));
    json_object_update(record, one->own);
    json_object_set(record, "expected", one->expected);
    return record;
}

static int write_record(suite *s, const config *c, const target *t, const char *id, const sample *one, const reply *r)
{
    double score = s->score(one, r->answer.data);
    json_t *record = isnan(score) ? NULL : new_record(s, c, id, one);
    if (!record)
        return cli_fail(EXIT_FAILED, "out of memory");
    json_object_set_new(record, "answer", json_stringn(r->answer.data, r->answer.len));
    json_object_set_new(record, "score", json_real(score));
    json_object_set_new(record, "prompt_tokens", json_integer(r->prompt_tokens));
    json_object_set_new(record, "answer_tokens", json_integer(r->tokens));
    json_object_set_new(record, "ms", json_real(r->ms));
    if (s->eval.tolerant)
        target_measure(t, record);
    return results_add(s->eval.results, record);
}

/* The record of a case that was not asked. */
static int write_refusal(suite *s, const config *c, const char *id, int64_t i)
{
    sample one = {0};
    int rc = s->make(s, i, &one);
    json_t *record = rc ? NULL : new_record(s, c, id, &one);
    json_object_set_new(record, "refused", json_string(s->eval.refused));
    sample_free(&one);
    return rc ? rc : results_add(s->eval.results, record);
}

/* FOLDER/NAME.txt */
static int write_prompt(const suite *s, int64_t i, const text *sent)
{
    char name[512];
    FILE *f;
    s->name(s, i, name, sizeof name);
    int rc = files_create(&f, "%s/%s.txt", s->eval.opt->eval.prompts, name);
    if (!rc && fwrite(sent->data, 1, sent->len, f) != sent->len)
        rc = cli_fail(EXIT_FAILED, "%s: the prompt could not be written", name);
    int closed = files_close(f);
    return rc ? rc : closed;
}

static int run_case(suite *s, const config *c, target *t, const char *id, int64_t i)
{
    sample one = {0};
    text sent = {0};
    reply r = {0};
    int rc = s->make(s, i, &one);
    if (!rc && !one.own && !(one.own = json_object()))
        rc = cli_fail(EXIT_FAILED, "out of memory");
    if (!rc)
        rc = eval_wrap(&s->eval, one.prompt.data, one.lead.data, one.plain, &sent);
    if (!rc && s->eval.opt->eval.prompts)
        rc = write_prompt(s, i, &sent);
    if (!rc)
        rc = target_read(t, sent.data, sent.len, &r);
    if (!rc && s->inspect)
        rc = s->inspect(s, t, &sent, &one);
    if (!rc)
        rc = target_answer(t, one.limit, &r);
    if (!rc)
        rc = write_record(s, c, t, id, &one, &r);
    text_free(&r.answer);
    text_free(&sent);
    sample_free(&one);
    return rc;
}

static int run_config(suite *s, const config *c)
{
    target *t = NULL;
    bool refused = false;
    int rc = EXIT_DONE;
    s->eval.bar.label = c->name;
    for (int64_t i = 0; i < s->n && !rc; i++) {
        char id[ID];
        bool has;
        id_of(s, c, i, id, sizeof id);
        rc = eval_has(&s->eval, c, id, &has);
        if (rc || has)
            continue;
        if (!t && !refused) {
            rc = target_open(&s->eval, c, s->room, &t);
            if (!rc && s->watch)
                rc = s->watch(s, t, true);
        }
        if (!rc && !refused)
            rc = run_case(s, c, t, id, i);
        if (rc == EVAL_REFUSED && !refused && !s->eval.opt->quiet)
            cli_note("%s: %s", c->name, s->eval.refused);
        refused = refused || rc == EVAL_REFUSED;
        if (refused)
            rc = write_refusal(s, c, id, i);
    }
    if (t && s->watch)
        s->watch(s, t, false);
    target_close(t);
    return rc;
}

int suite_plan(suite *s)
{
    int rc = EXIT_DONE;
    for (int i = 0; i < s->eval.n_configs && !rc; i++)
        rc = plan(s, &s->eval.configs[i]);
    return rc;
}

int suite_ask(suite *s)
{
    int rc = EXIT_DONE;
    for (int i = 0; i < s->eval.n_configs && !rc; i++)
        rc = run_config(s, &s->eval.configs[i]);
    return rc;
}

int suite_run(suite *s, json_t *settings, const pivot *tables, int n_tables)
{
    eval *e = &s->eval;
    int rc = eval_open_results(e, settings);
    for (bool more = true; more && !rc;) {
        rc = suite_plan(s);
        if (rc)
            break;
        eval_run(e);
        rc = suite_ask(s);
        progress_clear();
        if (!rc)
            rc = eval_next_model(e, &more);
    }
    if (rc == EXIT_INTERRUPTED)
        return eval_interrupted(e);
    return rc ? rc : pivot_report(e->opt->json, e->results, tables, n_tables);
}
