/* draw.h - pictures: SVG or PNG by the file's name, drawn with cairo. Units are points (PNG: two pixels each). */
#ifndef DRAW_H
#define DRAW_H

#include <stdbool.h>

typedef struct drawing drawing;

typedef struct color {
    double r, g, b;
} color;

extern const color draw_black, draw_grey, draw_light;

int draw_open(const char *path, double width, double height, drawing **out);
/* Writes the file; accepts NULL. */
int draw_close(drawing *d);

/* 0 .. 1 from dark red over yellow to green: bad to good. */
color draw_score_color(double v);
/* 0 .. 1 from white to dark blue: little to much. */
color draw_density_color(double v);
/* Colours that differ, for line i; the mark of its points is a disc, a square, a triangle or a diamond. */
color draw_line_color(int i);

void draw_rect(drawing *d, double x, double y, double w, double h, color fill);
void draw_line(drawing *d, const double (*points)[2], int n, double width, bool dashed, color c);
void draw_mark(drawing *d, double x, double y, double size, int i, bool hollow);
/* align: 0 begins at x, 0.5 is centred there, 1 ends there; y is the base line. `turned` reads upwards. */
void draw_text(drawing *d, double x, double y, double align, double size, bool turned, color c, const char *text);
double draw_text_width(drawing *d, double size, const char *text);

#endif
