/* ruler_text.h - the texts of RULER's synthetic tasks (arXiv 2404.06654), in the form of its data generators.
 *
 * What differs from the published generators: the random numbers, and words, which are those of the haystack and not of
 * a list; keys are two of them with a hyphen. */
#ifndef RULER_TEXT_H
#define RULER_TEXT_H

#include <jansson.h>

#include "haystack.h"
#include "words.h"

typedef enum ruler_kind { RULER_NIAH, RULER_VT, RULER_CWE, RULER_FWE } ruler_kind;
typedef enum ruler_hay { RULER_NOISE, RULER_ESSAY, RULER_NEEDLE } ruler_hay;

typedef struct ruler_task {
    const char *name;
    ruler_kind kind;
    int limit; /* tokens of an answer */
    /* Of RULER_NIAH: */
    ruler_hay hay;
    bool uuid_keys, uuid_values;
    int keys, values, queries;
} ruler_task;

/* Ended by an entry without a name. */
extern const ruler_task ruler_tasks[];

/* What the texts are made from. */
typedef struct ruler_source {
    text prose;   /* the haystack on one line */
    size_t *ends; /* [n_words] byte after each word of it */
    int64_t n_words;
    words words;
} ruler_source;

int ruler_source_load(const haystack *h, ruler_source *out);
void ruler_source_free(ruler_source *s);

/* A text of `size` units (sentences, words, ...: what the task is made of) for a seed and a length (which sets the
 * vocabulary of fwe and the counts of cwe): *prompt, *lead (what the answer begins with), and the expected strings.
 * *icl_size is the size of the worked example of vt, from ruler_icl_size. False if there is no memory. */
bool ruler_make(const ruler_task *t, const ruler_source *s, int64_t seed, int64_t length, int64_t size, int icl_size,
                text *prompt, text *lead, json_t **outputs);
/* Only the worked example of vt, to find how much of it fits. */
bool ruler_make_example(int64_t seed, int icl_size, text *out);
/* The smallest and the largest size that can be made. */
int64_t ruler_least(const ruler_task *t);
int64_t ruler_most(const ruler_task *t, const ruler_source *s);

/* Mean over refs of whether they occur in the answer, without regard to case: RULER's string_match_all for one
 * sample. */
double ruler_score(const char *answer, const json_t *outputs);

#endif
