/* vocab.h - what libllama takes for granted about the tokens of a GGUF file: where it does not hold, libllama ends the
 * process instead of returning an error. */
#ifndef REATTN_VOCAB_H
#define REATTN_VOCAB_H

#include "base/base.h"

/* Reads the metadata of the file. Errors: E_FORMAT (not a GGUF, cut short, or with a vocabulary that is damaged),
 * E_NOMEM. */
int reattn__vocab_check(const char *path, reattn_error *err);

#endif
