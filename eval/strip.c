/* strip.c - see strip.h. */
#include "strip.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "text.h"

enum {
    LABELS = 120,
    ROW = 14,
    TOP = 58,
    SUM = 26,
    GAP = 8,
    MARGIN = 20,
    AXIS = 44,
    LINE = 14,
    SIZE = 10,
    QUOTED = 3,
    WIDE = 112
};

void strip_add(const strip *s, strip_row *row, int64_t first, int64_t count, double share)
{
    for (int64_t t = first; t < first + count && t < s->n; t++) {
        float *bin = &row->bins[t * STRIP_BINS / s->n];
        *bin = share > *bin ? (float)share : *bin;
    }
}

void strip_label(strip_row *row, const char *bytes, size_t n)
{
    text clean = {0}, pending = {0};
    size_t at = 0;
    if (utf8_feed(&clean, &pending, bytes, n) && utf8_feed(&clean, &pending, "", 0))
        for (int size; at < clean.len && (size = utf8_length(clean.data + at, clean.len - at)) > 0 &&
                       at + (size_t)size < sizeof row->label;
             at += (size_t)size)
            memcpy(row->label + at, (unsigned char)clean.data[at] < ' ' ? " " : clean.data + at, (size_t)size);
    row->label[at] = 0;
    text_free(&clean);
    text_free(&pending);
}

json_t *strip_quote(const json_t *passage, const char *before)
{
    return json_sprintf("%s%.0f %% of the layers, token %lld: \"%s\"", before,
                        100 * json_number_value(json_object_get(passage, "share")),
                        (long long)json_integer_value(json_object_get(passage, "first")),
                        json_string_value(json_object_get(passage, "text")));
}

void strip_free(strip *s)
{
    free(s->rows);
    json_decref(s->quotes);
}

/* ------------------------------------------------------------------------------------------- quotes ---------- */

/* The bytes of `s` that go on a line: up to a space if there is one. Characters of three bytes and more are often
 * wide. */
static size_t line_of(const char *s)
{
    size_t at = 0, space = 0;
    for (int width = 0; s[at];) {
        int size = utf8_length(s + at, strlen(s + at));
        width += size > 2 ? 2 : 1;
        if (width > WIDE)
            return space ? space : at;
        at += size > 0 ? (size_t)size : 1;
        if (s[at] == ' ')
            space = at;
    }
    return at;
}

/* Draws a quote if there is a drawing; at most QUOTED lines, what is longer ends with dots. Returns its lines. */
static int draw_quote(drawing *d, const char *s, double y)
{
    int i = 0;
    for (; i < QUOTED && *s; i++, y += LINE) {
        char line[4 * WIDE + 8];
        size_t n = line_of(s);
        bool cut = i == QUOTED - 1 && s[n];
        snprintf(line, sizeof line, "%.*s%s", (int)n, s, cut ? " ..." : "");
        if (d)
            draw_text(d, i ? MARGIN + 12 : MARGIN, y, 0, SIZE, false, draw_black, line);
        s += n + (s[n] == ' ');
    }
    return i;
}

/* The quotes, one below the other; returns their lines. */
static int draw_quotes(drawing *d, const json_t *quotes, double y)
{
    int lines = 0;
    for (size_t i = 0; i < json_array_size(quotes); i++)
        lines += draw_quote(d, json_string_value(json_array_get(quotes, i)), y + LINE * lines);
    return lines;
}

/* -------------------------------------------------------------------------------------------- strip ---------- */

double strip_width(void)
{
    return LABELS + STRIP_BINS + MARGIN;
}

static double rows_height(const strip *s)
{
    return s->n_rows * ROW + (s->tall ? SUM - ROW + GAP : 0);
}

double strip_height(const strip *s)
{
    return TOP + rows_height(s) + AXIS + LINE * (draw_quotes(NULL, s->quotes, 0) + 1);
}

static double place(const strip *s, int64_t token)
{
    return LABELS + (double)STRIP_BINS * (double)token / (double)s->n;
}

static void draw_frame(drawing *d, double x0, double y0, double x1, double y1, color c)
{
    const double line[5][2] = {{x0, y0}, {x1, y0}, {x1, y1}, {x0, y1}, {x0, y0}};
    draw_line(d, line, 5, 0.5, false, c);
}

static void draw_row(drawing *d, const strip *s, const strip_row *r, double y, double h)
{
    draw_text(d, LABELS - 8, y + h / 2 + SIZE / 3.0 + 1, 1, SIZE, false, draw_black, r->label);
    for (int b = 0; b < STRIP_BINS;) { /* equal neighbours are one rectangle */
        int end = b + 1;
        while (end < STRIP_BINS && r->bins[end] == r->bins[b])
            end++;
        if (r->bins[b] > 0)
            draw_rect(d, LABELS + b, y, end - b, h, draw_density_color(r->bins[b]));
        b = end;
    }
    if (r->marked_end > r->marked)
        draw_frame(d, place(s, r->marked) - 1.5, y, place(s, r->marked_end) + 1.5, y + h, draw_line_color(1));
}

void strip_draw(drawing *d, const strip *s, double y0)
{
    const color shade = {0.92, 0.92, 0.86};
    double top = y0 + TOP, bottom = top + rows_height(s), y = top;
    char number[32];
    draw_text(d, MARGIN, y0 + 24, 0, 13, false, draw_black, s->title);
    draw_text(d, MARGIN, y0 + 42, 0, SIZE, false, draw_grey, s->note);
    if (s->keep || s->local) {
        draw_rect(d, LABELS, top, place(s, s->keep < s->n ? s->keep : s->n) - LABELS, bottom - top, shade);
        double local = place(s, s->n > s->local ? s->n - s->local : 0);
        draw_rect(d, local, top, LABELS + STRIP_BINS - local, bottom - top, shade);
    }
    for (int i = 0; i < s->n_rows; i++) {
        bool sum = s->tall && i == 0;
        draw_row(d, s, &s->rows[i], y, sum ? SUM : ROW - 1);
        y += sum ? SUM + GAP : ROW;
    }
    draw_frame(d, LABELS, top, LABELS + STRIP_BINS, bottom, draw_grey);
    for (int i = 0; i <= 4; i++) {
        snprintf(number, sizeof number, "%lld", (long long)(s->n * i / 4));
        draw_text(d, LABELS + STRIP_BINS * i / 4.0, bottom + 15,
                  i == 4 ? 1
                  : i    ? 0.5
                         : 0,
                  SIZE, false, draw_black, number);
    }
    draw_text(d, LABELS + STRIP_BINS / 2.0, bottom + 32, 0.5, SIZE, false, draw_grey, "token of the prompt");
    draw_quotes(d, s->quotes, bottom + AXIS + LINE);
}

int strip_write(const strip *list, int n, const char *path)
{
    double height = 0;
    drawing *d = NULL;
    for (int i = 0; i < n; i++)
        height += strip_height(&list[i]);
    int rc = draw_open(path, strip_width(), height, &d);
    height = 0;
    for (int i = 0; i < n && !rc; i++) {
        strip_draw(d, &list[i], height);
        height += strip_height(&list[i]);
    }
    int closed = draw_close(d);
    return rc ? rc : closed;
}
