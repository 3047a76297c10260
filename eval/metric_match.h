/* metric_match.h - numbers and words that an answer has, as the benchmarks look for them. 0 .. 1; NAN if memory ran
 * out. */
#ifndef METRIC_MATCH_H
#define METRIC_MATCH_H

#include <stddef.h>

/* InfiniteBench: the first run of digits is the expected one. */
double metric_first_integer(const char *answer, const char *expected);
/* InfiniteBench, Code.Run: the last word is the expected whole number. */
double metric_last_integer(const char *answer, long long expected);
/* InfiniteBench, Math.Find: the first number, whole or with a decimal point, is the expected one. */
double metric_first_number(const char *answer, double expected);
/* InfiniteBench, Math.Calc: share of the expected numbers that the answer has from its beginning without a mistake. */
double metric_number_prefix(const char *answer, const long long *expected, size_t n);
/* InfiniteBench, KV retrieval and dialogues: the expected word is one of the words, parted by blanks and any of
 * `marks`; with `upper` the answer's words are taken in upper case. */
double metric_has_word(const char *answer, const char *expected, const char *marks, int upper);
/* LongBench: of the numbers in the answer the share that is the expected one. */
double metric_number_share(const char *answer, const char *expected);
/* LongBench: 1 / (number of classes that the answer names) if the expected one is among them. */
double metric_class(const char *answer, const char *expected, const char *const *classes, size_t n);

#endif
