/* metadata.h - what libllama takes for granted about the metadata of a GGUF file: where it does not hold, libllama ends
 * the process instead of returning an error. */
#ifndef REATTN_METADATA_H
#define REATTN_METADATA_H

#include "base/base.h"

/* Reads the metadata of the file. Errors: E_FORMAT (not a GGUF, cut short, or damaged: the message says where),
 * E_UNSUPPORTED (a vocabulary that cannot spell every text), E_NOMEM. */
int reattn__metadata_check(const char *path, reattn_error *err);

#endif
