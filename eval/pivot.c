/* pivot.c - see pivot.h. */
#include "pivot.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static const char model_config[] = "model, config";

/* A member as text, to be a heading. */
static void heading(const json_t *one, const char *member, char *buf, size_t cap)
{
    if (member == model_config) {
        heading(one, "model", buf, cap);
        size_t n = strlen(buf);
        if (n + 2 < cap) {
            memcpy(buf + n, ", ", 3);
            heading(one, "config", buf + n + 2, cap - n - 2);
        }
        return;
    }
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

static void add_cell(json_t *cells, const char *row, const char *column, double value)
{
    char key[512];
    snprintf(key, sizeof key, "%s\t%s", row, column);
    json_t *cell = json_object_get(cells, key);
    double sum = json_number_value(json_array_get(cell, 0)) + value;
    json_int_t count = json_integer_value(json_array_get(cell, 1)) + 1;
    json_object_set_new(cells, key, json_pack("[f, I]", sum, count));
}

static void add_value(pivot_table *t, const char *row, const char *column, double value)
{
    insert(t->rows, row);
    insert(t->columns, column);
    add_cell(t->cells, row, column, value);
    add_cell(t->cells, row, "", value);
    add_cell(t->cells, "", column, value);
    add_cell(t->cells, "", "", value);
}

/* Cells: row TAB column -> [sum, count]; "" stands for all rows, and for all columns. */
static double mean(const pivot_table *t, const char *row, const char *column, long *count)
{
    char key[512];
    snprintf(key, sizeof key, "%s\t%s", row, column);
    const json_t *cell = json_object_get(t->cells, key);
    *count = (long)json_integer_value(json_array_get(cell, 1));
    double v = *count ? json_number_value(json_array_get(cell, 0)) / (double)*count : 0;
    return t->p.exponential ? exp(v) : v;
}

double pivot_mean(const pivot_table *t, int row, int column, long *count)
{
    return mean(t, row < 0 ? "" : pivot_row(t, row), column < 0 ? "" : pivot_column(t, column), count);
}

const char *pivot_title(const pivot_table *t)
{
    return t->title;
}

int pivot_rows(const pivot_table *t)
{
    return (int)json_array_size(t->rows);
}

int pivot_columns(const pivot_table *t)
{
    return (int)json_array_size(t->columns);
}

const char *pivot_row(const pivot_table *t, int i)
{
    return json_string_value(json_array_get(t->rows, (size_t)i));
}

const char *pivot_column(const pivot_table *t, int i)
{
    return json_string_value(json_array_get(t->columns, (size_t)i));
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

static pivot_table table_of(const json_t *cases, const pivot *p, const char *group)
{
    pivot_table t = {.p = *p, .rows = json_array(), .columns = json_array(), .cells = json_object()};
    snprintf(t.title, sizeof t.title, "%s", group);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *one = json_array_get(cases, i), *value = json_object_get(one, p->value);
        char name[512], row[256], column[256];
        group_of(one, p, name, sizeof name);
        if (strcmp(name, group))
            continue;
        heading(one, p->row, row, sizeof row);
        heading(one, p->column, column, sizeof column);
        t.cases += json_is_number(value) || json_array_size(value);
        if (json_is_number(value))
            add_value(&t, row, column, json_number_value(value));
        for (size_t r = 0; r < json_array_size(value); r++)
            for (size_t c = 0; c < json_array_size(json_array_get(value, r)); c++) {
                snprintf(row, sizeof row, "%zu", r);
                snprintf(column, sizeof column, "%zu", c);
                add_value(&t, row, column, json_number_value(json_array_get(json_array_get(value, r), c)));
            }
    }
    return t;
}

/* Where cases are of several models, a configuration is one of them, too. */
static pivot with_models(const json_t *cases, pivot p)
{
    const char **names[PIVOT_GROUPS + 2] = {&p.row, &p.column};
    json_t *models = json_array();
    for (int i = 0; i < PIVOT_GROUPS; i++)
        names[2 + i] = &p.group[i];
    for (size_t i = 0; i < json_array_size(cases); i++) {
        char name[512];
        heading(json_array_get(cases, i), "model", name, sizeof name);
        insert(models, name);
    }
    for (int i = 0; i < PIVOT_GROUPS + 2 && json_array_size(models) > 1; i++)
        if (*names[i] && !strcmp(*names[i], "config"))
            *names[i] = model_config;
    json_decref(models);
    return p;
}

int pivot_tables(const json_t *cases, const pivot *wanted, pivot_table **tables)
{
    const pivot with = with_models(cases, *wanted), *p = &with;
    json_t *groups = json_array();
    int n = 0;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        char name[512];
        group_of(json_array_get(cases, i), p, name, sizeof name);
        insert(groups, name);
    }
    *tables = calloc(json_array_size(groups) + 1, sizeof **tables);
    for (size_t g = 0; *tables && g < json_array_size(groups); g++) {
        pivot_table t = table_of(cases, p, json_string_value(json_array_get(groups, g)));
        if (pivot_rows(&t))
            (*tables)[n++] = t;
        else
            pivot_tables_free(&t, -1);
    }
    json_decref(groups);
    return n;
}

/* n = -1: one table that is not in a list. */
void pivot_tables_free(pivot_table *tables, int n)
{
    for (int i = 0; i < (n < 0 ? 1 : n); i++) {
        json_decref(tables[i].rows);
        json_decref(tables[i].columns);
        json_decref(tables[i].cells);
    }
    if (n >= 0)
        free(tables);
}

/* A mean over configurations says nothing. */
static bool has_mean(const char *member)
{
    return strcmp(member, "config") != 0 && strcmp(member, model_config) != 0;
}

static void print_row(FILE *out, const pivot_table *t, int row, int first, int width)
{
    int columns = pivot_columns(t);
    fprintf(out, "%*s", first, row < 0 ? "all" : pivot_row(t, row));
    for (int c = 0; c < columns + has_mean(t->p.column); c++) {
        int w = c < columns && (int)strlen(pivot_column(t, c)) > width ? (int)strlen(pivot_column(t, c)) : width;
        long count;
        double v = pivot_mean(t, row, c < columns ? c : -1, &count);
        if (count)
            fprintf(out, "%s%*.*f", c < columns ? "  " : " | ", w, t->p.decimals, v * t->p.scale);
        else
            fprintf(out, "%s%*s", c < columns ? "  " : " | ", w, "-");
    }
    fputc('\n', out);
}

static void print_table(FILE *out, const pivot_table *t)
{
    const pivot *p = &t->p;
    int first = (int)strlen(p->row), width = p->decimals ? 5 + p->decimals : 4, rows = pivot_rows(t);
    for (int r = 0; r < rows; r++) {
        int n = (int)strlen(pivot_row(t, r));
        first = n > first ? n : first;
    }
    fprintf(out, "%s%s%s by %s and %s, %ld cases\n%*s", t->title, *t->title ? ": " : "", p->unit, p->row, p->column,
            t->cases, first, p->row);
    for (int c = 0; c < pivot_columns(t); c++)
        fprintf(out, "  %*s", width, pivot_column(t, c));
    if (has_mean(p->column))
        fprintf(out, " | %*s", width, "all");
    fputc('\n', out);
    for (int r = 0; r < rows; r++)
        print_row(out, t, r, first, width);
    if (rows > 1 && has_mean(p->row))
        print_row(out, t, -1, first, width);
    fputc('\n', out);
}

static void add_table(json_t *list, const pivot_table *t)
{
    json_t *rows = json_object();
    long count;
    for (int r = 0; r < pivot_rows(t); r++) {
        json_t *cells = json_object();
        for (int c = 0; c < pivot_columns(t); c++) {
            double v = pivot_mean(t, r, c, &count);
            if (count)
                json_object_set_new(cells, pivot_column(t, c), json_real(v));
        }
        json_object_set_new(rows, pivot_row(t, r), cells);
    }
    double all = pivot_mean(t, -1, -1, &count);
    json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:o, s:f, s:I}", "group", t->title, "row", t->p.row,
                                          "column", t->p.column, "value", t->p.value, "rows", rows, "mean", all,
                                          "cases", (json_int_t)t->cases));
}

int pivot_report(bool json, const results *r, const pivot *wanted, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++) {
        pivot_table *tables;
        int found = pivot_tables(results_cases(r), &wanted[i], &tables);
        for (int t = 0; t < found; t++) {
            bool small = pivot_rows(&tables[t]) == 1 && pivot_columns(&tables[t]) == 1;
            if (json)
                add_table(list, &tables[t]);
            else if (i == 0 || !small)
                print_table(stdout, &tables[t]);
        }
        pivot_tables_free(tables, found);
    }
    json_t *all = json_pack("{s:O, s:o}", "settings", results_settings(r), "tables", list);
    int failed =
        json && (!all || json_dumpf(all, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) || putchar('\n') == EOF);
    json_decref(all);
    return failed ? cli_fail(EXIT_FAILED, "the JSON object could not be written") : EXIT_DONE;
}
