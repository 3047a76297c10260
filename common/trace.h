/* trace.h - which parts of the text each step recalled, as lines of JSON: a line for each token of the answer,
 *     {"token", "text", "spans": [{"first", "count", "layers"}, ...]}
 * and at the end what the whole answer was drawn from:
 *     {"prompt_tokens", "layers", "keep", "local", "passages": [{"first", "count", "share", "text"}, ...]} */
#ifndef TRACE_H
#define TRACE_H

#include <stdio.h>

#include "cli.h"

typedef struct trace trace;

/* Opens the file and follows the session. */
int trace_open(const char *path, const reattn_model *model, reattn_session *session, trace **out);
/* Writes the line of a generated token: its position, its bytes, and what the step that chose it recalled. */
int trace_token(trace *t, int64_t position, const char *bytes, size_t n);
/* Writes the last line, if there is a token. Accepts NULL. Says so if the file could not be written. */
int trace_close(trace *t);

#endif
