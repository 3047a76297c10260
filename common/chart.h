/* chart.h - lines over axes, as an SVG or PNG file. */
#ifndef CHART_H
#define CHART_H

#include <stdbool.h>

typedef struct chart_point {
    double x, y;
    bool hollow; /* drawn as a ring: a value of another kind */
} chart_point;

typedef struct chart_line {
    const char *name;          /* lines of one name look alike in all panels; one legend explains them */
    const chart_point *points; /* [n] by ascending x */
    int n;
} chart_line;

/* Values on a logarithmic axis are positive, but for an x of 0, which has a place of its own before the rest. */
typedef enum chart_scale { CHART_LINEAR, CHART_LOG2, CHART_LOG10 } chart_scale;

/* One pair of axes. */
typedef struct chart_panel {
    const char *title, *x_label;
    chart_scale x_scale, y_scale;
    const chart_line *lines; /* [n_lines] */
    int n_lines;
    double y_from, y_to; /* values that the y axis reaches whatever there is to draw; equal: none */
} chart_panel;

typedef struct chart {
    const char *title, *note;  /* above and below; note may be "" */
    const chart_panel *panels; /* [n_panels] side by side */
    int n_panels;
} chart;

/* The end of the name says which: .svg or .png. */
int chart_write(const chart *chart, const char *path);

#endif
