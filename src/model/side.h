/* side.h - numbers that a method reads from the metadata of a GGUF file: a file of its own, or the model's. */
#ifndef REATTN_SIDE_H
#define REATTN_SIDE_H

#include "base/base.h"

typedef struct reattn__side reattn__side;

/* Errors: E_IO (no such file), E_FORMAT (not a GGUF, or cut short). */
int reattn__side_open(const char *path, reattn__side **out, reattn_error *err);
void reattn__side_close(reattn__side *side);
/* An array of f32, [*n], owned by the side; NULL if there is no such key or it is something else. */
const float *reattn__side_floats(const reattn__side *side, const char *key, int64_t *n);
/* A text, owned by the side; NULL likewise. */
const char *reattn__side_text(const reattn__side *side, const char *key);
/* A 32-bit whole number or a bool; `otherwise` if there is none. */
int64_t reattn__side_int(const reattn__side *side, const char *key, int64_t otherwise);

#endif
