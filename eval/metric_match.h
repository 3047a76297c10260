/* metric_match.h - right or wrong: numbers, words and letters found in an answer. 1 or 0, unless said otherwise. */
#ifndef METRIC_MATCH_H
#define METRIC_MATCH_H

/* The first run of digits is the expected one. */
double metric_first_integer(const char *answer, const char *expected);

#endif
