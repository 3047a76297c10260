/* metric_edit.h - how alike two strings are: Python's difflib.SequenceMatcher.ratio(), which fuzzywuzzy's ratio is. */
#ifndef METRIC_EDIT_H
#define METRIC_EDIT_H

/* 0 .. 1; NAN if memory ran out. */
double metric_edit_similarity(const char *a, const char *b);

#endif
