/* plot.c - see plot.h. */
#include "plot.h"

#include <cairo-svg.h>
#include <cairo.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"

enum { WIDE = 400, HIGH = 320, LEFT = 64, TOP = 70, BELOW = 76, LEGEND = 190, MARK = 4 };

static const double SIZE = 12;

/* Colours that also differ for those who see few of them (Okabe and Ito). */
static const double colours[][3] = {{0.84, 0.37, 0.00}, {0.00, 0.45, 0.70}, {0.00, 0.62, 0.45}, {0.80, 0.47, 0.65},
                                    {0.34, 0.71, 0.91}, {0.90, 0.62, 0.00}, {0.35, 0.35, 0.35}, {0.60, 0.55, 0.10}};
enum { N_COLOURS = sizeof colours / sizeof *colours };

/* The axes of a panel: corner of the frame, and the range of both logarithms. */
typedef struct axes {
    double left, top, x_lo, x_hi, y_lo, y_hi;
    double zero; /* logarithm where x = 0 is drawn; NAN if there is no such point */
} axes;

static double log_x(const axes *a, double x)
{
    return x > 0 ? log2(x) : a->zero;
}

static double at_x(const axes *a, double log)
{
    return a->left + WIDE * (log - a->x_lo) / (a->x_hi - a->x_lo);
}

static double at_y(const axes *a, double y)
{
    return a->top + HIGH * (1 - (log10(y) - a->y_lo) / (a->y_hi - a->y_lo));
}

static axes range(const plot_panel *panel, double left)
{
    axes a = {left, TOP, INFINITY, -INFINITY, INFINITY, -INFINITY, NAN};
    bool zero = false;
    for (const plot_line *l = panel->lines; l < panel->lines + panel->n_lines; l++)
        for (const plot_point *p = l->points; p < l->points + l->n; p++) {
            zero |= p->x == 0;
            if (p->x > 0) {
                a.x_lo = fmin(a.x_lo, log2(p->x));
                a.x_hi = fmax(a.x_hi, log2(p->x));
            }
            a.y_lo = fmin(a.y_lo, log10(p->y));
            a.y_hi = fmax(a.y_hi, log10(p->y));
        }
    if (a.x_lo > a.x_hi)
        a.x_lo = a.x_hi = 0;
    if (zero)
        a.zero = a.x_lo -= 1;
    a.x_lo -= 0.3;
    a.x_hi += 0.3;
    if (a.y_lo > a.y_hi)
        a.y_lo = a.y_hi = 0;
    double margin = 0.05 + 0.05 * (a.y_hi - a.y_lo);
    a.y_lo -= margin;
    a.y_hi += margin;
    return a;
}

/* -------------------------------------------------------------------------------------------- pieces --------- */

/* `align`: 0 starts at x, 0.5 is centred on it, 1 ends there. */
static void label(cairo_t *c, double x, double y, double align, const char *text)
{
    cairo_text_extents_t e;
    cairo_text_extents(c, text, &e);
    cairo_move_to(c, x - align * e.x_advance, y);
    cairo_show_text(c, text);
}

static void rule(cairo_t *c, double x0, double y0, double x1, double y1)
{
    cairo_move_to(c, x0, y0);
    cairo_line_to(c, x1, y1);
    cairo_stroke(c);
}

static void grey(cairo_t *c, double shade)
{
    cairo_set_source_rgb(c, shade, shade, shade);
}

static void y_tick(cairo_t *c, const axes *a, double y, bool named)
{
    char text[32];
    if (log10(y) < a->y_lo || log10(y) > a->y_hi)
        return;
    grey(c, 0.88);
    rule(c, a->left, at_y(a, y), a->left + WIDE, at_y(a, y));
    grey(c, 0.2);
    snprintf(text, sizeof text, "%g", y);
    if (named)
        label(c, a->left - 6, at_y(a, y) + SIZE / 3, 1, text);
}

static void x_tick(cairo_t *c, const axes *a, double log)
{
    char text[32];
    double x = exp2(log);
    grey(c, 0.88);
    rule(c, at_x(a, log), a->top, at_x(a, log), a->top + HIGH);
    grey(c, 0.2);
    if (log == a->zero)
        snprintf(text, sizeof text, "0");
    else if (x >= 1024)
        snprintf(text, sizeof text, "%gK", x / 1024);
    else
        snprintf(text, sizeof text, "%g", x);
    label(c, at_x(a, log), a->top + HIGH + SIZE + 4, 0.5, text);
}

static void draw_axes(cairo_t *c, const plot_panel *panel, const axes *a)
{
    const double span = a->x_hi - a->x_lo, step = span > 20 ? 4 : span > 9 ? 2 : 1;
    cairo_set_line_width(c, 1);
    for (double ten = floor(a->y_lo); ten <= ceil(a->y_hi); ten++)
        for (int i = 1; i <= 9; i++)
            y_tick(c, a, i * pow(10, ten), i == 1 || (a->y_hi - a->y_lo < 2.5 && (i == 2 || i == 5)));
    for (double log = floor(a->x_hi); log >= a->x_lo + (isnan(a->zero) ? 0 : 0.9); log -= step)
        x_tick(c, a, log);
    if (!isnan(a->zero))
        x_tick(c, a, a->zero);
    grey(c, 0.2);
    cairo_rectangle(c, a->left, a->top, WIDE, HIGH);
    cairo_stroke(c);
    label(c, a->left + WIDE / 2, a->top - 8, 0.5, panel->title);
    label(c, a->left + WIDE / 2, a->top + HIGH + 2 * SIZE + 12, 0.5, panel->x_label);
}

/* A disc, a square, a triangle or a diamond, by number. */
static void mark(cairo_t *c, double x, double y, int i, bool hollow)
{
    const double *rgb = colours[i % N_COLOURS];
    const int sides[] = {0, 4, 3, 4};
    const double turn[] = {0, M_PI / 4, -M_PI / 2, 0};
    int shape = i % 4;
    cairo_new_path(c);
    if (!sides[shape])
        cairo_arc(c, x, y, MARK, 0, 2 * M_PI);
    for (int k = 0; k < sides[shape]; k++)
        cairo_line_to(c, x + 1.3 * MARK * cos(turn[shape] + 2 * M_PI * k / sides[shape]),
                      y + 1.3 * MARK * sin(turn[shape] + 2 * M_PI * k / sides[shape]));
    cairo_close_path(c);
    cairo_set_source_rgb(c, hollow ? 1 : rgb[0], hollow ? 1 : rgb[1], hollow ? 1 : rgb[2]);
    cairo_fill_preserve(c);
    cairo_set_source_rgb(c, rgb[0], rgb[1], rgb[2]);
    cairo_stroke(c);
}

static void draw_line(cairo_t *c, const plot_line *l, const axes *a, int i)
{
    const double *rgb = colours[i % N_COLOURS];
    cairo_set_line_width(c, 1.8);
    cairo_set_source_rgb(c, rgb[0], rgb[1], rgb[2]);
    for (int p = 1; p < l->n; p++) {
        const plot_point *from = &l->points[p - 1], *to = &l->points[p];
        const double dash[] = {3, 4};
        cairo_set_dash(c, dash, from->x > 0 ? 0 : 2, 0); /* from 0 there is no way on such an axis */
        rule(c, at_x(a, log_x(a, from->x)), at_y(a, from->y), at_x(a, log_x(a, to->x)), at_y(a, to->y));
    }
    cairo_set_dash(c, NULL, 0, 0);
    for (int p = 0; p < l->n; p++)
        mark(c, at_x(a, log_x(a, l->points[p].x)), at_y(a, l->points[p].y), i, l->points[p].hollow);
}

static void draw(cairo_t *c, const plot *plot, double width, double height)
{
    double left = LEFT;
    cairo_set_source_rgb(c, 1, 1, 1);
    cairo_paint(c);
    cairo_select_font_face(c, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(c, SIZE);
    for (int i = 0; i < plot->n_panels; i++, left += WIDE + LEFT) {
        const plot_panel *panel = &plot->panels[i];
        axes a = range(panel, left);
        draw_axes(c, panel, &a);
        for (int l = 0; l < panel->n_lines; l++)
            draw_line(c, &panel->lines[l], &a, l);
    }
    left += 24 - LEFT;
    for (int l = 0; l < plot->panels[0].n_lines; l++) {
        double y = TOP + 12 + 1.6 * SIZE * l;
        mark(c, left, y, l, false);
        grey(c, 0.2);
        label(c, left + 12, y + SIZE / 3, 0, plot->panels[0].lines[l].name);
    }
    grey(c, 0.2);
    label(c, LEFT, height - 14, 0, plot->note);
    cairo_set_font_size(c, 1.25 * SIZE);
    label(c, width / 2, 26, 0.5, plot->title);
}

int plot_write(const plot *plot, const char *path)
{
    const double width = plot->n_panels * (WIDE + LEFT) + LEGEND, height = TOP + HIGH + BELOW;
    const char *end = strrchr(path, '.');
    bool svg = end && !strcmp(end, ".svg"), png = end && !strcmp(end, ".png");
    if (!svg && !png)
        return cli_fail(EXIT_USAGE, "%s: the name must end with .svg or .png", path);
    cairo_surface_t *surface = svg ? cairo_svg_surface_create(path, width, height)
                                   : cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)width, (int)height);
    cairo_t *c = cairo_create(surface);
    draw(c, plot, width, height);
    cairo_status_t status = cairo_status(c);
    cairo_destroy(c);
    if (png && !status)
        status = cairo_surface_write_to_png(surface, path);
    cairo_surface_finish(surface);
    if (!status)
        status = cairo_surface_status(surface);
    cairo_surface_destroy(surface);
    return status ? cli_fail(EXIT_FAILED, "%s: %s", path, cairo_status_to_string(status)) : EXIT_DONE;
}
