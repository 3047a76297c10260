/* lines.h - what the benches have in common: every combination of types, keys held and queries is a line. */
#ifndef BENCH_LINES_H
#define BENCH_LINES_H

#include "data.h"

typedef struct bench_lines {
    const bench_request *r;
    bench_data *data;
    const reattn__layer *shape;
    void *rows; /* one a line */
    int n_rows; /* lines that are done */

    /* The line at hand. */
    int type_k, type_v;
    int64_t keys, T;
} bench_lines;

/* What a bench does. Each returns an error code; `open` and `line` may leave things to `close`, which is called in any
 * case. `ctx` begins with a bench_lines. */
typedef struct bench_kind {
    size_t row_bytes;
    int (*start)(void *ctx, reattn_error *err); /* data and shape are there */
    int (*open)(void *ctx, reattn_error *err);  /* other types or keys than before */
    int (*line)(void *ctx, reattn_error *err);  /* fills the next row, which is zero */
    void (*print)(void *ctx);                   /* that row, as it becomes known */
    void (*close)(void *ctx);
    int (*finish)(void *ctx, reattn_error *err); /* all rows are there: JSON or last words, and the verdict */
    void (*stop)(void *ctx);
} bench_kind;

int bench_lines_run(const bench_request *request, const bench_kind *kind, void *ctx, reattn_error *err);

#endif
