/* metric_words.h - texts as lists of words, normalised as the question answering benchmarks do, and their F1.
 *
 * Metrics work on UTF-8 and return NAN if memory ran out. */
#ifndef METRIC_WORDS_H
#define METRIC_WORDS_H

#include <stddef.h>

typedef struct word_list {
    char *memory;
    char **v; /* [n] NUL-terminated */
    size_t n;
} word_list;

typedef enum word_rule {
    WORDS_ANSWER,  /* SQuAD: lower case, without ASCII punctuation and the articles a, an, the */
    WORDS_CHINESE, /* lower case, without punctuation and blanks; every character is a word */
    WORDS_ROUGE,   /* rouge_score's: lower case, runs of a-z and 0-9 */
    WORDS_PLAIN    /* parted by blanks */
} word_rule;

/* 0, or -1 if there is no memory. */
int words_split(const char *s, size_t len, word_rule rule, word_list *out);
void words_drop(word_list *w);

/* F1 of the words of two texts as bags. */
double metric_f1(const char *answer, const char *expected, word_rule rule);

/* Length of the UTF-8 character at s and, in *code, the character; a byte that begins none counts as one. */
size_t metric_character(const char *s, size_t len, unsigned *code);

#endif
