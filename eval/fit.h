/* fit.h - how long a made text may be. */
#ifndef FIT_H
#define FIT_H

#include "eval.h"

/* Tokens of a text of `size` units, as it is sent. */
typedef int (*fit_tokens_fn)(void *user, int64_t size, int64_t *tokens);

/* The largest size of least .. most whose text has at most `length` tokens. `what` is named if even the least has
 * more. */
int fit_size(const char *what, int64_t length, int64_t least, int64_t most, fit_tokens_fn tokens, void *user,
             int64_t *size);

#endif
