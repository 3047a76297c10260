/* plot.c - reattn eval plot: pictures of results. A grid of lengths and depths becomes a heat map for each
 * configuration and text, perplexity a curve by position with a line for each configuration. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "draw.h"
#include "eval.h"
#include "pivot.h"

/* ------------------------------------------------------------------------------------------- heat map -------- */

enum { CELL_W = 54, CELL_H = 24, LEFT = 64, TOP = 56, RIGHT = 24, BOTTOM = 48, BAR = 90 };

static void heat_map(drawing *d, const pivot_table *t, const char *title, double y0)
{
    char s[64];
    int rows = pivot_rows(t), columns = pivot_columns(t); /* rows are lengths, and go along x; columns are depths */
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
    draw_text(d, LEFT + rows * CELL_W / 2.0, bottom + 34, 0.5, 11, false, draw_grey, "length (tokens)");
    draw_text(d, 16, y0 + TOP + columns * CELL_H / 2.0, 0.5, 11, true, draw_grey, "depth (%)");
    double x = LEFT + rows * CELL_W + 18, h = columns * CELL_H - 1;
    for (int i = 0; i < 50; i++)
        draw_rect(d, x, y0 + TOP + h * i / 50, 12, h / 50 + 0.5, draw_score_color(1 - i / 49.0));
    draw_text(d, x + 17, y0 + TOP + 9, 0, 10, false, draw_grey, "100 %");
    draw_text(d, x + 17, y0 + TOP + h, 0, 10, false, draw_grey, "0 %");
}

static int plot_grid(const json_t *cases, const char *value, const char *path)
{
    const pivot p = {{"config", "haystack"}, "length", "depth", value, "", 1, 0, false};
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
           : cli_fail(EXIT_FAILED, "there are no cases with length, depth and %s", value);
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

enum { PLOT_W = 560, PLOT_H = 260, AXIS = 64 };

typedef struct range {
    double least, most;
    bool log;
} range;

static double place(const range *r, double v)
{
    double a = r->least, b = r->most;
    if (r->log)
        a = log(a), b = log(b), v = log(v);
    return b > a ? (v - a) / (b - a) : 0.5;
}

/* 1, 2 or 5 times a power of ten, about a fifth of the range. */
static double step_of(double span)
{
    double power = pow(10, floor(log10(span / 5))), m = span / 5 / power;
    return power * (m < 1.5 ? 1 : m < 3.5 ? 2 : m < 7.5 ? 5 : 10);
}

static void mark_y(drawing *d, const range *r, double y0, double v)
{
    char s[32];
    double y = y0 + PLOT_H * (1 - place(r, v));
    const double line[2][2] = {{AXIS, y}, {AXIS + PLOT_W, y}};
    draw_line(d, line, 2, 0.5, draw_light);
    snprintf(s, sizeof s, "%.4g", v);
    draw_text(d, AXIS - 6, y + 4, 1, 10, false, draw_black, s);
}

static void axes(drawing *d, const range *x, const range *y, double y0, const char *name)
{
    char s[32];
    if (y->log) {
        for (double p = pow(10, floor(log10(y->least))); p <= y->most; p *= 10)
            for (int k = 0; k < 3; k++)
                if (p * (k == 0 ? 1 : k == 1 ? 2 : 5) >= y->least && p * (k == 0 ? 1 : k == 1 ? 2 : 5) <= y->most)
                    mark_y(d, y, y0, p * (k == 0 ? 1 : k == 1 ? 2 : 5));
    } else {
        double step = step_of(y->most - y->least);
        for (double v = ceil(y->least / step) * step; v <= y->most + step * 1e-9; v += step)
            mark_y(d, y, y0, v);
    }
    double step = step_of(x->most - x->least);
    for (double v = ceil(x->least / step) * step; v <= x->most; v += step) {
        snprintf(s, sizeof s, "%.0f", v);
        draw_text(d, AXIS + PLOT_W * place(x, v), y0 + PLOT_H + 15, 0.5, 10, false, draw_black, s);
    }
    const double frame[3][2] = {{AXIS, y0}, {AXIS, y0 + PLOT_H}, {AXIS + PLOT_W, y0 + PLOT_H}};
    draw_line(d, frame, 3, 1, draw_grey);
    draw_text(d, AXIS + PLOT_W / 2.0, y0 + PLOT_H + 33, 0.5, 11, false, draw_grey, "position (tokens)");
    draw_text(d, 16, y0 + PLOT_H / 2.0, 0.5, 11, true, draw_grey, name);
}

static range values_of(const pivot_table *t)
{
    range r = {INFINITY, 0, false};
    for (int i = 0; i < pivot_rows(t); i++)
        for (int c = 0; c < pivot_columns(t); c++) {
            long n;
            double v = pivot_mean(t, i, c, &n);
            if (!n || !isfinite(v))
                continue;
            r.least = v < r.least ? v : r.least;
            r.most = v > r.most ? v : r.most;
        }
    r.log = r.least > 0 && r.most > 10 * r.least;
    double margin = 0.08 * (r.most - r.least) + 1e-9;
    r.least = r.log ? r.least / 1.2 : r.least - margin > 0 ? r.least - margin : 0;
    r.most = r.log ? r.most * 1.2 : r.most + margin;
    return r;
}

static int curves(drawing *d, const pivot_table *t, double y0, const char *name)
{
    int rows = pivot_rows(t), columns = pivot_columns(t);
    double(*points)[2] = malloc((size_t)(rows + 1) * sizeof *points);
    if (!points)
        return cli_fail(EXIT_FAILED, "out of memory");
    double first = strtod(pivot_row(t, 0), NULL), last = strtod(pivot_row(t, rows - 1), NULL);
    double half = rows > 1 ? (last - first) / (rows - 1) / 2 : 0.5;
    range x = {first, last + 2 * half, false}, y = values_of(t);
    char title[512];
    snprintf(title, sizeof title, "%s%s", pivot_title(t), y.log ? " (logarithmic)" : "");
    draw_text(d, AXIS, y0 - 14, 0, 13, false, draw_black, title);
    axes(d, &x, &y, y0, name);
    double legend = y0 + 14;
    for (int c = 0; c < columns; c++) {
        int n = 0;
        long count;
        for (int r = 0; r < rows; r++) {
            double v = pivot_mean(t, r, c, &count);
            if (!count || !isfinite(v))
                continue;
            points[n][0] = AXIS + PLOT_W * place(&x, strtod(pivot_row(t, r), NULL) + half);
            points[n++][1] = y0 + PLOT_H * (1 - place(&y, v));
        }
        if (n == 1) { /* a point would not be seen */
            points[n][0] = points[0][0] + 4;
            points[n++][1] = points[0][1];
        }
        draw_line(d, (const double(*)[2])points, n, 1.8, draw_line_color(c));
        draw_rect(d, AXIS + PLOT_W + 12, legend - 6, 16, 3, draw_line_color(c));
        draw_text(d, AXIS + PLOT_W + 34, legend, 0, 11, false, draw_black, pivot_column(t, c));
        legend += 18;
    }
    free(points);
    return EXIT_DONE;
}

static int plot_curves(const json_t *cases, const char *value, const char *path)
{
    bool ppl = !strcmp(value, "ppl");
    const pivot p = {{"haystack"}, "position", "config", ppl ? "nll" : value, "", 1, 0, ppl};
    pivot_table *tables;
    int n = pivot_tables(cases, &p, &tables);
    drawing *d = NULL;
    int rc = n ? draw_open(path, AXIS + PLOT_W + 200, n * (PLOT_H + 90.0), &d)
               : cli_fail(EXIT_FAILED, "there are no cases with a position and %s", value);
    for (int i = 0; i < n && !rc; i++)
        rc = curves(d, &tables[i], i * (PLOT_H + 90.0) + 40, ppl ? "perplexity" : value);
    pivot_tables_free(tables, n);
    int closed = draw_close(d);
    return rc ? rc : closed;
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

int eval_plot(const options *opt)
{
    json_t *cases = NULL;
    const eval_options *v = &opt->eval;
    if (!opt->n_files)
        return cli_fail(EXIT_USAGE, "eval plot needs a file of results: reattn eval plot FILE.jsonl -o FILE.svg");
    if (!v->out)
        return cli_fail(EXIT_USAGE, "eval plot needs the picture's name: -o FILE.svg or -o FILE.png");
    int rc = read_cases(opt, &cases);
    const json_t *first = json_array_get(cases, 0);
    if (!rc && json_object_get(first, "position"))
        rc = plot_curves(cases, v->value ? v->value : "ppl", v->out);
    else if (!rc && json_object_get(first, "depth"))
        rc = plot_grid(cases, v->value ? v->value : "score", v->out);
    else if (!rc)
        rc = cli_fail(EXIT_USAGE, "%s has neither depths nor positions: its table is all there is to see",
                      opt->files[0]);
    json_decref(cases);
    return rc;
}
