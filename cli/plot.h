/* plot.h - lines over logarithmic axes, as an SVG or PNG file. */
#ifndef PLOT_H
#define PLOT_H

#include <stdbool.h>

typedef struct plot_point {
    double x, y; /* y > 0; x >= 0: 0 has a place of its own, left of the axis */
    bool hollow; /* drawn as a ring: a value of another kind */
} plot_point;

typedef struct plot_line {
    const char *name;
    const plot_point *points; /* [n] by ascending x */
    int n;
} plot_line;

/* One pair of axes. The lines of all panels have the same names in the same order: one legend explains them. */
typedef struct plot_panel {
    const char *title, *x_label;
    const plot_line *lines; /* [n_lines] */
    int n_lines;
} plot_panel;

typedef struct plot {
    const char *title, *note; /* above and below; note may be "" */
    const plot_panel *panels; /* [n_panels] side by side */
    int n_panels;
} plot;

/* The end of the name says which: .svg or .png. */
int plot_write(const plot *plot, const char *path);

#endif
