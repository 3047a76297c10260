/* generate.h - prompt in, answer out: what `run` and `chat` have in common. */
#ifndef GENERATE_H
#define GENERATE_H

#include "args.h"
#include "text.h"
#include "trace.h"

typedef struct answer {
    text text;        /* valid UTF-8 */
    int64_t tokens;   /* generated, without the one that ends the answer */
    const char *stop; /* "eos", "limit" or "interrupt" */
} answer;

/* Appends a prompt, with progress. EXIT_INTERRUPTED (nothing printed) if Ctrl-C stopped it. */
int generate_prompt(reattn_session *session, const int32_t *tokens, int64_t n, bool quiet);
/* Samples until the model ends, `limit` tokens (-1 = no limit) or Ctrl-C, which is no failure here. With `stream` the
 * text is written to standard output as it comes, and ends with a newline. With `keep_all` the session holds every
 * token of the answer afterwards, else the last one is not computed. `recalls` may be NULL. out->text is the caller's,
 * on failure too. */
int generate_answer(const reattn_model *model, reattn_session *session, reattn_sampler *sampler, int64_t limit,
                    bool stream, bool keep_all, trace *recalls, answer *out);
/* One line on standard error: tokens and speed of prompt and answer. */
void generate_report(const reattn_session *session, int64_t answer_tokens);

/* Tokens a second; 0 for no time. */
double generate_rate(int64_t tokens, double ms);

#endif
