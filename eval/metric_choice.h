/* metric_choice.h - multiple choice: which letter an answer means. 1 or 0. */
#ifndef METRIC_CHOICE_H
#define METRIC_CHOICE_H

/* LongBench v2: 'The correct answer is (X)' or '... is X', asterisks left out; 0 if the answer says neither. */
char metric_correct_answer_is(const char *answer);
/* InfiniteBench, En.MC: the letter, or the option's text, that the answer begins with or announces. */
double metric_choice(const char *answer, char letter, const char *option);
/* InfiniteBench, Code.Debug: the letter or the function's name. */
double metric_code_debug(const char *answer, char letter, const char *function);

#endif
