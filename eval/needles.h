/* needles.h - texts with needles: the haystack cut to a number of tokens, sentences hidden in it. */
#ifndef NEEDLES_H
#define NEEDLES_H

#include "eval.h"

typedef struct needle {
    int64_t depth; /* percent of the haystack */
    char key[64];
    char value[24];
    char sentence[128];
} needle;

/* Draws n needles, at the depths given, with distinct keys and numbers. */
int needles_draw(int64_t seed, const numbers *depths, needle **out);

/* The haystack's first bytes, at most n, and the needles in it, each after the end of a sentence at or before its
 * depth. False if there is no memory. */
bool needles_hide(const haystack *h, int64_t seed, size_t n, const needle *list, int n_list, text *out, int *rounds);

/* The text and a question that comes to at most `length` tokens, as close below as sentences allow. `ask` is the
 * longest question. */
int needles_fit(const eval *e, const haystack *h, int64_t seed, int64_t length, const needle *list, int n_list,
                const char *ask, text *out, int *rounds);

#endif
