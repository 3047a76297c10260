/* draw.c - see draw.h. */
#include "draw.h"

#include <cairo-svg.h>
#include <cairo.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

enum { PNG_SCALE = 2 };

struct drawing {
    const char *path;
    bool png;
    cairo_surface_t *surface;
    cairo_t *cr;
};

const color draw_black = {0.1, 0.1, 0.1}, draw_grey = {0.45, 0.45, 0.45}, draw_light = {0.88, 0.88, 0.88};

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

int draw_open(const char *path, double width, double height, drawing **out)
{
    drawing *d = calloc(1, sizeof *d);
    if (!d)
        return cli_fail(EXIT_FAILED, "out of memory");
    d->path = path;
    d->png = ends_with(path, ".png");
    if (!d->png && !ends_with(path, ".svg")) {
        free(d);
        return cli_fail(EXIT_USAGE, "%s: a picture's name ends with .svg or .png", path);
    }
    d->surface =
        d->png ? cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)(PNG_SCALE * width), (int)(PNG_SCALE * height))
               : cairo_svg_surface_create(path, width, height);
    d->cr = cairo_create(d->surface);
    if (d->png)
        cairo_scale(d->cr, PNG_SCALE, PNG_SCALE);
    cairo_select_font_face(d->cr, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
    draw_rect(d, 0, 0, width, height, (color){1, 1, 1});
    *out = d;
    return EXIT_DONE;
}

int draw_close(drawing *d)
{
    if (!d)
        return EXIT_DONE;
    cairo_status_t status = cairo_status(d->cr);
    cairo_destroy(d->cr);
    if (status == CAIRO_STATUS_SUCCESS && d->png)
        status = cairo_surface_write_to_png(d->surface, d->path);
    cairo_surface_finish(d->surface);
    if (status == CAIRO_STATUS_SUCCESS)
        status = cairo_surface_status(d->surface);
    cairo_surface_destroy(d->surface);
    int rc = status == CAIRO_STATUS_SUCCESS ? EXIT_DONE
                                            : cli_fail(EXIT_FAILED, "%s: %s", d->path, cairo_status_to_string(status));
    free(d);
    return rc;
}

static color between(const color *stops, int n, double v)
{
    v = v < 0 ? 0 : v > 1 ? 1 : v;
    int i = (int)(v * (n - 1));
    i = i > n - 2 ? n - 2 : i;
    double t = v * (n - 1) - i;
    const color *a = &stops[i], *b = &stops[i + 1];
    return (color){a->r + t * (b->r - a->r), a->g + t * (b->g - a->g), a->b + t * (b->b - a->b)};
}

color draw_score_color(double v)
{
    static const color stops[] = {
        {0.84, 0.19, 0.15}, {0.96, 0.55, 0.30}, {0.99, 0.87, 0.55}, {0.60, 0.83, 0.45}, {0.15, 0.60, 0.31}};
    return between(stops, sizeof stops / sizeof *stops, v);
}

color draw_density_color(double v)
{
    static const color stops[] = {
        {1, 1, 1}, {0.78, 0.86, 0.94}, {0.42, 0.68, 0.84}, {0.13, 0.44, 0.71}, {0.03, 0.19, 0.42}};
    return between(stops, sizeof stops / sizeof *stops, v);
}

enum { LINE_COLORS = 8 };

color draw_line_color(int i)
{
    /* They also differ for those who see few colours (Okabe and Ito). */
    static const color colors[LINE_COLORS] = {{0.84, 0.37, 0.00}, {0.00, 0.45, 0.70}, {0.00, 0.62, 0.45},
                                              {0.80, 0.47, 0.65}, {0.34, 0.71, 0.91}, {0.90, 0.62, 0.00},
                                              {0.35, 0.35, 0.35}, {0.60, 0.55, 0.10}};
    return colors[i % LINE_COLORS];
}

static void set_color(drawing *d, color c)
{
    cairo_set_source_rgb(d->cr, c.r, c.g, c.b);
}

void draw_rect(drawing *d, double x, double y, double w, double h, color fill)
{
    set_color(d, fill);
    cairo_rectangle(d->cr, x, y, w, h);
    cairo_fill(d->cr);
}

void draw_line(drawing *d, const double (*points)[2], int n, double width, bool dashed, color c)
{
    static const double dash[] = {3, 4};
    set_color(d, c);
    cairo_set_line_width(d->cr, width);
    cairo_set_line_join(d->cr, CAIRO_LINE_JOIN_ROUND);
    cairo_set_dash(d->cr, dash, dashed ? 2 : 0, 0);
    for (int i = 0; i < n; i++)
        (i ? cairo_line_to : cairo_move_to)(d->cr, points[i][0], points[i][1]);
    cairo_stroke(d->cr);
}

void draw_mark(drawing *d, double x, double y, double size, int i, bool hollow)
{
    static const int corners[] = {0, 4, 3, 4};
    static const double turn[] = {0, M_PI / 4, -M_PI / 2, 0};
    const int shape = (i + i / LINE_COLORS) % 4; /* the same colour comes back with another mark */
    cairo_new_path(d->cr);
    if (!corners[shape])
        cairo_arc(d->cr, x, y, size, 0, 2 * M_PI);
    for (int k = 0; k < corners[shape]; k++)
        cairo_line_to(d->cr, x + 1.3 * size * cos(turn[shape] + 2 * M_PI * k / corners[shape]),
                      y + 1.3 * size * sin(turn[shape] + 2 * M_PI * k / corners[shape]));
    cairo_close_path(d->cr);
    set_color(d, hollow ? (color){1, 1, 1} : draw_line_color(i));
    cairo_fill_preserve(d->cr);
    set_color(d, draw_line_color(i));
    cairo_set_line_width(d->cr, 1.8);
    cairo_set_dash(d->cr, NULL, 0, 0);
    cairo_stroke(d->cr);
}

double draw_text_width(drawing *d, double size, const char *text)
{
    cairo_text_extents_t e;
    cairo_set_font_size(d->cr, size);
    cairo_text_extents(d->cr, text, &e);
    return e.x_advance;
}

void draw_text(drawing *d, double x, double y, double align, double size, bool turned, color c, const char *text)
{
    double width = draw_text_width(d, size, text);
    cairo_save(d->cr);
    set_color(d, c);
    cairo_translate(d->cr, x, y);
    if (turned)
        cairo_rotate(d->cr, -M_PI / 2);
    cairo_move_to(d->cr, -align * width, 0);
    cairo_show_text(d->cr, text);
    cairo_restore(d->cr);
}
