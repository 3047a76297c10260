/* files.h - lines of JSON in and out. */
#ifndef FILES_H
#define FILES_H

#include <jansson.h>
#include <stdio.h>

/* Creates a file and the folders on the way to it. */
__attribute__((format(printf, 2, 3))) int files_create(FILE **out, const char *format, ...);
/* Writes a value as one line; takes it over. NULL stands for memory that ran out. */
int files_line(FILE *f, json_t *value);
/* Accepts NULL; says so if what was written did not arrive. */
int files_close(FILE *f);

/* Reads a file of JSON lines, or one with a single JSON array, as an array that is the caller's. */
int files_read(const char *path, json_t **out);

#endif
