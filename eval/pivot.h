/* pivot.h - tables of cases: means of a value by row and column, one table for each group. */
#ifndef PIVOT_H
#define PIVOT_H

#include <jansson.h>
#include <stdio.h>

enum { PIVOT_GROUPS = 3 };

typedef struct pivot {
    const char *group[PIVOT_GROUPS]; /* members whose values together name a table; unused ones are NULL */
    const char *row, *column, *value;
    const char *unit;  /* of the numbers, in the heading */
    double scale;      /* factor on the mean */
    int decimals;
} pivot;

/* Rows and columns in ascending order (numbers) or as they come (names); the last row and column are means of all. */
int pivot_print(FILE *out, const json_t *cases, const pivot *p);
/* [{group members..., "rows": {row: {column: mean}}, "mean", "cases"}] */
json_t *pivot_json(const json_t *cases, const pivot *p);

#endif
