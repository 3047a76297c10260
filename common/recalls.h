/* recalls.h - what the latest step of a session recalled. */
#ifndef RECALLS_H
#define RECALLS_H

#include "cli.h"

typedef struct recalls recalls;

/* A span that a layer recalled, for one KV head or (-1) for all. */
typedef struct recalled_span {
    int layer, kv_head;
    reattn_span span;
} recalled_span;

/* A run of tokens that the same number of layers recalled. */
typedef struct recalled_run {
    int64_t first, count;
    int layers;
} recalled_run;

/* From now on follows the session. */
int recalls_watch(reattn_session *session, recalls **out);
/* Accepts NULL. */
void recalls_free(recalls *r);

/* The spans of the step whose last query is the session's last token, [*n] in the order of layers; none if that step
 * recalled nothing. Valid until the session goes on. NULL: no memory, and the error was printed. */
const recalled_span *recalls_spans(const recalls *r, size_t *n);
/* The same as ascending runs, [*n]; a layer counts once where several of its heads chose a token. *runs is the
 * caller's. */
int recalls_runs(const recalls *r, recalled_run **runs, size_t *n);

#endif
