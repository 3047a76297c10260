/* session.h - a session's insides, for src/session only. */
#ifndef REATTN_SESSION_H
#define REATTN_SESSION_H

#include <stdatomic.h>

#include "attend/attend.h"
#include "attend/turned.h"
#include "device/device.h"
#include "model/bridge.h"
#include "policy/policy.h"

/* What a policy with a budget needs (distill.c). Rows of logits: that of the last token, by which the next one's
 * novelty is known, and those at the last chunk boundaries, from which a text may go on in another way. */
enum { REATTN__ROWS = 3 };
typedef struct reattn__pot {
    int32_t *catalyst; /* [n_catalyst] */
    int64_t n_catalyst;
    int64_t dropped; /* tokens of the text that are in the store no more */
    int64_t floor;   /* tokens of the text when that was so decided last */
    int64_t probe;   /* tokens of the catalyst that are in the store now */
    int64_t *kept;   /* [n_layer][Hk][pot_keep] */
    float *nats;     /* [chunk] */
    float *rows[REATTN__ROWS];
    int64_t row_at[REATTN__ROWS]; /* tokens of the text then; -1: none. 0 is the last token's */
} reattn__pot;

struct reattn_session {
    reattn_model *model;
    reattn_session_params params;
    const reattn__policy *policy;
    const reattn__layer *layers;
    int n_layer;

    int32_t *tokens; /* [cap] */
    int64_t n, cap;
    int64_t anchored; /* tokens from the start that were cut into steps as a longer text would be */
    int64_t logits_at; /* of the last step, the token whose logits reattn_session_logits gives; -1 = none */
    bool shared;        /* the last step was one of several sessions: */
    float *shared_row;  /* [n_vocab] a copy of its logits, once there was such a step */

    reattn__native *native; /* the policy is native: this, and nothing below */
    reattn__bridge *bridge;
    reattn__device *engine; /* of the layers that attend on a device, or NULL; their device, else -1: */
    int *device;            /* [n_layer] */
    int *row;               /* [n_layer] a layer's number among those on the CPU: in store, turned, policy */
    int n_row;
    reattn__layer *rows;    /* [n_row] those layers */
    reattn__store *store;   /* NULL if there are none */
    void *policy_state;
    void *planner_state; /* the policy's state for all layers, if it plans for a device: steps there count as layers */
    reattn__pot pot; /* with a budget */
    reattn__plan plan;
    reattn__rope_table *ropes; /* [n_rope] one for each way in which layers rotate */
    int n_rope, *rope_of;      /* [n_layer] which */
    reattn__turned *turned; /* [n_row] rotated keys of the scope, if the policy's scope is finite; else NULL */
    reattn__buffer attend_work[REATTN__ATTEND_BUFFERS];
    reattn__buffer lse, mass; /* what attention tells a policy that learns */

    bool decode, last, want_logits; /* of the step at hand */
    atomic_bool cancel;
    reattn_stats stats;
    reattn_trace_fn trace;
    void *trace_user;
    reattn_mass_fn mass_fn;
    void *mass_user;
};

/* Calls the session's mass callback for one layer, whose plan was made. */
int reattn__session_measure(const reattn_session *s, int layer, int64_t T, const float *q, reattn_error *err);
/* The layer function that the bridge calls: append, plan, attend. */
int reattn__session_layer(void *user, int layer, int64_t T, const float *q, const float *k, const float *v, float *out,
                          reattn_error *err);

/* A step, in parts (session.c; many.c has several sessions in one). check: the tokens are of the vocabulary and within
 * the limit. begin takes the room and notes the tokens; on an error nothing has changed. Then the model runs them. end
 * is told how that went; if there is an error, or it finds one, the session holds what it held before. */
int reattn__session_check(const reattn_session *s, const int32_t *tokens, int64_t n, reattn_error *err);
int reattn__session_begin(reattn_session *s, const int32_t *tokens, int64_t T, bool decode, bool last, int64_t n_logits,
                          reattn_error *err);
int reattn__session_run(reattn_session *s, int64_t T, int64_t n_logits, reattn_error *err);
int reattn__session_end(reattn_session *s, int64_t T, int64_t n_logits, int code, reattn_error *err);
/* Logits of token t of the step; NULL if they were not asked for. */
const float *reattn__session_row(const reattn_session *s, int64_t t);

/* Tokens in the store, those of the step at hand included. */
static inline int64_t reattn__session_held(const reattn_session *s) { return s->n - s->pot.dropped + s->pot.probe; }

/* distill.c; all but create and free only for policies with a budget. */
int reattn__distill_create(reattn_session *s, reattn_error *err);
void reattn__distill_free(reattn_session *s);
/* Tokens that may be appended before the pot must be emptied. */
int64_t reattn__distill_room(const reattn_session *s);
/* Makes room for `whole` of the *T tokens of a step to come, if the pot can have that much, and for one at least; *T is
 * cut to what there is room for. Errors: as a step's; the session is then unchanged, but for its logits. */
int reattn__distill_make_room(reattn_session *s, int64_t whole, int64_t *T, reattn_error *err);
/* Tells the policy how new the step's tokens were, by the logits of the step. */
int reattn__distill_read(reattn_session *s, const int32_t *tokens, int64_t T, bool decode, reattn_error *err);
/* The text was cut back to its first n tokens. */
void reattn__distill_cut(reattn_session *s, int64_t n);
/* The largest length up to n at which it can be gone on from. */
int64_t reattn__distill_anchor(const reattn_session *s, int64_t n);

#endif
