/* niah.c - reattn eval niah: needles in a haystack, on a grid of lengths and depths.
 *
 * One text carries the needles of all depths, each with a key of its own. It is read once: each question is asked after
 * going back to the last chunk boundary before it, which gives the bits of reading text and question at once.
 *
 * reattn eval recall: the same, and whether each layer's scope held the needle when the answer began. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval.h"
#include "needles.h"
#include "load.h"
#include "pivot.h"
#include "recall.h"
#include "target.h"

enum { ANSWER = 16 };

static const char question_raw[] = "\n\nQuestion: What is the special magic {key} number?\n"
                                   "Answer: The special magic {key} number is:";
static const char question_chat[] = "\n\nWhat is the special magic {key} number mentioned in the text above? "
                                    "Answer with the number only.";

typedef struct niah {
    eval eval;
    numbers lengths, depths, seeds;
    haystack *haystacks; /* [n_haystacks] */
    int n_haystacks;
    text question; /* with {key} */
    bool shared;
    int64_t n_answer;
    recalls *recalls; /* of `eval recall`, while a configuration runs */
} niah;

/* The first run of digits of an answer, commas between digits left out. */
static void first_number(const char *s, char *buf, size_t cap)
{
    size_t n = 0;
    while (*s && !isdigit((unsigned char)*s))
        s++;
    for (; isdigit((unsigned char)*s) || (*s == ',' && isdigit((unsigned char)s[1])); s++)
        if (*s != ',' && n + 1 < cap)
            buf[n++] = *s;
    buf[n] = 0;
}

/* ---------------------------------------------------------------------------------------------- input -------- */

/* A file of that name, or the text itself with its \n. */
static int read_question(const char *typed, text *out)
{
    FILE *f = fopen(typed, "rb");
    if (f) {
        fclose(f);
        return text_read(out, typed);
    }
    bool fine = true;
    for (const char *s = typed; *s && fine; s++) {
        bool escape = s[0] == '\\' && s[1] == 'n';
        fine = text_append(out, escape ? "\n" : s, 1);
        s += escape;
    }
    return fine ? EXIT_DONE : cli_fail(EXIT_FAILED, "out of memory");
}

static int read_options(niah *j, const options *opt)
{
    const eval_options *v = &opt->eval;
    if (strcmp(v->needles, "shared") && strcmp(v->needles, "one"))
        return cli_fail(EXIT_USAGE, "--needles is shared or one, not '%s'", v->needles);
    j->shared = !v->one_needle && !strcmp(v->needles, "shared");
    j->n_answer = v->n_answer ? v->n_answer : ANSWER;
    int rc = numbers_read("--lengths", v->lengths, 64, INT64_C(1) << 32, &j->lengths);
    if (!rc)
        rc = numbers_read("--depths", v->depths, 0, 100, &j->depths);
    if (!rc)
        rc = eval_read_seeds(opt, &j->seeds);
    for (int i = 1; i < j->depths.n && !rc; i++)
        if (j->depths.v[i] <= j->depths.v[i - 1])
            rc = cli_fail(EXIT_USAGE, "--depths must ascend, unlike '%s'", v->depths);
    if (!rc && v->question)
        rc = read_question(v->question, &j->question);
    else if (!rc)
        rc = text_append(&j->question, v->chat ? question_chat : question_raw,
                         strlen(v->chat ? question_chat : question_raw)) ? EXIT_DONE : EXIT_FAILED;
    if (!rc && !strstr(j->question.data ? j->question.data : "", "{key}"))
        rc = cli_fail(EXIT_USAGE, "the question must have {key} in it");
    return rc ? rc : eval_read_haystacks(opt, &j->haystacks, &j->n_haystacks);
}

static json_t *settings_of(const niah *j)
{
    json_t *s = eval_settings(&j->eval), *depths = json_array();
    for (int i = 0; i < j->depths.n; i++)
        json_array_append_new(depths, json_integer(j->depths.v[i]));
    json_object_set_new(s, "question", json_stringn(j->question.data, j->question.len));
    json_object_set_new(s, "needles", json_string(j->shared ? "shared" : "one"));
    json_object_set_new(s, "answer_tokens", json_integer(j->n_answer));
    if (j->shared) /* what one text carries depends on them */
        json_object_set(s, "depths", depths);
    json_decref(depths);
    return s;
}

/* ---------------------------------------------------------------------------------------------- cases -------- */

/* One text and the questions about it. */
typedef struct cell {
    const config *config;
    const haystack *haystack;
    int64_t seed, length;
} cell;

static void id_of(const niah *j, const cell *c, int64_t depth, char *buf, size_t cap)
{
    snprintf(buf, cap, "%s/%s/%s/%lld/%lld/%lld", j->eval.task, c->config->name, c->haystack->name,
             (long long)c->length, (long long)depth, (long long)c->seed);
}

/* Calls visit for every text, in the order of the file. */
static int for_each(niah *j, const config *c, int (*visit)(niah *j, const cell *c, void *user), void *user)
{
    int rc = EXIT_DONE;
    for (int h = 0; h < j->n_haystacks && !rc; h++)
        for (int s = 0; s < j->seeds.n && !rc; s++)
            for (int l = 0; l < j->lengths.n && !rc; l++) {
                cell one = {c, &j->haystacks[h], j->seeds.v[s], j->lengths.v[l]};
                rc = visit(j, &one, user);
            }
    return rc;
}

static int plan_cell(niah *j, const cell *c, void *user)
{
    const reattn_session_params *p = &c->config->opt.session;
    bool first = true;
    int rc = EXIT_DONE;
    (void)user;
    for (int d = 0; d < j->depths.n && !rc; d++) {
        char id[512];
        int before = j->eval.cases_left;
        id_of(j, c, j->depths.v[d], id, sizeof id);
        rc = eval_plan(&j->eval, c->config, id, first || !j->shared ? c->length : p->chunk / 2 + p->tail);
        first = first && j->eval.cases_left == before;
    }
    return rc;
}

static bool question_for(const niah *j, const needle *n, text *out)
{
    out->len = 0;
    return text_append(out, "", 0) && eval_fill(out, j->question.data, "key", n->key, NULL);
}

/* The question with the most tokens: what is cut to fit it fits all. */
static int longest_question(const niah *j, const needle *list, int n, text *out)
{
    int64_t most = -1, count;
    text one = {0};
    int rc = EXIT_DONE;
    for (int i = 0; i < n && !rc; i++) {
        rc = question_for(j, &list[i], &one) ? eval_count(&j->eval, one.data, one.len, &count)
                                             : cli_fail(EXIT_FAILED, "out of memory");
        if (!rc && count > most) {
            most = count;
            out->len = 0;
            rc = text_append(out, one.data, one.len) ? EXIT_DONE : cli_fail(EXIT_FAILED, "out of memory");
        }
    }
    text_free(&one);
    return rc;
}

/* Where a needle is among the tokens that the session holds. */
static int find_needle(const niah *j, reattn_session *s, const text *sent, const needle *n, passage *out)
{
    const int32_t *tokens = reattn_session_tokens(s);
    int64_t held = reattn_session_length(s);
    const char *sentence = strstr(sent->data, n->sentence), *value = sentence ? strstr(sentence, n->value) : NULL;
    if (!value)
        return cli_fail(EXIT_FAILED, "the chat template changes the text: where a needle is cannot be told");
    int rc = recall_locate(j->eval.model, sent->data, sent->len, tokens, held, (size_t)(sentence - sent->data),
                           (size_t)(sentence - sent->data) + strlen(n->sentence), &out->first, &out->end);
    return rc ? rc
              : recall_locate(j->eval.model, sent->data, sent->len, tokens, held, (size_t)(value - sent->data),
                              (size_t)(value - sent->data) + strlen(n->value), &out->value, &out->value_end);
}

static int ask(niah *j, target *t, const text *sent, const needle *n, reply *r, json_t **recalled)
{
    passage p;
    reattn_session_reset_stats(target_session(t));
    int rc = target_read(t, sent->data, sent->len, r);
    if (!rc && j->recalls && !(rc = find_needle(j, target_session(t), sent, n, &p))) {
        *recalled = recall_measure(j->recalls, j->eval.model, target_session(t), &p);
        rc = *recalled ? EXIT_DONE : EXIT_FAILED;
    }
    return rc ? rc : target_answer(t, j->n_answer, r);
}

static int run_case(niah *j, const cell *c, target *t, const char *id, const text *hay, int rounds, const needle *n)
{
    text body = {0}, sent = {0};
    reply r = {0};
    char number[64];
    json_t *recalled = NULL;
    int rc = text_append(&body, hay->data, hay->len) && eval_fill(&body, j->question.data, "key", n->key, NULL)
                 ? eval_wrap(&j->eval, body.data, &sent)
                 : cli_fail(EXIT_FAILED, "out of memory");
    if (!rc)
        rc = ask(j, t, &sent, n, &r, &recalled);
    if (!rc) {
        first_number(r.answer.data, number, sizeof number);
        json_t *one = eval_case(&j->eval, c->config, id);
        json_t *own = json_pack("{s:s, s:i, s:I, s:I, s:I, s:s, s:s, s:s%, s:i, s:I, s:f}", "haystack", c->haystack->name,
                                "rounds", rounds, "length", (json_int_t)c->length, "depth", (json_int_t)n->depth, "seed",
                                (json_int_t)c->seed, "key", n->key, "expected", n->value, "answer", r.answer.data,
                                r.answer.len, "score", !strcmp(number, n->value), "prompt_tokens",
                                (json_int_t)r.prompt_tokens, "ms", r.ms);
        if (one && own)
            json_object_update(one, own);
        if (one && recalled)
            json_object_update(one, recalled);
        json_decref(own);
        rc = results_add(j->eval.results, one);
    }
    json_decref(recalled);
    text_free(&r.answer);
    text_free(&body);
    text_free(&sent);
    return rc;
}

static int run_cell(niah *j, const cell *c, void *user)
{
    needle *list;
    text hay = {0}, ask = {0};
    int rounds = 1;
    int rc = needles_draw(c->seed, &j->depths, &list);
    if (rc)
        return rc;
    bool built = false;
    for (int i = 0; i < j->depths.n && !rc; i++) {
        char id[512];
        bool has;
        id_of(j, c, list[i].depth, id, sizeof id);
        rc = results_has(j->eval.results, id, c->config->options, &has);
        if (rc || has)
            continue;
        const needle *hidden = j->shared ? list : &list[i];
        int n_hidden = j->shared ? j->depths.n : 1;
        if (!built || !j->shared) {
            rc = longest_question(j, hidden, n_hidden, &ask);
            if (!rc)
                rc = needles_fit(&j->eval, c->haystack, c->seed, c->length, hidden, n_hidden, ask.data, &hay, &rounds);
            built = true;
        }
        if (!rc)
            rc = run_case(j, c, user, id, &hay, rounds, &list[i]);
    }
    text_free(&hay);
    text_free(&ask);
    free(list);
    return rc;
}

/* --------------------------------------------------------------------------------------------- output -------- */

static int report(const niah *j)
{
    const pivot tables[] = {
        {{"config", "haystack"}, "length", "depth", "score", "% exact", 100, 0, false},
        {{"haystack"}, "config", "length", "score", "% exact", 100, 1, false},
        {{"config", "haystack"}, "length", "depth", "value_share", "% of layers and heads that hold the number", 100, 0, false},
        {{"haystack"}, "config", "length", "value_share", "% of layers and heads that hold the number", 100, 1, false}};
    return pivot_report(j->eval.opt->json, j->eval.results, tables, strcmp(j->eval.task, "recall") ? 2 : 4);
}

static int run_config(niah *j, const config *c)
{
    int64_t room = 0;
    target *t;
    for (int i = 0; i < j->lengths.n; i++)
        room = j->lengths.v[i] > room ? j->lengths.v[i] : room;
    int rc = target_open(&j->eval, c, room + j->n_answer, &t);
    if (rc)
        return rc;
    j->eval.bar.label = c->name;
    if (!strcmp(j->eval.task, "recall"))
        rc = recalls_watch(target_session(t), &j->recalls);
    if (!rc)
        rc = for_each(j, c, run_cell, t);
    recalls_free(j->recalls);
    j->recalls = NULL;
    target_close(t);
    return rc;
}

static int run(niah *j, const options *opt, const char *task)
{
    int rc = eval_start(&j->eval, opt, task);
    if (!rc)
        rc = read_options(j, opt);
    if (!rc)
        rc = eval_open_results(&j->eval, settings_of(j));
    for (int i = 0; i < j->eval.n_configs && !rc; i++)
        rc = for_each(j, &j->eval.configs[i], plan_cell, NULL);
    if (rc)
        return rc;
    eval_run(&j->eval);
    for (int i = 0; i < j->eval.n_configs && !rc && j->eval.cases_left; i++)
        rc = run_config(j, &j->eval.configs[i]);
    progress_clear();
    if (rc == EXIT_INTERRUPTED)
        return eval_interrupted(&j->eval);
    return rc ? rc : report(j);
}

static int start(const options *opt, const char *task)
{
    niah j = {0};
    int rc = run(&j, opt, task);
    eval_free_haystacks(j.haystacks, j.n_haystacks);
    numbers_free(&j.lengths);
    numbers_free(&j.depths);
    numbers_free(&j.seeds);
    text_free(&j.question);
    eval_end(&j.eval);
    return rc;
}

int eval_niah(const options *opt)
{
    return start(opt, "niah");
}

int eval_recall(const options *opt)
{
    return start(opt, "recall");
}
