/* metric_exam.h - exact match of L-Eval's closed tasks, which first pick the answer out of what the model said. */
#ifndef METRIC_EXAM_H
#define METRIC_EXAM_H

typedef enum exam_kind {
    EXAM_CHOICE,  /* quality, tpo: the first letter A to D */
    EXAM_CHOICES, /* coursera: one or several letters; a part of the right ones is worth 0.25 */
    EXAM_MATH,    /* gsm100: the number after "The answer is", or the last one */
    EXAM_CODE,    /* codeU: what the answer ends with */
    EXAM_TEXT     /* others: the expected text, without blanks, is in the first line of the answer */
} exam_kind;

/* NAN if memory ran out. */
double metric_exam(const char *answer, const char *expected, exam_kind kind);

#endif
