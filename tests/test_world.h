/* test_world.h - a layer's step on a store, without a model: append random tokens, plan. */
#ifndef REATTN_TEST_WORLD_H
#define REATTN_TEST_WORLD_H

#include "test_util.h"

#include "attend/turned.h"
#include "policy/policy.h"
#include "session/params.h"

/* Layers of the store; steps are those of the last: some methods leave the first ones alone. */
enum { WORLD_LAYERS = 3, WORLD_LAYER = 2 };

typedef struct world {
    reattn__layer layer, layers[WORLD_LAYERS]; /* all alike */
    reattn__store *store;
    reattn_session_params params;
    const reattn__policy *policy;
    void *state;
    reattn__plan plan;
    float *q, *k, *v; /* [n][H][D], [n][Hk][D], [n][Hk][Dv] of all tokens */
    int64_t n, cap;
    reattn__turned turned; /* kept from step to step, as a session does */
    int64_t scored, rescored;
    bool last; /* a prompt ends with the next step */
} world;

static inline void world_open(world *w, const char *policy, int type, int H, int Hk, int D, int64_t cap)
{
    reattn_error err = {0};
    *w = (world){.layer = {H, Hk, D, D, 1 / sqrtf((float)D), {REATTN_ROPE_NEOX, D, 0, 10000, 1, 0, 1, 32, 1, NULL}}};
    for (int i = 0; i < WORLD_LAYERS; i++) w->layers[i] = w->layer;
    w->params = reattn_session_params_default();
    snprintf(w->params.policy, sizeof w->params.policy, "%s", policy);
    w->params.n_threads = 2;
    int type_v = type == REATTN_SPLIT ? REATTN_F16 : type;
    w->params.type_k = type;
    w->params.type_v = type_v;
    w->cap = cap;
    w->policy = reattn__policy_find(policy);
    w->q = calloc((size_t)(cap * H * D), sizeof(float));
    w->k = calloc((size_t)(cap * Hk * D), sizeof(float));
    w->v = calloc((size_t)(cap * Hk * D), sizeof(float));
    assert_int_equal(reattn__store_create(w->layers, WORLD_LAYERS, type, type_v, 0, &w->store, &err), 0);
}

static inline void world_start(world *w, int64_t N)
{
    reattn_error err = {0};
    assert_int_equal(reattn__params_resolve(&w->params, N, &err), 0);
    if (w->policy->create) assert_int_equal(w->policy->create(&w->params, w->layers, WORLD_LAYERS, &w->state, &err), 0);
}

static inline void world_close(world *w)
{
    if (w->policy->destroy) w->policy->destroy(w->state);
    reattn__plan_free(&w->plan);
    reattn__store_free(w->store);
    reattn__turned_free(&w->turned);
    free(w->q);
    free(w->k);
    free(w->v);
}

/* Appends the next T tokens of q, k and v and plans. */
static inline void world_feed(world *w, int64_t T, bool decode)
{
    const reattn__layer *l = &w->layer;
    reattn_error err = {0};
    float *q = w->q + w->n * l->H * l->D, *k = w->k + w->n * l->Hk * l->D, *v = w->v + w->n * l->Hk * l->D;
    assert_true(w->n + T <= w->cap);
    assert_int_equal(reattn__store_reserve(w->store, w->n + T, &err), 0);
    assert_int_equal(reattn__store_append(w->store, WORLD_LAYER, T, k, v, &err), 0);
    for (int64_t i = 0; i < T * l->Hk; i++) { /* the law reads the history, bit for bit as the store keeps it */
        reattn__store_read_k(w->store, WORLD_LAYER, (int)(i % l->Hk), w->n + i / l->Hk, 1, k + i * l->D, 1);
        reattn__store_read_v(w->store, WORLD_LAYER, (int)(i % l->Hk), w->n + i / l->Hk, 1, v + i * l->D);
    }
    w->n += T;
    reattn__step step = {.params = &w->params, .shape = l, .store = w->store, .layer = WORLD_LAYER, .decode = decode,
                         .last = w->last, .T = T, .n = w->n, .q = q, .k = k, .v = v, .scored = &w->scored,
                         .rescored = &w->rescored};
    assert_int_equal(w->policy->plan(w->state, &step, &w->plan, &err), 0);
}

/* Appends T random tokens and plans. */
static inline void world_step(world *w, test_rng *rng, int64_t T, bool decode)
{
    const reattn__layer *l = &w->layer;
    assert_true(w->n + T <= w->cap);
    test_fill_normal(rng, w->q + w->n * l->H * l->D, T * l->H * l->D, 1);
    test_fill_normal(rng, w->k + w->n * l->Hk * l->D, T * l->Hk * l->D, 1);
    test_fill_normal(rng, w->v + w->n * l->Hk * l->D, T * l->Hk * l->D, 1);
    world_feed(w, T, decode);
}

#endif
