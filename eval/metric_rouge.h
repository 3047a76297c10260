/* metric_rouge.h - ROUGE, as the two packages that benchmarks use compute it. NAN if memory ran out. */
#ifndef METRIC_ROUGE_H
#define METRIC_ROUGE_H

#include "metric_words.h"

/* ROUGE-L F of the package rouge 1.0.1 (LongBench): sentences end at full stops, the distinct words of the union of
 * longest common subsequences. With WORDS_CHINESE every character is a word. 0 if a text has no words. */
double metric_rouge_l(const char *answer, const char *expected, word_rule rule);
/* F of rouge_score without stemming: n-grams of 1 or 2 words, or (n = 0) the longest common subsequence. */
double metric_rouge_score(const char *answer, const char *expected, int n);
/* rougeLsum F of rouge_score: sentences are lines. */
double metric_rouge_lsum(const char *answer, const char *expected);

#endif
