/* chart.c - see chart.h. */
#include "chart.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "draw.h"

enum { WIDE = 400, HIGH = 320, LEFT = 64, TOP = 70, BELOW = 76, LEGEND = 190, MARK = 4, SIZE = 12 };

/* An axis: where it begins and ends in the picture, and the range of the values, or of their logarithms. */
typedef struct axis {
    chart_scale scale;
    double begin, end, lo, hi;
    double zero; /* logarithm where 0 is drawn; NAN if there is none to draw */
} axis;

typedef struct axes {
    axis x, y;
} axes;

typedef struct legend {
    const char **names; /* [n] of the lines, each once */
    int n;
} legend;

/* The number of a name, which is taken in if it is new. */
static int legend_index(legend *g, const char *name)
{
    int i = 0;
    while (i < g->n && strcmp(g->names[i], name))
        i++;
    if (i == g->n)
        g->names[g->n++] = name;
    return i;
}

/* -------------------------------------------------------------------------------------------- axes ----------- */

static double scaled(const axis *a, double v)
{
    if (a->scale == CHART_LINEAR)
        return v;
    return v == 0 ? a->zero : a->scale == CHART_LOG2 ? log2(v) : log10(v);
}

/* Where a value, or with a logarithmic scale its logarithm, is in the picture. */
static double at_scaled(const axis *a, double s)
{
    return a->begin + (a->end - a->begin) * (s - a->lo) / (a->hi - a->lo);
}

static double at(const axis *a, double v)
{
    return at_scaled(a, scaled(a, v));
}

static void reach(axis *a, double v)
{
    if (v == 0 && a->scale != CHART_LINEAR) {
        a->zero = 0; /* its place is known when the others are */
        return;
    }
    a->lo = fmin(a->lo, scaled(a, v));
    a->hi = fmax(a->hi, scaled(a, v));
}

/* `margin`: part of the range that is left free at both ends. */
static void settle(axis *a, double margin)
{
    bool positive = a->lo >= 0;
    if (a->lo > a->hi)
        a->lo = a->hi = 0;
    if (!isnan(a->zero))
        a->zero = a->lo -= 1;
    margin = margin * (a->hi - a->lo) + (a->scale == CHART_LINEAR ? 1e-3 * fabs(a->hi) + 1e-9 : 0.05);
    a->lo -= margin;
    a->hi += margin;
    if (a->scale == CHART_LINEAR && positive)
        a->lo = fmax(a->lo, 0);
}

static axes axes_of(const chart_panel *panel, double left)
{
    axes a = {{panel->x_scale, left, left + WIDE, INFINITY, -INFINITY, NAN},
              {panel->y_scale, TOP + HIGH, TOP, INFINITY, -INFINITY, NAN}};
    for (const chart_line *l = panel->lines; l < panel->lines + panel->n_lines; l++)
        for (const chart_point *p = l->points; p < l->points + l->n; p++) {
            reach(&a.x, p->x);
            reach(&a.y, p->y);
        }
    if (panel->y_from < panel->y_to) {
        reach(&a.y, panel->y_from);
        reach(&a.y, panel->y_to);
    }
    settle(&a.x, 0.04);
    settle(&a.y, 0.06);
    return a;
}

static void tick(drawing *d, const axes *all, const axis *a, double s, const char *name)
{
    const double place = at_scaled(a, s);
    if (s < a->lo || s > a->hi)
        return;
    const bool x = a == &all->x;
    const double line[2][2] = {{x ? place : all->x.begin, x ? all->y.begin : place},
                               {x ? place : all->x.end, x ? all->y.end : place}};
    draw_line(d, line, 2, 1, false, draw_light);
    if (x)
        draw_text(d, place, all->y.begin + SIZE + 4, 0.5, SIZE, false, draw_black, name);
    else
        draw_text(d, all->x.begin - 6, place + SIZE / 3, 1, SIZE, false, draw_black, name);
}

/* 1, 2 or 5 times a power of ten, about a fifth of the range. */
static void ticks_linear(drawing *d, const axes *all, const axis *a)
{
    const double fifth = (a->hi - a->lo) / 5, power = pow(10, floor(log10(fifth))), m = fifth / power;
    const double step = power * (m < 1.5 ? 1 : m < 3.5 ? 2 : m < 7.5 ? 5 : 10);
    char name[32];
    for (double i = ceil(a->lo / step); i * step <= a->hi; i++) {
        snprintf(name, sizeof name, "%.6g", i * step);
        tick(d, all, a, i * step, name);
    }
}

static void ticks_log2(drawing *d, const axes *all, const axis *a)
{
    const double span = a->hi - a->lo, step = span > 20 ? 4 : span > 9 ? 2 : 1;
    char name[32];
    for (double log = floor(a->hi); log >= (isnan(a->zero) ? a->lo : a->zero + 0.9); log -= step) {
        snprintf(name, sizeof name, log >= 10 ? "%gK" : "%g", exp2(log >= 10 ? log - 10 : log));
        tick(d, all, a, log, name);
    }
    if (!isnan(a->zero))
        tick(d, all, a, a->zero, "0");
}

static void ticks_log10(drawing *d, const axes *all, const axis *a)
{
    char name[32];
    for (double ten = floor(a->lo); ten <= ceil(a->hi); ten++)
        for (int i = 1; i <= 9; i++) {
            bool named = i == 1 || (a->hi - a->lo < 2.5 && (i == 2 || i == 5));
            snprintf(name, sizeof name, "%g", i * pow(10, ten));
            tick(d, all, a, log10(i) + ten, named ? name : "");
        }
}

static void draw_axes(drawing *d, const chart_panel *panel, const axes *a)
{
    static void (*const ticks[])(drawing *, const axes *, const axis *) = {
        [CHART_LINEAR] = ticks_linear, [CHART_LOG2] = ticks_log2, [CHART_LOG10] = ticks_log10};
    const double left = a->x.begin, right = a->x.end, top = a->y.end, bottom = a->y.begin;
    const double frame[5][2] = {{left, top}, {right, top}, {right, bottom}, {left, bottom}, {left, top}};
    ticks[panel->y_scale](d, a, &a->y);
    ticks[panel->x_scale](d, a, &a->x);
    draw_line(d, frame, 5, 1, false, draw_black);
    draw_text(d, left + WIDE / 2, top - 8, 0.5, SIZE, false, draw_black, panel->title);
    draw_text(d, left + WIDE / 2, bottom + 2 * SIZE + 12, 0.5, SIZE, false, draw_black, panel->x_label);
}

/* -------------------------------------------------------------------------------------------- lines ---------- */

static int draw_curve(drawing *d, const chart_line *l, const axes *a, int look)
{
    double(*places)[2] = malloc((size_t)(l->n + 1) * sizeof *places);
    if (!places)
        return cli_fail(EXIT_FAILED, "out of memory");
    for (int i = 0; i < l->n; i++) {
        places[i][0] = at(&a->x, l->points[i].x);
        places[i][1] = at(&a->y, l->points[i].y);
    }
    int first = l->n > 1 && !isnan(a->x.zero) && l->points[0].x == 0; /* from 0 there is no way on such an axis */
    if (first)
        draw_line(d, (const double(*)[2])places, 2, 1.8, true, draw_line_color(look));
    if (l->n - first > 1)
        draw_line(d, (const double(*)[2])places + first, l->n - first, 1.8, false, draw_line_color(look));
    for (int i = 0; i < l->n && l->n * 3 * MARK < WIDE; i++)
        draw_mark(d, places[i][0], places[i][1], MARK, look, l->points[i].hollow);
    free(places);
    return EXIT_DONE;
}

static int draw_chart(drawing *d, const chart *chart, legend *g, double width, double height)
{
    double left = LEFT;
    int rc = EXIT_DONE;
    for (int i = 0; i < chart->n_panels; i++, left += WIDE + LEFT) {
        const chart_panel *panel = &chart->panels[i];
        axes a = axes_of(panel, left);
        draw_axes(d, panel, &a);
        for (int l = 0; l < panel->n_lines && !rc; l++)
            rc = draw_curve(d, &panel->lines[l], &a, legend_index(g, panel->lines[l].name));
    }
    left += 24 - LEFT;
    for (int i = 0; i < g->n; i++) {
        double y = TOP + 12 + 1.6 * SIZE * i;
        draw_mark(d, left, y, MARK, i, false);
        draw_text(d, left + 12, y + SIZE / 3, 0, SIZE, false, draw_black, g->names[i]);
    }
    draw_text(d, LEFT, height - 14, 0, SIZE, false, draw_black, chart->note);
    draw_text(d, width / 2, 26, 0.5, 1.25 * SIZE, false, draw_black, chart->title);
    return rc;
}

int chart_write(const chart *chart, const char *path)
{
    const double height = TOP + HIGH + BELOW;
    int n_lines = 1;
    double names = LEGEND;
    drawing *d = NULL;
    for (int i = 0; i < chart->n_panels; i++) {
        n_lines += chart->panels[i].n_lines;
        for (int l = 0; l < chart->panels[i].n_lines; l++) /* about the width of a name */
            names = fmax(names, 48 + 0.6 * SIZE * (double)strlen(chart->panels[i].lines[l].name));
    }
    const double width = chart->n_panels * (WIDE + LEFT) + names;
    legend g = {calloc((size_t)n_lines, sizeof *g.names), 0};
    int rc = g.names ? draw_open(path, width, height, &d) : cli_fail(EXIT_FAILED, "out of memory");
    if (!rc)
        rc = draw_chart(d, chart, &g, width, height);
    int closed = draw_close(d);
    free(g.names);
    return rc ? rc : closed;
}
