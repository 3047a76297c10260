/* strip.h - a strip over a text: which parts of it were recalled, a row each for several steps or answers, and passages
 * in their own words below. */
#ifndef STRIP_H
#define STRIP_H

#include <jansson.h>
#include <stdint.h>

#include "draw.h"

enum { STRIP_BINS = 600 };

typedef struct strip_row {
    char label[48];
    float bins[STRIP_BINS];     /* largest share of layers in each part of the text */
    int64_t marked, marked_end; /* tokens with a frame around them; none if equal */
} strip_row;

typedef struct strip {
    char title[512], note[256];
    int64_t n;           /* tokens of the text */
    int64_t keep, local; /* first and last tokens that are in scope by rule; both 0: none */
    strip_row *rows;     /* [n_rows] */
    int n_rows;
    bool tall;      /* the first row is the sum of the others */
    json_t *quotes; /* array of strings, or NULL */
} strip;

/* Raises the bins of tokens [first, first + count) to a share. */
void strip_add(const strip *s, strip_row *row, int64_t first, int64_t count, double share);
/* A label of whole characters, without line breaks. */
void strip_label(strip_row *row, const char *bytes, size_t n);
/* {"first", "share", "text", ...} as a line of quotes, with `before` in front. */
json_t *strip_quote(const json_t *passage, const char *before);
void strip_free(strip *s);

double strip_width(void);
double strip_height(const strip *s);
void strip_draw(drawing *d, const strip *s, double y0);
/* A picture of n of them, one below the other. */
int strip_write(const strip *list, int n, const char *path);

#endif
