/* recall.h - what the scope held when an answer began: per layer and KV head, was a passage of the prompt in it?
 *
 * The scope of a step is the first `keep` tokens, the spans that its trace reports, and the last `local` tokens; or
 * everything, if the session says that its scope was as long as the text. */
#ifndef RECALL_H
#define RECALL_H

#include <jansson.h>

#include "recalls.h"

/* Tokens [first, end), and the part [value, value_end) of them that answers. */
typedef struct passage {
    int64_t first, end, value, value_end;
} passage;

/* Call after a prompt was read (with the session's stats reset before it) and before anything else is. A new object:
 *   needle_token, needle_tokens  where the passage begins, and how long it is
 *   value_share   share of the layers' KV heads whose scope holds the whole value
 *   needle_share  mean share of the passage's tokens in scope, over layers and KV heads
 *   everything    true if the scope was the whole text
 *   layers        [n_layer] value_share by layer
 *   recalled      [[first token, tokens, layers that recalled them], ...]
 *   passages      those recalled most: [{"first", "count", "share", "text"}, ...] (passages.h)
 * NULL if there is no memory (and the error was printed). */
json_t *recall_measure(const recalls *r, const reattn_model *model, const reattn_session *session, const passage *p);

/* Tokens that bytes [from, to) of a text are in. An error if the tokens' bytes are not those of the text. */
int recall_locate(const reattn_model *model, const char *text, size_t len, const int32_t *tokens, int64_t n,
                  size_t from, size_t to, int64_t *first, int64_t *end);

#endif
