/* niah.h - needles in a haystack, as a suite: what `eval niah`, `eval recall` and `eval compare` have in common. */
#ifndef NIAH_H
#define NIAH_H

#include "masses.h"
#include "needles.h"
#include "recalls.h"
#include "suite.h"

typedef struct niah {
    suite suite;
    numbers lengths, depths, seeds;
    haystack *haystacks; /* [n_haystacks] */
    int n_haystacks;
    text question; /* with {key} */
    bool shared;
    int64_t n_answer;
    recalls *recalls; /* of `eval recall`, while a configuration runs */
    masses *masses;
    /* The text at hand, which the questions of all depths share. */
    int64_t cell;    /* -1: none */
    int model;       /* the number of the model that it was cut for */
    needle *needles; /* [depths.n] */
    text hay;
    int rounds;
} niah;

/* After eval_start: reads lengths, depths, seeds, question and haystacks, and fills in the suite. */
int niah_start(niah *j, const options *opt);
/* Adds the settings that its cases share. */
void niah_settings(const niah *j, json_t *settings);
void niah_free(niah *j);

#endif
