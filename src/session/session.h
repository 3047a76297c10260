/* session.h - a session's insides, for src/session only. */
#ifndef REATTN_SESSION_H
#define REATTN_SESSION_H

#include <stdatomic.h>

#include "attend/attend.h"
#include "attend/turned.h"
#include "model/bridge.h"
#include "policy/policy.h"

struct reattn_session {
    reattn_model *model;
    reattn_session_params params;
    const reattn__policy *policy;
    const reattn__layer *layers;
    int n_layer;

    int32_t *tokens; /* [cap] */
    int64_t n, cap;
    int64_t anchored; /* tokens from the start that came in whole chunks at multiples of `chunk` */
    int64_t logits_at; /* of the last step, the token whose logits reattn_session_logits gives; -1 = none */

    reattn__native *native; /* the policy is native: this, and nothing below */
    reattn__bridge *bridge;
    reattn__store *store;
    void *policy_state;
    reattn__plan plan;
    reattn__rope_table *ropes; /* [n_rope] one for each way in which layers rotate */
    int n_rope, *rope_of;      /* [n_layer] which */
    reattn__turned *turned; /* [n_layer] rotated keys of the scope, if the policy's scope is finite; else NULL */
    reattn__buffer attend_work[REATTN__ATTEND_BUFFERS];

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

#endif
