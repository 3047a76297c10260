/* numbers.h - lists of numbers on the command line: "0,8K,16K". */
#ifndef NUMBERS_H
#define NUMBERS_H

#include <stdint.h>

#include "cli.h"

/* Whole numbers from `least` to 2^30, separated by commas, 8K = 8192: writes them in ascending order. `option` is named
 * in errors. */
int numbers_read(const char *option, const char *text, int64_t least, int64_t *out, int cap, int *n);

#endif
