/* compare.h - what `eval compare` found, as one table and as a picture. */
#ifndef COMPARE_H
#define COMPARE_H

#include <jansson.h>
#include <stdbool.h>

#include "results.h"

/* A row for each model and configuration; for each test and length quality, tokens a second of reading and of
 * generating, and the bytes held. With `json` one object. */
int compare_report(bool json, const results *r);
/* Quality over length: a panel for each test, a line for each row of the table. */
int compare_plot(const json_t *cases, const char *path);

#endif
