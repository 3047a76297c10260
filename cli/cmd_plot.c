/* cmd_plot.c - reattn bench plot: what bench e2e --csv wrote, as a picture of speed over depth. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "args.h"
#include "chart.h"
#include "csv.h"

enum { MOST_LINES = 32 };

static const char *const columns[] = {"model", "cpu_level", "threads",           "policy",
                                      "depth", "synthetic", "prompt_per_second", "predicted_per_second"};
enum { MODEL, LEVEL, THREADS, POLICY, DEPTH, SYNTHETIC, PROMPT, DECODE, N_COLUMNS };

typedef struct picture {
    csv table;
    int column[N_COLUMNS];
    const char *names[MOST_LINES];
    int n_lines;
    chart_point *points; /* [2][n_lines][n_row] prompt, decode */
    bool synthetic;      /* any */
} picture;

static int find_columns(picture *p)
{
    for (int i = 0; i < N_COLUMNS; i++)
        if ((p->column[i] = csv_column(&p->table, columns[i])) < 0)
            return cli_fail(EXIT_FAILED, "%s: there is no column %s; reattn bench e2e --csv writes such files",
                            p->table.path, columns[i]);
    return p->table.n_row ? EXIT_DONE : cli_fail(EXIT_FAILED, "%s: there are no lines in it", p->table.path);
}

static int find_names(picture *p)
{
    for (int row = 0; row < p->table.n_row; row++) {
        const char *name = csv_cell(&p->table, row, p->column[POLICY]);
        int i = 0;
        while (i < p->n_lines && strcmp(p->names[i], name))
            i++;
        if (i == MOST_LINES)
            return cli_fail(EXIT_FAILED, "%s: more than %d policies", p->table.path, MOST_LINES);
        if (i == p->n_lines)
            p->names[p->n_lines++] = name;
    }
    return EXIT_DONE;
}

static int by_x(const void *a, const void *b)
{
    const chart_point *p = a, *q = b;
    return (p->x > q->x) - (p->x < q->x);
}

/* The points of one line. */
static int read_line(picture *p, int column, const char *name, chart_point *points, int *n)
{
    *n = 0;
    for (int row = 0; row < p->table.n_row; row++) {
        double synthetic;
        chart_point at = {0};
        if (strcmp(csv_cell(&p->table, row, p->column[POLICY]), name))
            continue;
        if (csv_number(&p->table, row, p->column[DEPTH], &at.x) || csv_number(&p->table, row, column, &at.y) ||
            csv_number(&p->table, row, p->column[SYNTHETIC], &synthetic))
            return EXIT_FAILED;
        if (at.x < 0 || at.y <= 0)
            return cli_fail(EXIT_FAILED, "%s:%d: depths are not negative and speeds are positive", p->table.path,
                            row + 2);
        at.hollow = synthetic != 0;
        p->synthetic |= at.hollow;
        points[(*n)++] = at;
    }
    qsort(points, (size_t)*n, sizeof *points, by_x);
    return EXIT_DONE;
}

static int draw(picture *p, const char *path)
{
    chart_line lines[2][MOST_LINES];
    int rc = EXIT_DONE;
    for (int i = 0; i < 2 * p->n_lines && !rc; i++) {
        chart_line *l = &lines[i / p->n_lines][i % p->n_lines];
        chart_point *points = p->points + (int64_t)i * p->table.n_row;
        *l = (chart_line){.name = p->names[i % p->n_lines], .points = points};
        rc = read_line(p, p->column[i < p->n_lines ? DECODE : PROMPT], l->name, points, &l->n);
    }
    const chart_panel panels[] = {
        {"decode, tokens a second", "tokens held", CHART_LOG2, CHART_LOG10, lines[0], p->n_lines, 0, 0},
        {"prompt, tokens a second", "tokens held", CHART_LOG2, CHART_LOG10, lines[1], p->n_lines, 0, 0}};
    char title[256];
    snprintf(title, sizeof title, "%s, %s threads, %s", csv_cell(&p->table, 0, p->column[MODEL]),
             csv_cell(&p->table, 0, p->column[THREADS]), csv_cell(&p->table, 0, p->column[LEVEL]));
    const char *note = p->synthetic ? "hollow: held are copies of the keys and values of a shorter text" : "";
    return rc ? rc : chart_write(&(chart){title, note, panels, 2}, path);
}

int cmd_bench_plot(const options *opt)
{
    picture p = {0};
    if (opt->n_files != 1 || !opt->out)
        return cli_fail(EXIT_USAGE, "bench plot needs one file of bench e2e --csv, and -o FILE.svg");
    int rc = csv_read(&p.table, opt->files[0]);
    if (!rc)
        rc = find_columns(&p);
    if (!rc)
        rc = find_names(&p);
    if (!rc && !(p.points = malloc((size_t)(2 * p.n_lines * p.table.n_row) * sizeof *p.points)))
        rc = cli_fail(EXIT_FAILED, "out of memory");
    if (!rc)
        rc = draw(&p, opt->out);
    free(p.points);
    csv_free(&p.table);
    return rc;
}
