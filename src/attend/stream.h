/* stream.h - attention of a few queries (decode) over split keys that are kept rotated. */
#ifndef REATTN_STREAM_H
#define REATTN_STREAM_H

#include "attend/attend.h"

/* Whether these queries, keys and runs are such that reattn__stream can attend to them. */
bool reattn__stream_can(const reattn__attend_args *args);
/* As reattn__attend. */
int reattn__stream(const reattn__attend_args *args, reattn_error *err);

#endif
