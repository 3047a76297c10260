/* policy.h - a method is a rule for which keys at which positions: it looks at the store and returns a plan.
 *
 * To add a method: one file here with a `const reattn__policy`, one line in table.c. */
#ifndef REATTN_POLICY_H
#define REATTN_POLICY_H

#include "attend/attend.h"
#include "kv/store.h"
#include "reattn/reattn.h"

/* One layer of one step. */
typedef struct reattn__step {
    const reattn_session_params *params; /* resolved */
    const reattn__layer *shape;
    const reattn__store *store;
    int layer;
    bool decode;      /* one generated token, not a part of a prompt */
    bool last;        /* a prompt ends with this step: an answer follows */
    int64_t T, n;     /* tokens of this step; tokens held, these included. With a budget the text has more. */
    /* Of these the last so many are the catalyst's: its queries score what is held, then it is dropped
     * (session/distill.c). 0: the step is text. */
    int64_t probe;
    const float *q;   /* [T][H][D], not rotated */
    const float *k, *v; /* [T][Hk][D], [T][Hk][Dv] */
    int64_t *scored, *rescored; /* counters to add to */
} reattn__step;

/* What to attend to: one list of runs for all KV heads, or one a head. */
typedef struct reattn__plan {
    int n_list;
    reattn__run_list *lists; /* [n_list] */
    /* What was recalled, for traces: spans of list i are spans[i]; NULL if the policy recalls nothing. */
    const reattn_span **spans;
    int64_t *n_spans;
    float *q_scale; /* [T] factors on the queries, or NULL: 1 */
    /* The run of every list of whose keys `learn` is told what they got of this step's attention; -1: none. */
    int64_t mass_run;
    reattn__buffer memory[4];
} reattn__plan;

/* Who can plan for layers whose keys lie on a device (device/device.h). */
typedef enum reattn__planner {
    REATTN__PLANS_FROM_STORE = 0, /* `plan` reads queries, keys or values: it needs them in the host's store */
    /* `plan` reads nothing of a step but params, shape, layer, decode, last, T and n, so the host makes it for any
     * engine. It has no `learn` and no budget. */
    REATTN__PLANS_FROM_LENGTHS,
    /* An engine may plan by itself: */
    REATTN__PLANS_ALL,   /* every token at its own position */
    REATTN__PLANS_ENDS,  /* the first and the last tokens */
    REATTN__PLANS_RECALL /* these and what is recalled by the queries' votes */
} reattn__planner;

typedef struct reattn__policy {
    reattn_policy_info info;
    /* The options that it goes by, beside those that all have (session/params.c): names with spaces between, NULL:
     * none. */
    const char *options;
    reattn__planner planner;
    bool native;        /* libllama's own attention: the engine is bypassed */
    bool finite;        /* the scope is keep + spans + local and must fit the trained length */
    bool own_local;     /* finite, but its local parts are cut by distance, for each query: local-per says nothing */
    bool ends;          /* a prompt's last step is planned in another way than the others: its tokens are no anchor */
    bool reads_file;    /* it needs numbers from params->clex, or else from the model's file */
    /* Fills in what is 0 and has a default of this method's own, and refuses what makes no sense. NULL: nothing of the
     * kind. params->ctx_train is known. Done twice, it must change nothing. */
    int (*resolve)(reattn_session_params *params, reattn_error *err);
    int64_t keep, span, max; /* its own defaults of keep, recall_span and recall_max; 0: the common ones */
    bool budget;        /* of each head at most `pot` tokens are held: the rest is for the functions at the end */
    const char *catalyst; /* the default text whose queries score what is held */
    /* State of a session; NULL functions mean there is none. */
    int (*create)(const reattn_session_params *params, const reattn__layer *layers, int n_layer, void **state,
                  reattn_error *err);
    void (*destroy)(void *state);
    /* Bytes that the state takes at most: those that do not depend on the text, and *grows, for n tokens of it. NULL:
     * next to none. */
    uint64_t (*bytes_for)(const reattn_session_params *params, const reattn__layer *layers, int n_layer, int64_t n,
                          uint64_t *grows);
    void (*forget)(void *state, int64_t n); /* the session was rewound to its first n tokens */
    /* The largest length up to n to which the state can go back and be what it was there; NULL: any length. */
    int64_t (*anchor)(const void *state, int64_t n);
    int (*plan)(void *state, const reattn__step *step, reattn__plan *plan, reattn_error *err);
    /* The step attended as planned; mass [H][keys of the run that the plan named], NULL if it named none. */
    int (*learn)(void *state, const reattn__step *step, const float *mass, reattn_error *err);
    /* With a budget: tokens at .. at + n - 1, just stored, had these -log p (nats; infinity: nothing predicted it). */
    void (*novelty)(void *state, int64_t at, int64_t n, const float *nats);
    /* Of the `held` tokens of each KV head of a layer, which the catalyst has scored, `keep` stay: kept [Hk][keep],
     * ascending. Changes nothing yet. */
    int (*choose)(void *state, int layer, int64_t held, int64_t keep, int64_t *kept, reattn_error *err);
    /* The others are dropped from the store; those kept are tokens 0 .. keep - 1 from now on. */
    void (*drop)(void *state, int layer, int64_t keep, const int64_t *kept);
} reattn__policy;

/* By name; NULL if there is none. */
const reattn__policy *reattn__policy_find(const char *name);

void reattn__plan_free(reattn__plan *plan);

/* scope.c: building plans. An empty plan with room for n_run runs in each of n_list lists. */
int reattn__plan_room(reattn__plan *plan, int n_list, int64_t n_run, reattn_error *err);
/* Appends a run to list i, unless it holds no token. */
void reattn__plan_add(reattn__plan *plan, int i, reattn_run run);
/* Makes plan->q_scale, all 1. */
int reattn__plan_scales(reattn__plan *plan, int64_t T, reattn_error *err);
/* The scope that several methods share: room for n_list lists of up to n_span spans each. */
int reattn__plan_start(reattn__plan *plan, int n_list, int64_t n_span, reattn_error *err);
/* Every token at its own position. */
void reattn__plan_full(reattn__plan *plan, const reattn__step *step);
/* List i becomes [0, G) + spans + the step's last tokens (local.h), positions counted through or original. */
void reattn__plan_scope(reattn__plan *plan, int i, const reattn__step *step, const reattn_span *spans, int64_t n_span);

/* Hooks by which any policy can be tested. The relative distance at which query t meets each key that it sees, in the
 * order of the runs: writes up to cap, returns how many. */
int64_t reattn__plan_distances(const reattn__run_list *list, int64_t q_first, int64_t t, int64_t *distance,
                               int64_t cap);
/* How often query t meets each of tokens 0 .. n-1: adds to count [n]. It must end as 0 or 1. */
void reattn__plan_coverage(const reattn__run_list *list, int64_t q_first, int64_t t, int64_t n, int *count);

extern const reattn__policy reattn__policy_native, reattn__policy_full, reattn__policy_streaming,
    reattn__policy_reattention;
extern const reattn__policy reattn__policy_lm_infinite, reattn__policy_selfextend, reattn__policy_dca,
    reattn__policy_string, reattn__policy_mesa;
extern const reattn__policy reattn__policy_ntk, reattn__policy_dynamic_ntk, reattn__policy_yarn, reattn__policy_clex,
    reattn__policy_mspoe;
extern const reattn__policy reattn__policy_infllm, reattn__policy_infinipot;

#endif
