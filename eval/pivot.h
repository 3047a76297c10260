/* pivot.h - tables of cases: means of a value by row and column, one table for each group. */
#ifndef PIVOT_H
#define PIVOT_H

#include "results.h"

#include <stdbool.h>
#include <stdio.h>

enum { PIVOT_GROUPS = 3 };

typedef struct pivot {
    const char *group[PIVOT_GROUPS]; /* members whose values together name a table; unused ones are NULL */
    const char *row, *column, *value; /* a value [..][..] of numbers is in the rows and columns of its indices */
    const char *unit;                 /* of the numbers, in the heading */
    double scale;     /* factor on the mean */
    int decimals;
    bool exponential; /* e to the mean is shown: perplexity from log-likelihoods */
} pivot;

/* Where the cases are of several models, "config" stands for model and configuration.
 *
 * Prints the tables of all cases: rows and columns in ascending order (numbers) or as they come (names), the last
 * row and column are means of all. A table that would have one row and one column only is left out, unless it is the
 * first. With `json` one object: {"settings", "tables": [{"group", "row", "column", "value", "rows": {row: {column:
 * mean}}, "mean", "cases"}]}. */
int pivot_report(bool json, const results *r, const pivot *tables, int n);

/* The tables themselves, for who draws them. */
typedef struct pivot_table {
    pivot p;
    char title[512];
    json_t *rows, *columns, *cells;
    long cases; /* that have the value */
} pivot_table;

/* Tables that are not empty; their number. *tables is freed by pivot_tables_free. */
int pivot_tables(const json_t *cases, const pivot *p, pivot_table **tables);
void pivot_tables_free(pivot_table *tables, int n);
const char *pivot_title(const pivot_table *t);
int pivot_rows(const pivot_table *t);
int pivot_columns(const pivot_table *t);
const char *pivot_row(const pivot_table *t, int i);
const char *pivot_column(const pivot_table *t, int i);
/* Mean of a cell, of a row or column (the other is -1) or of all; *count is how many cases it is of. */
double pivot_mean(const pivot_table *t, int row, int column, long *count);

#endif
