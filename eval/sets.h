/* sets.h - benchmarks whose data are files of questions: reading them, and running the sets that were asked for. */
#ifndef SETS_H
#define SETS_H

#include "suite.h"

/* One set of a benchmark. */
typedef struct set {
    const char *name;   /* and that of its file, NAME.jsonl */
    const char *prompt; /* template over the members of an item */
    const char *lead;   /* template of what the answer begins with, or NULL */
    int limit;          /* tokens of an answer */
    bool plain;         /* never put into a chat template */
    int kind;           /* for the benchmark's own functions */
} set;

typedef struct question {
    const set *set;
    json_t *item;  /* owned */
    int64_t index; /* in the file */
    int part;      /* of an item with several questions */
} question;

typedef struct sets {
    suite suite;
    const set *all;      /* ended by an entry without a name */
    question *questions; /* [suite.n] */
    /* The benchmark's: how many questions an item has (NULL = one). */
    int (*parts)(const set *s, const json_t *item);
    /* Fills in prompt, lead, expected and own members; limit, plain and set are filled in before, own is an object with
     * "set", "index" and "part". */
    int (*fill)(const question *q, sample *out);
} sets;

/* Adds one item; takes it over. */
int sets_add(sets *s, const set *one, json_t *item, int64_t index);
/* Reads --data FOLDER/NAME.jsonl (or .json) of the sets of --tasks; a set without a file is an error if it was asked
 * for by name. At most --samples items of each. */
int sets_read(sets *s);
/* Whether --tasks has this set. */
bool sets_wanted(const sets *s, const char *name, bool *by_name);
int sets_run(sets *s, json_t *settings, const pivot *tables, int n_tables);
void sets_free(sets *s);

/* A template over the string and number members of an item, with NAME: VALUE pairs as in eval_fill before them. */
bool sets_fill(text *out, const char *template, const json_t *item);

#endif
