/* infinipot.c - InfiniPot (2410.01518): a pot of fixed size. Everything in it is attended to, at positions counted
 * through the pot. When it is full (session/distill.c says when), each head keeps the tokens that were newest to the
 * model, -log p when they were read (NuC), the same for all heads, and of the others those that the catalyst attends to
 * most (CaP), summed over its tokens and the group's query heads. Of equals the earlier goes first. A token that stays
 * takes its novelty along. */
#include <stdlib.h>
#include <string.h>

#include "policy.h"

/* One layer's, of every token held: [Hk][pot]. */
typedef struct scores {
    int Hk, g;
    float *novelty, *attention;
} scores;

typedef struct ranked {
    float score;
    int64_t token;
} ranked;

typedef struct pot {
    const reattn_session_params *params;
    int n_layer;
    scores *layers; /* [n_layer] */
    ranked *order;  /* [pot] */
} pot;

static int plan_infinipot(void *state, const reattn__step *s, reattn__plan *plan, reattn_error *err)
{
    (void)state;
    int code = reattn__plan_start(plan, 1, 0, err);
    if (code != REATTN_OK) return code;
    reattn__plan_full(plan, s);
    if (!s->probe) return REATTN_OK;
    /* What is held, and the catalyst behind it: all in one softmax, but only the former is asked for. */
    reattn_run *runs = (reattn_run *)plan->lists[0].runs;
    runs[1] = runs[0];
    runs[0].count = runs[1].first = runs[1].k_pos = s->n - s->probe;
    runs[1].count = s->probe;
    plan->lists[0].n = 2;
    plan->mass_run = 0;
    return REATTN_OK;
}

static int learn(void *state, const reattn__step *s, const float *mass, reattn_error *err)
{
    pot *p = state;
    scores *l = &p->layers[s->layer];
    const int64_t held = s->n - s->probe, most = p->params->pot;
    (void)err;
    for (int h = 0; h < l->Hk && s->probe; h++) {
        float *sum = l->attention + h * most;
        for (int64_t i = 0; i < held && s->probe == s->T; i++) sum[i] = 0; /* a long one comes in pieces */
        for (int j = 0; j < l->g; j++)
            for (int64_t i = 0; i < held; i++) sum[i] += mass[(h * l->g + j) * held + i];
    }
    return REATTN_OK;
}

static void novelty(void *state, int64_t at, int64_t n, const float *nats)
{
    pot *p = state;
    for (int l = 0; l < p->n_layer; l++)
        for (int h = 0; h < p->layers[l].Hk; h++)
            memcpy(p->layers[l].novelty + h * p->params->pot + at, nats, (size_t)n * sizeof *nats);
}

static int by_score(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return (x->token > y->token) - (x->token < y->token);
}

static int by_token(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    return (x->token > y->token) - (x->token < y->token);
}

/* Brings the tokens with the highest scores to the front of order [n]. */
static void sort_by(ranked *order, int64_t n, const float *score)
{
    for (int64_t i = 0; i < n; i++) order[i].score = score[order[i].token];
    qsort(order, (size_t)n, sizeof *order, by_score);
}

static int choose(void *state, int layer, int64_t held, int64_t keep, int64_t *kept, reattn_error *err)
{
    pot *p = state;
    const scores *l = &p->layers[layer];
    const int64_t novel = keep * p->params->pot_novelty / 100;
    (void)err;
    for (int h = 0; h < l->Hk; h++) {
        for (int64_t i = 0; i < held; i++) p->order[i].token = i;
        sort_by(p->order, held, l->novelty + h * p->params->pot);
        sort_by(p->order + novel, held - novel, l->attention + h * p->params->pot);
        qsort(p->order, (size_t)keep, sizeof *p->order, by_token);
        for (int64_t i = 0; i < keep; i++) kept[h * keep + i] = p->order[i].token;
    }
    return REATTN_OK;
}

static void drop(void *state, int layer, int64_t keep, const int64_t *kept)
{
    pot *p = state;
    scores *l = &p->layers[layer];
    for (int h = 0; h < l->Hk; h++) {
        float *of = l->novelty + h * p->params->pot;
        for (int64_t i = 0; i < keep; i++) of[i] = of[kept[h * keep + i]];
    }
}

static void destroy(void *state)
{
    pot *p = state;
    if (!p) return;
    for (int l = 0; p->layers && l < p->n_layer; l++) {
        free(p->layers[l].novelty);
        free(p->layers[l].attention);
    }
    free(p->layers);
    free(p->order);
    free(p);
}

static int create(const reattn_session_params *params, const reattn__layer *layers, int n_layer, void **state,
                  reattn_error *err)
{
    pot *p = calloc(1, sizeof *p);
    bool fine = p != NULL;
    if (fine) {
        *p = (pot){params, n_layer, calloc((size_t)n_layer, sizeof *p->layers),
                   malloc((size_t)params->pot * sizeof *p->order)};
        fine = p->layers && p->order;
    }
    for (int l = 0; l < n_layer && fine; l++) {
        size_t n = (size_t)layers[l].Hk * (size_t)params->pot;
        p->layers[l] =
            (scores){layers[l].Hk, layers[l].H / layers[l].Hk, calloc(n, sizeof(float)), calloc(n, sizeof(float))};
        fine = p->layers[l].novelty && p->layers[l].attention;
    }
    if (!fine) {
        destroy(p);
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory for the pot");
    }
    *state = p;
    return REATTN_OK;
}

static uint64_t bytes_for(const reattn_session_params *params, const reattn__layer *layers, int n_layer, int64_t n,
                          uint64_t *grows)
{
    uint64_t lists = 0;
    (void)n;
    *grows = 0;
    for (int l = 0; l < n_layer; l++) lists += (uint64_t)layers[l].Hk;
    return (uint64_t)params->pot * (lists * 2 * sizeof(float) + sizeof(ranked));
}

const reattn__policy reattn__policy_infinipot = {
    .info = {"infinipot",
             "a pot of fixed size; when it is full, what was new and what a summary needs stays, the rest is lost",
             "keeps M tokens; a step attends to those held, O(M); logits of all prompt tokens; no going back",
             "InfiniPot, 2410.01518"},
    .options = "pot pot-keep pot-novelty",
    .budget = true,
    .catalyst = "\n\nSummarize the text above: its main points, names, numbers and facts.",
    .create = create,
    .destroy = destroy,
    .bytes_for = bytes_for,
    .plan = plan_infinipot,
    .learn = learn,
    .novelty = novelty,
    .choose = choose,
    .drop = drop,
};
