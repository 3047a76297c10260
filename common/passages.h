/* passages.h - which passages of a prompt an answer was drawn from: what its steps recalled, gathered. */
#ifndef PASSAGES_H
#define PASSAGES_H

#include <jansson.h>

#include "recalls.h"

/* Start with {0}; passages_free at the end. */
typedef struct passages {
    double *share; /* [n] of layers that recalled a token of the prompt, summed over steps */
    int64_t n;
    int n_layer, n_steps;
} passages;

int passages_start(passages *p, int64_t n_tokens, int n_layer);
void passages_free(passages *p);
/* What one step recalled. */
void passages_add(passages *p, const recalled_run *runs, size_t n);
/* Mean share of layers over the steps. */
double passages_share(const passages *p, int64_t token);

/* The `most` passages that were recalled most, as a new array of {"first", "count", "share", "text"}: tokens around a
 * peak that were recalled at least half as much; their largest share of layers; their words, on one line. `tokens` are
 * the prompt's. NULL if there is no memory (and the error was printed). */
json_t *passages_json(const passages *p, const reattn_model *model, const int32_t *tokens, int most);

#endif
