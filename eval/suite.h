/* suite.h - a list of questions, asked of every configuration: the common part of all tasks that have answers.
 *
 * A task describes its cases by number and makes one when it is run; the suite plans, skips what is there already,
 * asks, scores, and writes the records. */
#ifndef SUITE_H
#define SUITE_H

#include "eval.h"
#include "pivot.h"
#include "target.h"

/* One case. What is in it is freed by the suite. */
typedef struct sample {
    text prompt;           /* what is asked, before a chat template */
    text lead;             /* what the answer begins with; after the template's opening of the answer */
    bool plain;            /* never put into a chat template, whatever --chat says */
    int64_t limit;         /* most tokens of the answer */
    const struct set *set; /* and the item that it was made of, where a task has files of them */
    json_t *item;
    json_t *expected; /* a string, or a list of strings of which the metric knows what to do */
    json_t *own;      /* other members of the record */
} sample;

void sample_free(sample *s);

typedef struct suite {
    eval eval; /* first: begun by eval_start */
    void *task;
    const char *test; /* of a run that has several sorts of cases: the name of this one; else NULL */
    int64_t n, room;  /* cases; most tokens of one, answer included (0 = not known: the trained length) */
    /* What tells a case from the others of the task, without the configuration. */
    void (*name)(const struct suite *s, int64_t i, char *buf, size_t cap);
    /* About how many tokens will be read for it, if `before` is the case that was read before it (-1 = none). */
    int64_t (*cost)(const struct suite *s, const config *c, int64_t i, int64_t before);
    int (*make)(struct suite *s, int64_t i, sample *out);
    /* 0 .. 1, or NAN if memory ran out; may add to one->own. */
    double (*score)(const sample *one, const char *answer);
    /* Optional: after the prompt was read, before the answer; may add to one->own. `sent` is what was sent. */
    int (*inspect)(struct suite *s, target *t, const text *sent, sample *one);
    /* Optional: a configuration's target was opened (true) or is about to be closed. */
    int (*watch)(struct suite *s, target *t, bool open);
} suite;

/* The record of a case, if it is there. Borrowed. */
const json_t *suite_case(const suite *s, const config *c, int64_t i);
/* Counts the cases of the model at hand that are not there yet; asks them. In a tolerant run (eval.h) what a
 * configuration refuses once it refuses for the rest of the cases: their records have "refused", the reason, and no
 * score; and all records have what target_measure says. */
int suite_plan(suite *s);
int suite_ask(suite *s);
/* Opens the results with the settings (taken over), runs all cases of all models and prints the tables. */
int suite_run(suite *s, json_t *settings, const pivot *tables, int n_tables);

#endif
