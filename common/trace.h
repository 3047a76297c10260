/* trace.h - which parts of the text each step recalled, as lines of JSON. */
#ifndef TRACE_H
#define TRACE_H

#include <stdio.h>

#include "cli.h"

typedef struct trace trace;

/* Opens the file and follows the session. */
int trace_open(const char *path, reattn_session *session, trace **out);
/* Writes the line of a generated token: its position, its bytes, and what the step that chose it recalled. */
int trace_token(trace *t, int64_t position, const char *bytes, size_t n);
/* Accepts NULL. Says so if the file could not be written. */
int trace_close(trace *t);

#endif
