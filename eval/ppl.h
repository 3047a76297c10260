/* ppl.h - texts whose every token is scored. */
#ifndef PPL_H
#define PPL_H

#include "eval.h"

/* The first tokens of a haystack, from the paragraph that the seed chooses: at least `length` of them, which are the
 * caller's. An error if it has fewer. */
int ppl_tokens(const eval *e, const haystack *h, int64_t seed, int64_t length, int32_t **tokens);

#endif
