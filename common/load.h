/* load.h - from options to a model, a session, a sampler and tokens. */
#ifndef LOAD_H
#define LOAD_H

#include "args.h"
#include "text.h"

/* The name of the model's file, without its folder. */
const char *load_name(const reattn_model *model);

/* With `native` the model only has to run in libllama. */
int load_model(const options *opt, bool native, reattn_model **out);
/* Whether a policy leaves attention to libllama. */
bool load_is_native(const char *policy);
/* Resolves the session's parameters for the model and creates it. `room` is how many tokens it will hold at least, as
 * far as is known: under the policy native libllama's cache has a fixed size. */
int load_session(const options *opt, reattn_model *model, int64_t room, reattn_session **out);
/* The same, with the library's code and error instead of a printed line. */
int load_try_session(const options *opt, reattn_model *model, int64_t room, reattn_session **out, reattn_error *err);
/* Gives the session the text of --catalyst; where policies are compared, those that need none do without. */
int load_catalyst(const options *opt, const reattn_model *model, reattn_session *session);
/* Sampling options and grammar file. */
int load_sampler(const options *opt, const reattn_model *model, reattn_sampler **out);

/* Appends the files, joined by blank lines. */
int load_files(const options *opt, text *out);
/* Appends `next` after what is there, with a blank line between. False if there is no memory. */
bool load_append_part(text *t, const char *next, size_t n);

/* Tokens of text; *tokens is the caller's. Special tokens in the text are read as such. */
int load_tokens(const reattn_model *model, const char *text, size_t n, bool add_special, int32_t **tokens,
                int64_t *count);

/* "scope 32 + 127 x 32 + 512 = 4608 of 8192", or the policy's own rule. `p` is resolved. */
void load_scope_text(const reattn_session_params *p, char *buf, size_t cap);
/* Bytes with a binary unit: "22.5 MiB". */
void load_bytes_text(uint64_t bytes, char *buf, size_t cap);
/* One line on standard error that says how the model will be run. */
int load_announce(const reattn_model *model, const reattn_session_params *params);

#endif
