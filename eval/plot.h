/* plot.h - strips, as `eval plot` draws them. */
#ifndef PLOT_H
#define PLOT_H

#include <jansson.h>

/* What `eval recall` recalled: a strip for each text, a row for each question about it. */
int plot_recalled(const json_t *cases, const char *path);
/* What `run --trace` wrote: a strip for each file, a row for each token of the answer. */
int plot_traces(const char *const *files, int n, const char *path);

#endif
