/* csv.h - a table in a file of comma separated values whose first line names the columns (RFC 4180). */
#ifndef CSV_H
#define CSV_H

#include "text.h"

typedef struct csv {
    const char *path;
    text data;    /* the file; cells point into it */
    char **cells; /* [n_row + 1][n_column], the names first */
    int n_row, n_column;
} csv;

int csv_read(csv *table, const char *path);
void csv_free(csv *table);
/* The number of a column, or -1. */
int csv_column(const csv *table, const char *name);
const char *csv_cell(const csv *table, int row, int column);
/* A cell that must hold a number. */
int csv_number(const csv *table, int row, int column, double *out);

#endif
