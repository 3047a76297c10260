/* plot.c - reattn eval plot: pictures of results. A grid of lengths and depths becomes a heat map for each
 * configuration and text, as does one of layers and heads; perplexity a curve by position with a line for each
 * configuration; what was recalled a strip over the text; a comparison curves by length. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chart.h"
#include "compare.h"
#include "draw.h"
#include "eval.h"
#include "pivot.h"
#include "plot.h"

/* ------------------------------------------------------------------------------------------- heat map -------- */

enum { CELL_W = 54, CELL_H = 24, LEFT = 64, TOP = 56, RIGHT = 24, BOTTOM = 48, BAR = 90 };

static void heat_map(drawing *d, const pivot_table *t, const char *title, double y0)
{
    char s[64];
    int rows = pivot_rows(t), columns = pivot_columns(t); /* rows go along x */
    bool grid = !strcmp(t->p.row, "length");
    draw_text(d, LEFT, y0 + 20, 0, 13, false, draw_black, title);
    long n;
    snprintf(s, sizeof s, "mean %.1f %%", 100 * pivot_mean(t, -1, -1, &n));
    draw_text(d, LEFT, y0 + 38, 0, 11, false, draw_grey, s);
    for (int c = 0; c < columns; c++) {
        double y = y0 + TOP + c * CELL_H;
        draw_text(d, LEFT - 6, y + CELL_H / 2 + 4, 1, 11, false, draw_black, pivot_column(t, c));
        for (int r = 0; r < rows; r++) {
            double v = pivot_mean(t, r, c, &n);
            if (!n)
                continue;
            draw_rect(d, LEFT + r * CELL_W, y, CELL_W - 1, CELL_H - 1, draw_score_color(v));
            snprintf(s, sizeof s, "%.0f", 100 * v);
            draw_text(d, LEFT + (r + 0.5) * CELL_W, y + CELL_H / 2 + 4, 0.5, 11, false, draw_black, s);
        }
    }
    double bottom = y0 + TOP + columns * CELL_H;
    for (int r = 0; r < rows; r++)
        draw_text(d, LEFT + (r + 0.5) * CELL_W, bottom + 15, 0.5, 11, false, draw_black, pivot_row(t, r));
    draw_text(d, LEFT + rows * CELL_W / 2.0, bottom + 34, 0.5, 11, false, draw_grey,
              grid ? "length (tokens)" : t->p.row);
    draw_text(d, 16, y0 + TOP + columns * CELL_H / 2.0, 0.5, 11, true, draw_grey, grid ? "depth (%)" : t->p.column);
    double x = LEFT + rows * CELL_W + 18, h = columns * CELL_H - 1;
    for (int i = 0; i < 50; i++)
        draw_rect(d, x, y0 + TOP + h * i / 50, 12, h / 50 + 0.5, draw_score_color(1 - i / 49.0));
    draw_text(d, x + 17, y0 + TOP + 9, 0, 10, false, draw_grey, "100 %");
    draw_text(d, x + 17, y0 + TOP + h, 0, 10, false, draw_grey, "0 %");
}

/* A value that is a number in each case, or one for each layer and head. */
static int plot_grid(const json_t *cases, const char *value, const char *path)
{
    pivot p = {{"config", "haystack"}, "length", "depth", value, "", 1, 0, false};
    if (json_is_array(json_object_get(json_array_get(cases, 0), value))) {
        p.row = "layer";
        p.column = "head";
    }
    pivot_table *tables;
    int n = pivot_tables(cases, &p, &tables), rc;
    double width = 0, height = 0;
    for (int i = 0; i < n; i++) {
        double w = LEFT + RIGHT + BAR + CELL_W * pivot_rows(&tables[i]);
        double title = LEFT + 8.0 * (double)strlen(pivot_title(&tables[i]));
        width = w > width ? w : width;
        width = title > width ? title : width;
        height += TOP + BOTTOM + CELL_H * pivot_columns(&tables[i]);
    }
    drawing *d = NULL;
    rc = n ? draw_open(path, width, height, &d)
           : cli_fail(EXIT_FAILED, "there are no cases with %s, %s and %s", p.row, p.column, value);
    double y = 0;
    for (int i = 0; i < n && !rc; i++) {
        heat_map(d, &tables[i], pivot_title(&tables[i]), y);
        y += TOP + BOTTOM + CELL_H * pivot_columns(&tables[i]);
    }
    pivot_tables_free(tables, n);
    int closed = draw_close(d);
    return rc ? rc : closed;
}

/* ---------------------------------------------------------------------------------------------- curve -------- */

/* The lines of a table: its columns, by the middle of their positions. `points` has room for rows x columns. */
static void read_lines(const pivot_table *t, chart_line *lines, chart_point *points)
{
    int rows = pivot_rows(t);
    double first = strtod(pivot_row(t, 0), NULL), last = strtod(pivot_row(t, rows - 1), NULL);
    double half = rows > 1 ? (last - first) / (rows - 1) / 2 : 0.5;
    for (int c = 0; c < pivot_columns(t); c++) {
        lines[c] = (chart_line){pivot_column(t, c), points, 0};
        for (int r = 0; r < rows; r++) {
            long count;
            double v = pivot_mean(t, r, c, &count);
            if (!count || !isfinite(v))
                continue;
            *points++ = (chart_point){strtod(pivot_row(t, r), NULL) + half, v, false};
            lines[c].n++;
        }
    }
}

/* Logarithmic where the values differ tenfold. */
static chart_scale scale_of(const chart_line *lines, int n)
{
    double least = INFINITY, most = 0;
    for (const chart_line *l = lines; l < lines + n; l++)
        for (int i = 0; i < l->n; i++) {
            least = fmin(least, l->points[i].y);
            most = fmax(most, l->points[i].y);
        }
    return least > 0 && most > 10 * least ? CHART_LOG10 : CHART_LINEAR;
}

static int draw_curves(const pivot_table *tables, int n, const char *name, const char *path)
{
    size_t n_lines = 1, n_points = 1;
    for (int i = 0; i < n; i++) {
        n_lines += (size_t)pivot_columns(&tables[i]);
        n_points += (size_t)pivot_rows(&tables[i]) * (size_t)pivot_columns(&tables[i]);
    }
    chart_panel *panels = calloc((size_t)n, sizeof *panels);
    chart_line *lines = calloc(n_lines, sizeof *lines), *line = lines;
    chart_point *points = calloc(n_points, sizeof *points), *point = points;
    int rc = panels && lines && points ? EXIT_DONE : cli_fail(EXIT_FAILED, "out of memory");
    for (int i = 0; i < n && !rc; i++) {
        const pivot_table *t = &tables[i];
        read_lines(t, line, point);
        panels[i] = (chart_panel){pivot_title(t),
                                  "position (tokens)",
                                  CHART_LINEAR,
                                  scale_of(line, pivot_columns(t)),
                                  line,
                                  pivot_columns(t),
                                  0,
                                  0};
        line += pivot_columns(t);
        point += (size_t)pivot_rows(t) * (size_t)pivot_columns(t);
    }
    if (!rc)
        rc = chart_write(&(chart){name, "", panels, n}, path);
    free(panels);
    free(lines);
    free(points);
    return rc;
}

static int plot_curves(const json_t *cases, const char *value, const char *path)
{
    bool ppl = !strcmp(value, "ppl");
    const pivot p = {{"haystack"}, "position", "config", ppl ? "nll" : value, "", 1, 0, ppl};
    pivot_table *tables;
    int n = pivot_tables(cases, &p, &tables);
    int rc = n ? draw_curves(tables, n, ppl ? "perplexity" : value, path)
               : cli_fail(EXIT_FAILED, "there are no cases with a position and %s", value);
    pivot_tables_free(tables, n);
    return rc;
}

/* ---------------------------------------------------------------------------------------------- the task ----- */

/* All cases of the files, as one list. */
static int read_cases(const options *opt, json_t **out)
{
    int rc = EXIT_DONE;
    *out = json_array();
    for (int i = 0; i < opt->n_files && !rc; i++) {
        json_t *settings, *cases;
        rc = results_read(opt->files[i], &settings, &cases, NULL);
        if (rc)
            break;
        json_array_extend(*out, cases);
        json_decref(settings);
        json_decref(cases);
    }
    if (!rc && !json_array_size(*out))
        rc = cli_fail(EXIT_FAILED, "there are no cases in the files");
    return rc;
}

/* What `run --trace` writes has no settings at its head. */
static bool is_trace(const char *path)
{
    char line[4096];
    FILE *f = strcmp(path, "-") ? fopen(path, "rb") : NULL; /* standard input is read once, by whoever reads it all */
    size_t n = f ? fread(line, 1, sizeof line - 1, f) : 0;
    line[n] = 0;
    if (f)
        fclose(f);
    return !strncmp(line, "{\"token\":", 9);
}

int eval_plot(const options *opt)
{
    json_t *cases = NULL;
    const eval_options *v = &opt->eval;
    if (!opt->n_files)
        return cli_fail(EXIT_USAGE, "eval plot needs a file of results: reattn eval plot FILE.jsonl -o FILE.svg");
    if (!opt->out)
        return cli_fail(EXIT_USAGE, "eval plot needs the picture's name: -o FILE.svg or -o FILE.png");
    if (is_trace(opt->files[0]))
        return plot_traces(opt->files, opt->n_files, opt->out);
    int rc = read_cases(opt, &cases);
    const json_t *first = json_array_get(cases, 0);
    if (!rc && json_object_get(first, "test"))
        rc = compare_plot(cases, opt->out);
    else if (!rc && v->value && !strcmp(v->value, "recalled"))
        rc = plot_recalled(cases, opt->out);
    else if (!rc && json_object_get(first, "position"))
        rc = plot_curves(cases, v->value ? v->value : "ppl", opt->out);
    else if (!rc && json_object_get(first, "depth"))
        rc = plot_grid(cases, v->value ? v->value : "score", opt->out);
    else if (!rc)
        rc = cli_fail(EXIT_USAGE, "%s has neither depths nor positions: its table is all there is to see",
                      opt->files[0]);
    json_decref(cases);
    return rc;
}
