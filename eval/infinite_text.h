/* infinite_text.h - items of InfiniteBench that are made and not read, in the form of its files. */
#ifndef INFINITE_TEXT_H
#define INFINITE_TEXT_H

#include "sets.h"

bool infinite_makes(const char *name);

/* An item of a set with at most `length` tokens in the prompt that `fill` makes of it. *item is the caller's. */
int infinite_make(const eval *e, const set *s, int64_t length, int64_t seed,
                  int (*fill)(const question *q, sample *out), json_t **item);

#endif
