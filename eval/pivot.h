/* pivot.h - tables of cases: means of a value by row and column, one table for each group. */
#ifndef PIVOT_H
#define PIVOT_H

#include "results.h"

#include <stdbool.h>
#include <stdio.h>

enum { PIVOT_GROUPS = 3 };

typedef struct pivot {
    const char *group[PIVOT_GROUPS]; /* members whose values together name a table; unused ones are NULL */
    const char *row, *column, *value;
    const char *unit;  /* of the numbers, in the heading */
    double scale;      /* factor on the mean */
    int decimals;
    bool exponential; /* e to the mean is shown: perplexity from log-likelihoods */
} pivot;

/* Prints the tables of all cases: rows and columns in ascending order (numbers) or as they come (names), the last row and
 * column are means of all. A table that would have one row and one column only is left out, unless it is the first.
 * With `json` one object: {"settings", "tables": [{"group", "row", "column", "value", "rows": {row: {column: mean}},
 * "mean", "cases"}]}. */
int pivot_report(bool json, const results *r, const pivot *tables, int n);

#endif
