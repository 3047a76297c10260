/* csv.c - see csv.h. */
#include "csv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

/* Takes one cell off *at: unquotes it in place and ends it with a NUL. Returns what followed it: ',', '\n' or 0. */
static char take_cell(char **at, char **cell)
{
    char *from = *at, *to = *at;
    *cell = to;
    if (*from == '"') {
        for (from++; *from && (*from != '"' || from[1] == '"'); from++) {
            from += *from == '"';
            *to++ = *from;
        }
        from += *from == '"';
    }
    while (*from && *from != ',' && *from != '\n')
        *to++ = *from++;
    char end = *from;
    if (to > *cell && end != ',' && to[-1] == '\r')
        to--;
    *at = from + (end != 0);
    *to = 0;
    return end;
}

static int cut(csv *t)
{
    size_t most = 1;
    for (const char *s = t->data.data; *s; s++)
        most += *s == ',' || *s == '\n';
    t->cells = malloc(most * sizeof *t->cells);
    if (!t->cells)
        return cli_fail(EXIT_FAILED, "out of memory");
    char **cell = t->cells, *at = t->data.data;
    for (int line = 1; *at; line++) {
        int n = 0;
        char end;
        do {
            end = take_cell(&at, cell++);
            n++;
        } while (end == ',');
        if (line == 1)
            t->n_column = n;
        else if (n != t->n_column)
            return cli_fail(EXIT_FAILED, "%s:%d: %d values, the first line names %d columns", t->path, line, n,
                            t->n_column);
        else
            t->n_row++;
    }
    return EXIT_DONE;
}

int csv_read(csv *t, const char *path)
{
    *t = (csv){.path = path};
    int rc = text_read(&t->data, path);
    if (!rc && !t->data.len)
        rc = cli_fail(EXIT_FAILED, "%s: there is nothing in it", path);
    return rc ? rc : cut(t);
}

void csv_free(csv *t)
{
    text_free(&t->data);
    free(t->cells);
}

int csv_column(const csv *t, const char *name)
{
    for (int i = 0; i < t->n_column; i++)
        if (!strcmp(t->cells[i], name))
            return i;
    return -1;
}

const char *csv_cell(const csv *t, int row, int column)
{
    return t->cells[(row + 1) * t->n_column + column];
}

int csv_number(const csv *t, int row, int column, double *out)
{
    const char *cell = csv_cell(t, row, column);
    char *end;
    *out = strtod(cell, &end);
    if (end == cell || *end || !isfinite(*out))
        return cli_fail(EXIT_FAILED, "%s:%d: %s is '%s', not a number", t->path, row + 2, t->cells[column], cell);
    return EXIT_DONE;
}
