/* haystack.h - long texts to hide needles in. */
#ifndef HAYSTACK_H
#define HAYSTACK_H

#include <stdint.h>

#include "text.h"

typedef struct haystack {
    char *name;
    text text;
} haystack;

/* `name` is
 *   essays   the essays of the original needle test: the folder in $REATTN_ESSAYS, or .deps/essays
 *   jargon   the Jargon File: $REATTN_JARGON, .deps/jargon.txt, or where Debian's jargon-text puts it
 *   repeat   the sentences that RULER repeats
 *   a path   a text file, or a folder whose .txt files are joined in the order of their names */
int haystack_load(const char *name, haystack *out);
void haystack_free(haystack *h);

/* Appends at most n bytes, which end with a sentence. The text begins at a paragraph that the seed chooses and goes
 * round; *rounds is how often it is there, 1 if nothing is there twice. False if there is no memory. */
bool haystack_take(const haystack *h, int64_t seed, size_t n, text *out, int *rounds);

/* The last end of a sentence of s at or before `at`: just after its full stop; 0 if there is none. */
size_t haystack_sentence_end(const char *s, size_t len, size_t at);

#endif
