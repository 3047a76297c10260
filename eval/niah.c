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

#include "niah.h"
#include "pivot.h"
#include "recall.h"

enum { ANSWER = 16 };

static const char question_raw[] = "\n\nQuestion: What is the {key}?\nAnswer: The {key} is:";
static const char question_chat[] = "\n\nWhat is the {key} mentioned in the text above? "
                                    "Answer with the number only.";

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
                         strlen(v->chat ? question_chat : question_raw))
                 ? EXIT_DONE
                 : EXIT_FAILED;
    if (!rc && !strstr(j->question.data ? j->question.data : "", "{key}"))
        rc = cli_fail(EXIT_USAGE, "the question must have {key} in it");
    return rc ? rc : eval_read_haystacks(opt, &j->haystacks, &j->n_haystacks);
}

void niah_settings(const niah *j, json_t *s)
{
    json_t *depths = json_array();
    for (int i = 0; i < j->depths.n; i++)
        json_array_append_new(depths, json_integer(j->depths.v[i]));
    json_object_set_new(s, "question", json_stringn(j->question.data, j->question.len));
    json_object_set_new(s, "needles", json_string(j->shared ? "shared" : "one"));
    json_object_set_new(s, "answer_tokens", json_integer(j->n_answer));
    if (j->shared) /* what one text carries depends on them */
        json_object_set(s, "depths", depths);
    json_decref(depths);
}

/* ---------------------------------------------------------------------------------------------- cases -------- */

/* One text and a question about it; cases of one text follow each other. */
typedef struct place {
    const haystack *haystack;
    int64_t seed, length;
    int depth; /* index */
} place;

static place place_of(const niah *j, int64_t i)
{
    int64_t cell = i / j->depths.n, rest = cell / j->lengths.n, depth = i % j->depths.n;
    if (!j->shared) /* the deepest needle first: what lies before a needle has been read by then */
        depth = j->depths.n - 1 - depth;
    return (place){&j->haystacks[rest / j->seeds.n], j->seeds.v[rest % j->seeds.n], j->lengths.v[cell % j->lengths.n],
                   (int)depth};
}

static void name_of(const suite *s, int64_t i, char *buf, size_t cap)
{
    const niah *j = s->task;
    place p = place_of(j, i);
    snprintf(buf, cap, "%s/%lld/%lld/%lld", p.haystack->name, (long long)p.length, (long long)j->depths.v[p.depth],
             (long long)p.seed);
}

static int64_t cost_of(const suite *s, const config *c, int64_t i, int64_t before)
{
    const niah *j = s->task;
    place p = place_of(j, i);
    bool follows = before >= 0 && before / j->depths.n == i / j->depths.n;
    if (!follows)
        return p.length;
    int64_t again = c->opt.session.chunk / 2 + c->opt.session.tail;
    return j->shared ? again : again + p.length * (100 - j->depths.v[p.depth]) / 100;
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
        rc = question_for(j, &list[i], &one) ? eval_count(&j->suite.eval, one.data, one.len, &count)
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

/* Makes the text of a case the one at hand. */
static int make_text(niah *j, int64_t i)
{
    place p = place_of(j, i);
    int64_t cell = j->shared ? i / j->depths.n : i;
    text ask = {0};
    if (cell == j->cell && j->model == j->suite.eval.model_at)
        return EXIT_DONE;
    j->cell = -1;
    j->model = j->suite.eval.model_at;
    free(j->needles);
    j->needles = NULL;
    int rc = needles_draw(p.seed, &j->depths, &j->needles);
    if (rc)
        return rc;
    const needle *hidden = j->shared ? j->needles : &j->needles[p.depth];
    int n = j->shared ? j->depths.n : 1;
    rc = longest_question(j, hidden, n, &ask);
    if (!rc)
        rc = needles_fit(&j->suite.eval, p.haystack, p.seed, p.length, hidden, n, ask.data, &j->hay, &j->rounds);
    if (!rc)
        j->cell = cell;
    text_free(&ask);
    return rc;
}

static int make_case(suite *s, int64_t i, sample *out)
{
    niah *j = s->task;
    place p = place_of(j, i);
    int rc = make_text(j, i);
    if (rc)
        return rc;
    if (j->masses)
        masses_measure(j->masses, true); /* until the answer begins */
    const needle *n = &j->needles[p.depth];
    out->limit = j->n_answer;
    out->expected = json_string(n->value);
    out->own =
        json_pack("{s:s, s:i, s:I, s:I, s:I, s:s}", "haystack", p.haystack->name, "rounds", j->rounds, "length",
                  (json_int_t)p.length, "depth", (json_int_t)n->depth, "seed", (json_int_t)p.seed, "key", n->key);
    bool fine = text_append(&out->prompt, j->hay.data, j->hay.len) &&
                eval_fill(&out->prompt, j->question.data, "key", n->key, NULL);
    return fine && out->own ? EXIT_DONE : cli_fail(EXIT_FAILED, "out of memory");
}

static double score(const sample *one, const char *answer)
{
    char number[64];
    first_number(answer, number, sizeof number);
    return !strcmp(number, json_string_value(one->expected));
}

/* --------------------------------------------------------------------------------------------- recall -------- */

/* Where a needle is among the tokens that the session holds. */
static int find_needle(const niah *j, const reattn_session *s, const text *sent, const sample *one, passage *out)
{
    const int32_t *tokens = reattn_session_tokens(s);
    const reattn_model *model = j->suite.eval.model;
    int64_t held = reattn_session_length(s);
    const needle *n = j->needles;
    while (strcmp(n->value, json_string_value(one->expected)))
        n++;
    const char *sentence = strstr(sent->data, n->sentence), *value = sentence ? strstr(sentence, n->value) : NULL;
    if (!value)
        return cli_fail(EXIT_FAILED, "the chat template changes the text: where a needle is cannot be told");
    size_t at = (size_t)(sentence - sent->data), value_at = (size_t)(value - sent->data);
    int rc =
        recall_locate(model, sent->data, sent->len, tokens, held, at, at + strlen(n->sentence), &out->first, &out->end);
    return rc ? rc
              : recall_locate(model, sent->data, sent->len, tokens, held, value_at, value_at + strlen(n->value),
                              &out->value, &out->value_end);
}

static int inspect(suite *s, target *t, const text *sent, sample *one)
{
    niah *j = s->task;
    passage p;
    int rc = find_needle(j, target_session(t), sent, one, &p);
    json_t *recalled = rc ? NULL : recall_measure(j->recalls, s->eval.model, target_session(t), &p);
    json_t *held = recalled ? masses_json(j->masses) : NULL;
    masses_measure(j->masses, false);
    if (held) {
        json_object_update(one->own, recalled);
        json_object_update(one->own, held);
    }
    json_decref(recalled);
    json_decref(held);
    return rc || held ? rc : EXIT_FAILED;
}

static int watch(suite *s, target *t, bool open)
{
    niah *j = s->task;
    if (open) {
        int rc = recalls_watch(target_session(t), &j->recalls);
        return rc ? rc : masses_open(target_session(t), &j->masses);
    }
    recalls_free(j->recalls);
    masses_close(j->masses);
    j->recalls = NULL;
    j->masses = NULL;
    return EXIT_DONE;
}

/* ------------------------------------------------------------------------------------------- the tasks ------- */

int niah_start(niah *j, const options *opt)
{
    suite *s = &j->suite;
    int rc = read_options(j, opt);
    s->task = j;
    s->n = (int64_t)j->n_haystacks * j->seeds.n * j->lengths.n * j->depths.n;
    for (int i = 0; i < j->lengths.n; i++)
        s->room = j->lengths.v[i] + j->n_answer > s->room ? j->lengths.v[i] + j->n_answer : s->room;
    s->name = name_of;
    s->cost = cost_of;
    s->make = make_case;
    s->score = score;
    j->cell = -1;
    return rc;
}

void niah_free(niah *j)
{
    eval_free_haystacks(j->haystacks, j->n_haystacks);
    numbers_free(&j->lengths);
    numbers_free(&j->depths);
    numbers_free(&j->seeds);
    free(j->needles);
    text_free(&j->hay);
    text_free(&j->question);
}

static int run(niah *j, const options *opt, const char *task)
{
    static const char held[] = "% of layers and heads that hold the number";
    static const char mass[] = "% of the exact attention in scope";
    const pivot tables[] = {
        {{"config", "haystack"}, "length", "depth", "score", "% exact", 100, 0, false},
        {{"haystack"}, "config", "length", "score", "% exact", 100, 1, false},
        {{"config", "haystack"}, "length", "depth", "value_share", held, 100, 0, false},
        {{"haystack"}, "config", "length", "value_share", held, 100, 1, false},
        {{"config", "haystack"}, "length", "depth", "mass_share", mass, 100, 1, false},
        {{"haystack"}, "config", "length", "mass_share", mass, 100, 1, false},
        {{"haystack"}, "config", "length", "rotated_share", "% of the exact rotated attention in scope", 100, 1, false},
        {{"config", "haystack"}, "layer", "head", "mass_heads", mass, 100, 0, false}};
    bool recall = !strcmp(task, "recall");
    suite *s = &j->suite;
    int rc = eval_start(&s->eval, opt, task);
    if (!rc)
        rc = niah_start(j, opt);
    if (rc)
        return rc;
    s->inspect = recall ? inspect : NULL;
    s->watch = recall ? watch : NULL;
    json_t *settings = eval_settings(&s->eval);
    niah_settings(j, settings);
    return suite_run(s, settings, tables, recall ? sizeof tables / sizeof *tables : 2);
}

static int start(const options *opt, const char *task)
{
    niah j = {0};
    int rc = run(&j, opt, task);
    niah_free(&j);
    eval_end(&j.suite.eval);
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
