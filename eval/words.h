/* words.h - real words to draw from: the distinct words of a text. */
#ifndef WORDS_H
#define WORDS_H

#include "random.h"
#include "text.h"

typedef struct words {
    text memory;
    const char **list; /* [n], sorted */
    int n;
} words;

/* Words of 3 to 12 small letters that stand alone in the text. False if there is no memory. */
bool words_of(const char *s, words *out);
void words_free(words *w);
const char *words_draw(const words *w, rng *r);

#endif
