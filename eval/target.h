/* target.h - what is evaluated: the model with one configuration, or a server. */
#ifndef TARGET_H
#define TARGET_H

#include "eval.h"

typedef struct target target;

typedef struct reply {
    text answer;
    int64_t prompt_tokens, tokens;
    double ms; /* prompt and answer; of the prompt, what was not there from the case before */
} reply;

/* `room` is how many tokens a case has at most, answer included. This and what follows may return EVAL_REFUSED. */
int target_open(eval *e, const config *c, int64_t room, target **out);
void target_close(target *t);

/* Reads a prompt. Where it begins like the one before it, what is there up to a chunk boundary is used again: the
 * answer is the same, bit for bit, as that of a session that reads it all. EXIT_INTERRUPTED (nothing printed) after
 * Ctrl-C. */
int target_read(target *t, const char *prompt, size_t n, reply *out);
/* Takes the likeliest token `limit` times, or until the model ends. out->answer is the caller's, on failure too. */
int target_answer(target *t, int64_t limit, reply *out);

/* Adds what the session says of the case to a record: "timings", an object of the tokens and milliseconds of reading
 * and of generating, and "store_bytes", what it holds. */
void target_measure(const target *t, json_t *record);
void target_timings(int64_t read_tokens, double read_ms, int64_t decode_tokens, double decode_ms, json_t *record);
void target_bytes(const reattn_model *model, const reattn_session *session, json_t *record);

/* NULL with a server. */
reattn_session *target_session(target *t);

#endif
