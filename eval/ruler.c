/* ruler.c - reattn eval ruler: RULER's synthetic tasks, made offline, asked and scored. --write writes the data set and
 * --predictions the answers, in the files that RULER's own scripts read. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "fit.h"
#include "ruler_text.h"
#include "suite.h"

enum { MOST_TASKS = 32, EXAMPLE_TOKENS = 500 };

typedef struct ruler {
    suite suite;
    const ruler_task *tasks[MOST_TASKS];
    int n_tasks, icl_size;
    numbers lengths, seeds;
    haystack *haystacks;
    int n_haystacks;
    ruler_source source;
} ruler;

typedef struct place {
    const ruler_task *task;
    int64_t length, seed;
} place;

static place place_of(const ruler *j, int64_t i)
{
    int64_t rest = i / j->seeds.n;
    return (place){j->tasks[rest / j->lengths.n], j->lengths.v[rest % j->lengths.n], j->seeds.v[i % j->seeds.n]};
}

static void name_of(const suite *s, int64_t i, char *buf, size_t cap)
{
    place p = place_of(s->task, i);
    snprintf(buf, cap, "%s/%lld/%lld", p.task->name, (long long)p.length, (long long)p.seed);
}

static int64_t cost_of(const suite *s, const config *c, int64_t i, int64_t before)
{
    (void)c;
    (void)before;
    return place_of(s->task, i).length;
}

/* ------------------------------------------------------------------------------------------------ fit -------- */

typedef struct sizing {
    ruler *job;
    const place *place;
} sizing;

/* Tokens of a text of `size`, with those of the answer. */
static int count(void *user, int64_t size, int64_t *tokens)
{
    ruler *j = ((sizing *)user)->job;
    const place *p = ((sizing *)user)->place;
    text prompt = {0}, lead = {0}, sent = {0};
    json_t *outputs = NULL;
    bool fine = ruler_make(p->task, &j->source, p->seed, p->length, size, j->icl_size, &prompt, &lead, &outputs);
    int rc =
        fine ? eval_wrap(&j->suite.eval, prompt.data, lead.data, false, &sent) : cli_fail(EXIT_FAILED, "out of memory");
    if (!rc)
        rc = eval_count(&j->suite.eval, sent.data, sent.len, tokens);
    *tokens += p->task->limit;
    json_decref(outputs);
    text_free(&prompt);
    text_free(&lead);
    text_free(&sent);
    return rc;
}

static int fit(ruler *j, const place *p, int64_t *size)
{
    int64_t most = ruler_most(p->task, &j->source);
    int rc = fit_size(p->task->name, p->length, ruler_least(p->task), most, count, &(sizing){j, p}, size);
    if (!rc && *size == most)
        cli_note("%s, length %lld: the haystack has only %lld different words, so the text is shorter", p->task->name,
                 (long long)p->length, (long long)most);
    return rc;
}

static int fit_example(ruler *j)
{
    int64_t tokens = 0;
    int rc = EXIT_DONE;
    for (j->icl_size = 5; !rc && tokens <= EXAMPLE_TOKENS; j->icl_size++) {
        text one = {0};
        rc = ruler_make_example(1, j->icl_size + 1, &one) ? eval_count(&j->suite.eval, one.data, one.len, &tokens)
                                                          : cli_fail(EXIT_FAILED, "out of memory");
        text_free(&one);
    }
    j->icl_size--;
    return rc;
}

static int make_sized(ruler *j, const place *p, int64_t size, sample *out)
{
    bool fine = ruler_make(p->task, &j->source, p->seed, p->length, size, j->icl_size, &out->prompt, &out->lead,
                           &out->expected);
    out->limit = p->task->limit;
    out->own = json_pack("{s:s, s:s, s:I, s:I, s:I}", "set", p->task->name, "haystack", j->haystacks[0].name, "length",
                         (json_int_t)p->length, "seed", (json_int_t)p->seed, "size", (json_int_t)size);
    return fine && out->own ? EXIT_DONE : cli_fail(EXIT_FAILED, "out of memory");
}

static int make_case(suite *s, int64_t i, sample *out)
{
    ruler *j = s->task;
    place p = place_of(j, i);
    int64_t size;
    int rc = fit(j, &p, &size);
    return rc ? rc : make_sized(j, &p, size, out);
}

static double score(const sample *one, const char *answer)
{
    return ruler_score(answer, one->expected);
}

/* ---------------------------------------------------------------------------------------------- files -------- */

/* {"index", "input", "outputs", "length"} of a sample, in which the input ends with what the answer begins with. */
static json_t *data_of(const sample *one, const place *p, int64_t tokens)
{
    json_t *line = NULL;
    text input = {0};
    if (text_append(&input, one->prompt.data, one->prompt.len) && text_append(&input, one->lead.data, one->lead.len))
        line = json_pack("{s:I, s:s%, s:O, s:I}", "index", (json_int_t)(p->seed - 1), "input", input.data, input.len,
                         "outputs", one->expected, "length", (json_int_t)tokens);
    text_free(&input);
    return line;
}

/* FOLDER/LENGTH/TASK/validation.jsonl */
static int write_data(ruler *j, const char *folder)
{
    FILE *f = NULL;
    int rc = EXIT_DONE;
    j->suite.eval.bar = progress_start("writing", j->suite.eval.opt->quiet);
    for (int64_t i = 0; i < j->suite.n && !rc; i++) {
        place p = place_of(j, i);
        sample one = {0};
        int64_t size, tokens = 0;
        if (i % j->seeds.n == 0)
            rc = files_close(f)
                     ? EXIT_FAILED
                     : files_create(&f, "%s/%lld/%s/validation.jsonl", folder, (long long)p.length, p.task->name);
        if (!rc)
            rc = fit(j, &p, &size);
        if (!rc)
            rc = count(&(sizing){j, &p}, size, &tokens);
        if (!rc)
            rc = make_sized(j, &p, size, &one);
        if (!rc)
            rc = files_line(f, data_of(&one, &p, tokens));
        sample_free(&one);
    }
    int closed = files_close(f);
    return rc ? rc : closed;
}

/* FOLDER/CONFIG/LENGTH/TASK.jsonl, from the records: the texts are made again. */
static int write_predictions(ruler *j, const char *folder)
{
    FILE *f = NULL;
    int rc = EXIT_DONE;
    for (int c = 0; c < j->suite.eval.n_configs; c++)
        for (int64_t i = 0; i < j->suite.n && !rc; i++) {
            const config *config = &j->suite.eval.configs[c];
            place p = place_of(j, i);
            sample one = {0};
            const json_t *record = suite_case(&j->suite, config, i);
            if (i % j->seeds.n == 0)
                rc = files_close(f) ? EXIT_FAILED
                                    : files_create(&f, "%s/%s/%lld/%s.jsonl", folder, config->name, (long long)p.length,
                                                   p.task->name);
            if (rc || !record)
                continue;
            rc = make_sized(j, &p, json_integer_value(json_object_get(record, "size")), &one);
            json_t *line =
                rc ? NULL
                   : data_of(&one, &p, json_integer_value(json_object_get(record, "prompt_tokens")) + p.task->limit);
            if (line) {
                json_object_set(line, "pred", json_object_get(record, "answer"));
                json_object_set_new(line, "others", json_object());
                json_object_set_new(line, "truncation", json_integer(-1));
            }
            if (!rc)
                rc = files_line(f, line);
            sample_free(&one);
        }
    int closed = files_close(f);
    return rc ? rc : closed;
}

/* --------------------------------------------------------------------------------------------- options ------- */

static int read_tasks(ruler *j, const char *typed)
{
    for (const char *s = typed; *s;) {
        size_t len = strcspn(s, ",");
        const ruler_task *t = ruler_tasks;
        bool all = len == 3 && !memcmp(s, "all", 3);
        for (; t->name; t++)
            if ((all || (strlen(t->name) == len && !memcmp(t->name, s, len))) && j->n_tasks < MOST_TASKS)
                if (j->tasks[j->n_tasks++] = t, !all)
                    break;
        if (!t->name && !all)
            return cli_fail(EXIT_USAGE,
                            "there is no RULER task %.*s; there are niah_single_1 to 3, niah_multikey_1 to 3, "
                            "niah_multivalue, niah_multiquery, vt, cwe, fwe, and all",
                            (int)len, s);
        s += len + (s[len] == ',');
    }
    return j->n_tasks ? EXIT_DONE : cli_fail(EXIT_USAGE, "--tasks needs at least one task");
}

static int read_options(ruler *j, const options *opt)
{
    int rc = read_tasks(j, opt->eval.tasks ? opt->eval.tasks : "all");
    if (!rc)
        rc = numbers_read("--lengths", opt->eval.lengths, 256, INT64_C(1) << 32, &j->lengths);
    if (!rc)
        rc = eval_read_seeds(opt, &j->seeds);
    if (!rc)
        rc = eval_read_haystacks(opt, &j->haystacks, &j->n_haystacks);
    if (!rc && j->n_haystacks > 1)
        rc = cli_fail(EXIT_USAGE, "RULER's tasks are made from one --haystack");
    if (!rc)
        rc = ruler_source_load(&j->haystacks[0], &j->source);
    return rc ? rc : fit_example(j);
}

static int run(ruler *j, const options *opt)
{
    const pivot tables[] = {{{"config"}, "set", "length", "score", "RULER score", 100, 1, false},
                            {{NULL}, "config", "length", "score", "RULER score, mean of the tasks", 100, 1, false}};
    suite *s = &j->suite;
    int rc = eval_start(&s->eval, opt, "ruler");
    if (!rc)
        rc = read_options(j, opt);
    if (rc)
        return rc;
    s->task = j;
    s->n = (int64_t)j->n_tasks * j->lengths.n * j->seeds.n;
    for (int i = 0; i < j->lengths.n; i++)
        s->room = j->lengths.v[i] > s->room ? j->lengths.v[i] : s->room;
    s->name = name_of;
    s->cost = cost_of;
    s->make = make_case;
    s->score = score;
    if (opt->eval.write)
        return write_data(j, opt->eval.write);
    rc = suite_run(s, eval_settings(&s->eval), tables, 2);
    return rc || !opt->eval.predictions ? rc : write_predictions(j, opt->eval.predictions);
}

int eval_ruler(const options *opt)
{
    ruler j = {0};
    int rc = run(&j, opt);
    ruler_source_free(&j.source);
    eval_free_haystacks(j.haystacks, j.n_haystacks);
    numbers_free(&j.lengths);
    numbers_free(&j.seeds);
    eval_end(&j.suite.eval);
    return rc;
}
