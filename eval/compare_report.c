/* compare_report.c - see compare.h. Cases become cells: what a row (model and configuration) did in a column (test,
 * length and, where there are several, text). */
#include "compare.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chart.h"
#include "cli.h"

typedef struct column {
    char test[16], haystack[128];
    int64_t length;
    char title[192];
} column;

typedef struct cell {
    double sum; /* of scores or log-likelihoods */
    long n, refused;
    double read_tokens, read_ms, decode_tokens, decode_ms, bytes; /* bytes: the most */
} cell;

typedef struct grid {
    json_t *rows;    /* names, in the order of the cases */
    column *columns; /* [n_columns] by test, text, length */
    int n_rows, n_columns;
    cell *cells; /* [n_rows][n_columns] */
} grid;

/* -------------------------------------------------------------------------------------------- gather --------- */

static const char *text_of(const json_t *one, const char *member)
{
    const char *s = json_string_value(json_object_get(one, member));
    return s ? s : "-";
}

static double number_of(const json_t *one, const char *member)
{
    return json_number_value(json_object_get(one, member));
}

static int index_of(json_t *list, const char *s)
{
    size_t i = 0, n = json_array_size(list);
    while (i < n && strcmp(json_string_value(json_array_get(list, i)), s))
        i++;
    if (i == n)
        json_array_append_new(list, json_string(s));
    return (int)i;
}

static bool has_several(const json_t *cases, const char *member)
{
    for (size_t i = 1; i < json_array_size(cases); i++)
        if (strcmp(text_of(json_array_get(cases, i), member), text_of(json_array_get(cases, 0), member)))
            return true;
    return false;
}

static void row_name(const json_t *one, bool models, char *buf, size_t cap)
{
    if (models)
        snprintf(buf, cap, "%s, %s", text_of(one, "model"), text_of(one, "config"));
    else
        snprintf(buf, cap, "%s", text_of(one, "config"));
}

static column column_of(const json_t *one)
{
    column c = {.length = json_integer_value(json_object_get(one, "length"))};
    snprintf(c.test, sizeof c.test, "%s", text_of(one, "test"));
    snprintf(c.haystack, sizeof c.haystack, "%s", text_of(one, "haystack"));
    return c;
}

static int by_column(const void *a, const void *b)
{
    const column *x = a, *y = b;
    int test = strcmp(x->test, y->test), haystack = strcmp(x->haystack, y->haystack);
    return test ? test : haystack ? haystack : (x->length > y->length) - (x->length < y->length);
}

static int find_columns(grid *g, const json_t *cases)
{
    bool texts = has_several(cases, "haystack");
    g->columns = calloc(json_array_size(cases) + 1, sizeof *g->columns);
    if (!g->columns)
        return cli_fail(EXIT_FAILED, "out of memory");
    for (size_t i = 0; i < json_array_size(cases); i++) {
        column c = column_of(json_array_get(cases, i));
        int k = 0;
        while (k < g->n_columns && by_column(&c, &g->columns[k]))
            k++;
        if (k == g->n_columns)
            g->columns[g->n_columns++] = c;
    }
    qsort(g->columns, (size_t)g->n_columns, sizeof *g->columns, by_column);
    for (column *c = g->columns; c < g->columns + g->n_columns; c++)
        snprintf(c->title, sizeof c->title, "%s@%lld%s%s", c->test, (long long)c->length, texts ? " " : "",
                 texts ? c->haystack : "");
    return EXIT_DONE;
}

static void add_case(cell *c, const json_t *one)
{
    const json_t *value = json_object_get(one, strcmp(text_of(one, "test"), "ppl") ? "score" : "nll");
    c->refused += json_object_get(one, "refused") != NULL;
    if (!json_is_number(value))
        return;
    c->sum += json_number_value(value);
    c->n++;
    const json_t *t = json_object_get(one, "timings");
    c->read_tokens += number_of(t, "read_tokens");
    c->read_ms += number_of(t, "read_ms");
    c->decode_tokens += number_of(t, "decode_tokens");
    c->decode_ms += number_of(t, "decode_ms");
    c->bytes = fmax(c->bytes, number_of(one, "store_bytes"));
}

static int gather(grid *g, const json_t *cases)
{
    bool models = has_several(cases, "model");
    char name[512];
    g->rows = json_array();
    for (size_t i = 0; i < json_array_size(cases); i++) {
        row_name(json_array_get(cases, i), models, name, sizeof name);
        index_of(g->rows, name);
    }
    g->n_rows = (int)json_array_size(g->rows);
    int rc = find_columns(g, cases);
    g->cells = calloc((size_t)g->n_rows * (size_t)g->n_columns + 1, sizeof *g->cells);
    if (!rc && !g->cells)
        rc = cli_fail(EXIT_FAILED, "out of memory");
    for (size_t i = 0; i < json_array_size(cases) && !rc; i++) {
        const json_t *one = json_array_get(cases, i);
        column c = column_of(one);
        int k = 0;
        while (by_column(&c, &g->columns[k]))
            k++;
        row_name(one, models, name, sizeof name);
        add_case(&g->cells[index_of(g->rows, name) * g->n_columns + k], one);
    }
    return rc;
}

static void grid_free(grid *g)
{
    json_decref(g->rows);
    free(g->columns);
    free(g->cells);
}

static const cell *cell_of(const grid *g, int row, int column)
{
    return &g->cells[row * g->n_columns + column];
}

/* Percent found, or perplexity. */
static double quality(const column *c, const cell *x)
{
    double mean = x->sum / (double)x->n;
    return strcmp(c->test, "ppl") ? 100 * mean : exp(mean);
}

static double speed(double tokens, double ms)
{
    return ms > 0 ? 1000 * tokens / ms : NAN;
}

/* --------------------------------------------------------------------------------------------- table --------- */

enum { W_QUALITY = 10, W_SPEED = 9, W_BYTES = 8, W_GROUP = W_QUALITY + 2 * W_SPEED + W_BYTES };

static void print_number(double v, int width, int decimals)
{
    if (isnan(v))
        printf("%*s", width, "-");
    else
        printf("%*.*f", width, decimals, v);
}

static void print_cell(const column *c, const cell *x)
{
    double read = speed(x->read_tokens, x->read_ms), decode = speed(x->decode_tokens, x->decode_ms);
    printf(" |");
    print_number(x->n ? quality(c, x) : NAN, W_QUALITY, strcmp(c->test, "ppl") ? 1 : 2);
    print_number(x->n ? read : NAN, W_SPEED, read < 100 ? 1 : 0);
    print_number(x->n ? decode : NAN, W_SPEED, decode < 100 ? 1 : 0);
    print_number(x->n ? x->bytes / 1048576 : NAN, W_BYTES, x->bytes < 100 * 1048576.0 ? 1 : 0);
}

static void print(const grid *g)
{
    int first = (int)strlen("config");
    for (int r = 0; r < g->n_rows; r++) {
        int n = (int)strlen(json_string_value(json_array_get(g->rows, (size_t)r)));
        first = n > first ? n : first;
    }
    printf("quality (niah: %% exact, ppl: perplexity), tokens a second of prompt and answer, MiB held at the end\n");
    printf("%*s", first, "");
    for (int c = 0; c < g->n_columns; c++)
        printf(" |%*s", W_GROUP, g->columns[c].title);
    printf("\n%*s", first, "config");
    for (int c = 0; c < g->n_columns; c++)
        printf(" |%*s%*s%*s%*s", W_QUALITY, strcmp(g->columns[c].test, "ppl") ? "% exact" : "ppl", W_SPEED, "prompt/s",
               W_SPEED, "answer/s", W_BYTES, "MiB");
    putchar('\n');
    for (int r = 0; r < g->n_rows; r++) {
        printf("%*s", first, json_string_value(json_array_get(g->rows, (size_t)r)));
        for (int c = 0; c < g->n_columns; c++)
            print_cell(&g->columns[c], cell_of(g, r, c));
        putchar('\n');
    }
}

static void set_speed(json_t *out, const char *name, double v)
{
    if (!isnan(v))
        json_object_set_new(out, name, json_real(v));
}

static int print_json(const grid *g, const results *results)
{
    json_t *rows = json_object();
    for (int r = 0; r < g->n_rows; r++) {
        json_t *row = json_object();
        for (int c = 0; c < g->n_columns; c++) {
            const cell *x = cell_of(g, r, c);
            json_t *one = json_pack("{s:I, s:I}", "cases", (json_int_t)x->n, "refused", (json_int_t)x->refused);
            if (x->n) {
                json_object_set_new(one, "quality", json_real(quality(&g->columns[c], x)));
                set_speed(one, "prompt_per_second", speed(x->read_tokens, x->read_ms));
                set_speed(one, "predicted_per_second", speed(x->decode_tokens, x->decode_ms));
                json_object_set_new(one, "store_bytes", json_integer((json_int_t)x->bytes));
            }
            if (x->n || x->refused)
                json_object_set(row, g->columns[c].title, one);
            json_decref(one);
        }
        json_object_set_new(rows, json_string_value(json_array_get(g->rows, (size_t)r)), row);
    }
    json_t *all = json_pack("{s:O, s:o}", "settings", results_settings(results), "rows", rows);
    int failed = !all || json_dumpf(all, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) || putchar('\n') == EOF;
    json_decref(all);
    return failed ? cli_fail(EXIT_FAILED, "the JSON object could not be written") : EXIT_DONE;
}

int compare_report(bool json, const results *r)
{
    grid g = {0};
    int rc = gather(&g, results_cases(r));
    if (!rc && json)
        rc = print_json(&g, r);
    else if (!rc)
        print(&g);
    grid_free(&g);
    return rc;
}

/* ------------------------------------------------------------------------------------------- picture --------- */

/* Columns [from, *to) are of one test and text. */
static chart_panel panel_of(const grid *g, int from, int *to, chart_line *lines, chart_point *points)
{
    const column *first = &g->columns[from];
    bool ppl = !strcmp(first->test, "ppl");
    double least = INFINITY, most = 0;
    for (*to = from; *to < g->n_columns && !strcmp(g->columns[*to].test, first->test) &&
                     !strcmp(g->columns[*to].haystack, first->haystack);)
        ++*to;
    for (int r = 0; r < g->n_rows; r++) {
        lines[r] = (chart_line){json_string_value(json_array_get(g->rows, (size_t)r)), points, 0};
        for (int c = from; c < *to; c++) {
            const cell *x = cell_of(g, r, c);
            double v = x->n ? quality(&g->columns[c], x) : NAN;
            if (!isfinite(v))
                continue;
            least = fmin(least, v);
            most = fmax(most, v);
            *points++ = (chart_point){(double)g->columns[c].length, v, false};
            lines[r].n++;
        }
    }
    chart_scale scale = ppl && most > 10 * least ? CHART_LOG10 : CHART_LINEAR;
    const char *title = ppl ? "perplexity of the last quarter" : "needles found, %";
    return (chart_panel){title, "length (tokens)", CHART_LOG2, scale, lines, g->n_rows, 0, ppl ? 0 : 100};
}

int compare_plot(const json_t *cases, const char *path)
{
    grid g = {0};
    int rc = gather(&g, cases), n = 0;
    char note[256] = "";
    size_t cells = (size_t)g.n_rows * (size_t)g.n_columns + 1;
    chart_panel *panels = calloc((size_t)g.n_columns + 1, sizeof *panels);
    chart_line *lines = calloc(cells, sizeof *lines);
    chart_point *points = calloc(cells, sizeof *points);
    if (!rc && !(panels && lines && points))
        rc = cli_fail(EXIT_FAILED, "out of memory");
    if (!rc && !g.n_columns)
        rc = cli_fail(EXIT_FAILED, "there are no cases to draw");
    for (int from = 0, to; from < g.n_columns && !rc; from = to, n++) {
        panels[n] =
            panel_of(&g, from, &to, lines + (size_t)n * (size_t)g.n_rows, points + (size_t)from * (size_t)g.n_rows);
        size_t used = strlen(note);
        snprintf(note + used, sizeof note - used, "%s%s: %s", n ? "; " : "", g.columns[from].test,
                 g.columns[from].haystack);
    }
    if (!rc)
        rc = chart_write(&(chart){"quality by length", note, panels, n}, path);
    free(panels);
    free(lines);
    free(points);
    grid_free(&g);
    return rc;
}
