/* numbers.h - numbers as they are typed: "8K", and lists of them: "8K,16K", "0:100:10". */
#ifndef NUMBERS_H
#define NUMBERS_H

#include <stdint.h>

typedef struct numbers {
    int64_t *v; /* [n], freed by numbers_free */
    int n;
} numbers;

/* Reads one whole number, 8K = 8192; returns where it ends, or NULL. */
const char *number_read(const char *s, int64_t *out);
/* Parts separated by commas; each is a number (8K = 8192), FROM:TO or FROM:TO:STEP, ends included. `option` is named
 * in errors. */
int numbers_read(const char *option, const char *typed, int64_t min, int64_t max, numbers *out);
void numbers_sort(numbers *n);
void numbers_free(numbers *n);

#endif
