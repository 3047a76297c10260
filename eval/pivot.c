/* pivot.c - see pivot.h. */
#include "pivot.h"

#include <stdbool.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

/* A member as text, to be a heading. */
static void heading(const json_t *one, const char *member, char *buf, size_t cap)
{
    const json_t *v = json_object_get(one, member);
    if (json_is_string(v))
        snprintf(buf, cap, "%s", json_string_value(v));
    else if (json_is_integer(v))
        snprintf(buf, cap, "%lld", (long long)json_integer_value(v));
    else if (json_is_real(v))
        snprintf(buf, cap, "%g", json_real_value(v));
    else
        snprintf(buf, cap, "-");
}

static bool is_number(const char *s)
{
    char *end;
    strtod(s, &end);
    return end > s && !*end;
}

/* Inserts a heading into a list in its order, once. */
static void insert(json_t *list, const char *s)
{
    size_t i = 0, n = json_array_size(list);
    for (; i < n; i++)
        if (!strcmp(json_string_value(json_array_get(list, i)), s))
            return;
    if (is_number(s))
        for (i = 0; i < n; i++) {
            const char *there = json_string_value(json_array_get(list, i));
            if (is_number(there) && strtod(there, NULL) > strtod(s, NULL))
                break;
        }
    json_array_insert_new(list, i, json_string(s));
}

/* One table: sums and counts by row and column. "" stands for all rows, and for all columns. */
typedef struct table {
    json_t *rows, *columns, *cells; /* cells: row TAB column -> [sum, count] */
} table;

static void add_cell(json_t *cells, const char *row, const char *column, double value)
{
    char key[512];
    snprintf(key, sizeof key, "%s\t%s", row, column);
    json_t *cell = json_object_get(cells, key);
    double sum = json_number_value(json_array_get(cell, 0)) + value;
    json_int_t count = json_integer_value(json_array_get(cell, 1)) + 1;
    json_object_set_new(cells, key, json_pack("[f, I]", sum, count));
}

static double mean(const table *t, const pivot *p, const char *row, const char *column, long *count)
{
    char key[512];
    snprintf(key, sizeof key, "%s\t%s", row, column);
    const json_t *cell = json_object_get(t->cells, key);
    *count = (long)json_integer_value(json_array_get(cell, 1));
    double v = *count ? json_number_value(json_array_get(cell, 0)) / (double)*count : 0;
    return p->exponential ? exp(v) : v;
}

/* The name of the table that a case belongs to. */
static void group_of(const json_t *one, const pivot *p, char *buf, size_t cap)
{
    buf[0] = 0;
    for (int i = 0; i < PIVOT_GROUPS && p->group[i]; i++) {
        size_t n = strlen(buf);
        if (n + 2 < cap) {
            if (i)
                strcpy(buf + n++, ", "), n++;
            heading(one, p->group[i], buf + n, cap - n);
        }
    }
}

static table table_of(const json_t *cases, const pivot *p, const char *group)
{
    table t = {json_array(), json_array(), json_object()};
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *one = json_array_get(cases, i), *value = json_object_get(one, p->value);
        char name[512], row[128], column[128];
        group_of(one, p, name, sizeof name);
        if (strcmp(name, group) || !json_is_number(value))
            continue;
        heading(one, p->row, row, sizeof row);
        heading(one, p->column, column, sizeof column);
        insert(t.rows, row);
        insert(t.columns, column);
        double v = json_number_value(value);
        add_cell(t.cells, row, column, v);
        add_cell(t.cells, row, "", v);
        add_cell(t.cells, "", column, v);
        add_cell(t.cells, "", "", v);
    }
    return t;
}

static void table_free(table *t)
{
    json_decref(t->rows);
    json_decref(t->columns);
    json_decref(t->cells);
}

static json_t *groups_of(const json_t *cases, const pivot *p)
{
    json_t *groups = json_array();
    for (size_t i = 0; i < json_array_size(cases); i++) {
        char name[512];
        group_of(json_array_get(cases, i), p, name, sizeof name);
        insert(groups, name);
    }
    return groups;
}

/* A mean over configurations says nothing. */
static bool has_mean(const char *member)
{
    return strcmp(member, "config") != 0;
}

static void print_row(FILE *out, const table *t, const pivot *p, const char *row, int first, int width)
{
    fprintf(out, "%*s", first, *row ? row : "all");
    for (size_t c = 0; c < json_array_size(t->columns) + has_mean(p->column); c++) {
        const char *column = json_string_value(json_array_get(t->columns, c));
        int w = column && (int)strlen(column) > width ? (int)strlen(column) : width;
        long count;
        double v = mean(t, p, row, column ? column : "", &count);
        if (count)
            fprintf(out, "%s%*.*f", column ? "  " : " | ", w, p->decimals, v * p->scale);
        else
            fprintf(out, "%s%*s", column ? "  " : " | ", w, "-");
    }
    fputc('\n', out);
}

static void print_table(FILE *out, const table *t, const pivot *p, const char *group)
{
    int first = (int)strlen(p->row), width = p->decimals ? 5 + p->decimals : 4;
    long count;
    mean(t, p, "", "", &count);
    for (size_t r = 0; r < json_array_size(t->rows); r++) {
        int n = (int)strlen(json_string_value(json_array_get(t->rows, r)));
        first = n > first ? n : first;
    }
    fprintf(out, "%s: %s by %s and %s, %ld cases\n%*s", group, p->unit, p->row, p->column, count, first, p->row);
    for (size_t c = 0; c < json_array_size(t->columns); c++)
        fprintf(out, "  %*s", width, json_string_value(json_array_get(t->columns, c)));
    if (has_mean(p->column))
        fprintf(out, " | %*s", width, "all");
    fputc('\n', out);
    for (size_t r = 0; r < json_array_size(t->rows); r++)
        print_row(out, t, p, json_string_value(json_array_get(t->rows, r)), first, width);
    if (json_array_size(t->rows) > 1 && has_mean(p->row))
        print_row(out, t, p, "", first, width);
    fputc('\n', out);
}

static void print_tables(FILE *out, const json_t *cases, const pivot *p, bool first)
{
    json_t *groups = groups_of(cases, p);
    for (size_t g = 0; g < json_array_size(groups); g++) {
        const char *group = json_string_value(json_array_get(groups, g));
        table t = table_of(cases, p, group);
        if (json_array_size(t.rows) > !first || json_array_size(t.columns) > !first)
            print_table(out, &t, p, group);
        table_free(&t);
    }
    json_decref(groups);
}

static void add_tables(json_t *list, const json_t *cases, const pivot *p)
{
    json_t *groups = groups_of(cases, p);
    for (size_t g = 0; g < json_array_size(groups); g++) {
        table t = table_of(cases, p, json_string_value(json_array_get(groups, g)));
        json_t *rows = json_object();
        long count;
        for (size_t r = 0; r < json_array_size(t.rows); r++) {
            const char *row = json_string_value(json_array_get(t.rows, r));
            json_t *cells = json_object();
            for (size_t c = 0; c < json_array_size(t.columns); c++) {
                const char *column = json_string_value(json_array_get(t.columns, c));
                double v = mean(&t, p, row, column, &count);
                if (count)
                    json_object_set_new(cells, column, json_real(v));
            }
            json_object_set_new(rows, row, cells);
        }
        double all = mean(&t, p, "", "", &count);
        json_array_append_new(list, json_pack("{s:O, s:s, s:s, s:s, s:o, s:f, s:I}", "group", json_array_get(groups, g),
                                              "row", p->row, "column", p->column, "value", p->value, "rows", rows, "mean",
                                              all, "cases", (json_int_t)count));
        table_free(&t);
    }
    json_decref(groups);
}

int pivot_report(bool json, const results *r, const pivot *tables, int n)
{
    const json_t *cases = results_cases(r);
    if (!json) {
        for (int i = 0; i < n; i++)
            print_tables(stdout, cases, &tables[i], i == 0);
        return EXIT_DONE;
    }
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        add_tables(list, cases, &tables[i]);
    json_t *all = json_pack("{s:O, s:o}", "settings", results_settings(r), "tables", list);
    int failed = !all || json_dumpf(all, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) || putchar('\n') == EOF;
    json_decref(all);
    return failed ? cli_fail(EXIT_FAILED, "the JSON object could not be written") : EXIT_DONE;
}
