/* results.h - the records of an evaluation: JSON lines, one a case, that a later run goes on with.
 *
 * The first record, {"record": "settings", ...}, says what all cases of the file have in common. A case has an "id"
 * that no other case of the file has. Lines are written whole and at once; a line that a killed run left half written
 * is dropped when the file is opened again. */
#ifndef RESULTS_H
#define RESULTS_H

#include <jansson.h>
#include <stdbool.h>

typedef struct results results;

/* Takes over `settings`. A file that was begun with other settings is an error that names the first that differs. path
 * NULL: nothing is written. With `timings` false members named "ms", "..._ms" or "timings" are left out. */
int results_open(const char *path, json_t *settings, bool timings, results **out);
/* The case is there already. An error if it is there with other options. */
int results_has(results *r, const char *id, const json_t *options, bool *has);
/* A case, borrowed, or NULL. */
const json_t *results_find(const results *r, const char *id);
/* Writes a case; takes it over. */
int results_add(results *r, json_t *one);
/* All cases, those of earlier runs too, in the order of the file. Borrowed. */
const json_t *results_cases(const results *r);
const json_t *results_settings(const results *r);
void results_close(results *r);

/* Reads a whole file of records: *settings and *cases (an array) are the caller's. Drops a last line without an end;
 * *good, if not NULL, is the length of what is whole. */
int results_read(const char *path, json_t **settings, json_t **cases, long *good);

#endif
