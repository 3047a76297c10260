/* number_list.h - lists of numbers as they are typed: "8K,16K", "0:100:10". */
#ifndef NUMBER_LIST_H
#define NUMBER_LIST_H

#include <stdint.h>

typedef struct numbers {
    int64_t *v; /* [n], freed by number_list_free */
    int n;
} numbers;

/* Parts separated by commas; each is a number (8K = 8192), FROM:TO or FROM:TO:STEP, ends included. `option` is named
 * in errors. */
int number_list_read(const char *option, const char *typed, int64_t min, int64_t max, numbers *out);
void number_list_free(numbers *n);

#endif
