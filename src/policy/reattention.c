/* reattention.c - ReAttention (2407.15176): the queries vote for spans of the middle by an exact top-k of q . k without
 * positions, then attend to first + spans + last with positions counted from 0. */
#include <stdlib.h>
#include <string.h>

#include "local.h"
#include "policy.h"
#include "select/topk.h"
#include "select/vote.h"

/* What stands for the queries: q itself, or the new keys or values against the old ones. */
typedef struct probes {
    const float *x; /* [T][heads][d] */
    int heads, d;
    reattn__against against;
} probes;

/* The last queries of a layer and what they chose: in decode their votes count too (the paper's q_cache_len). There is
 * room for twice as many, so that they seldom have to move. */
typedef struct window {
    float *x;         /* [2 recall_window][heads][d], the oldest at `first` */
    reattn_hit *hits; /* [2 recall_window][heads][recall_k] */
    int64_t first, n; /* queries held */
    int64_t upto;     /* the middle was searched for them up to here */
} window;

static float *window_x(const window *w, const probes *p, int64_t i)
{
    return w->x + (w->first + i) * p->heads * p->d;
}

static reattn_hit *window_hits(const window *w, const probes *p, int64_t top_k, int64_t i)
{
    return w->hits + (w->first + i) * p->heads * top_k;
}

typedef struct recall {
    int n_layer;
    window *windows; /* [n_layer] */
    reattn__buffer hits, topk_work, vote_work, head_hits, kept, spans, fresh;
} recall;

static probes probes_of(const reattn__step *s)
{
    const reattn__layer *l = s->shape;
    switch (s->params->recall_type) {
    case REATTN_RECALL_K:
        return (probes){s->k, l->Hk, l->D, REATTN__KEYS};
    case REATTN_RECALL_V:
        return (probes){s->v, l->Hk, l->Dv, REATTN__VALUES};
    case REATTN_RECALL_QKV:
        return (probes){s->q, l->H, l->D, REATTN__KEYS_TIMES_L1};
    case REATTN_RECALL_QKV2:
        return (probes){s->q, l->H, l->D, REATTN__KEYS_TIMES_L2};
    default:
        return (probes){s->q, l->H, l->D, REATTN__KEYS};
    }
}

static int search(recall *r, const reattn__step *s, const probes *p, const float *x, int64_t T, int64_t lo, int64_t hi,
                  const reattn_hit *seeds, reattn_hit *hits, reattn_error *err)
{
    reattn__topk_args args = {
        .q = x, .T = T, .H = p->heads,
        .src = {.store = s->store, .layer = s->layer, .Hk = s->shape->Hk, .D = s->shape->D, .Dv = s->shape->Dv},
        .against = p->against, .lo = lo, .hi = hi, .top_k = (int)s->params->recall_k, .n_threads = s->params->n_threads,
        .seeds = seeds, .hits = hits, .rescored = s->rescored, .work = &r->topk_work,
    };
    if (hi > lo) *s->scored += T * p->heads * (hi - lo);
    return reattn__topk(&args, err);
}

/* Brings the window's hits up to the middle's new end. */
static int catch_up(recall *r, const reattn__step *s, const probes *p, window *w, int64_t end, reattn_error *err)
{
    int top_k = (int)s->params->recall_k;
    int64_t lists = w->n * p->heads;
    if (w->n == 0 || end <= w->upto) return REATTN_OK;
    reattn_hit *fresh = reattn__buffer_need(&r->fresh, (size_t)(lists * top_k) * sizeof *fresh);
    if (!fresh) return reattn__fail(err, REATTN_E_NOMEM, "out of memory for the recall window");
    int code = search(r, s, p, window_x(w, p, 0), w->n, w->upto, end, NULL, fresh, err);
    if (code != REATTN_OK) return code;
    for (int64_t i = 0; i < lists; i++)
        for (int j = 0; j < top_k && fresh[i * top_k + j].pos >= 0; j++)
            reattn__hit_insert(window_hits(w, p, top_k, 0) + i * top_k, top_k, fresh[i * top_k + j]);
    w->upto = end;
    return REATTN_OK;
}

/* Keeps the step's last queries and their hits for the steps to come. */
static int remember(const reattn__step *s, const probes *p, window *w, const reattn_hit *hits, int64_t end,
                    reattn_error *err)
{
    int64_t R = s->params->recall_window, row = (int64_t)p->heads * p->d,
            list = (int64_t)p->heads * s->params->recall_k;
    if (!w->x) w->x = malloc((size_t)(2 * R * row) * sizeof *w->x);
    if (!w->hits) w->hits = malloc((size_t)(2 * R * list) * sizeof *w->hits);
    if (!w->x || !w->hits) return reattn__fail(err, REATTN_E_NOMEM, "out of memory for the recall window");
    int64_t add = REATTN__MIN(s->T, R), stay = REATTN__MIN(w->n, R - add);
    w->first += w->n - stay;
    if (w->first + stay + add > 2 * R) {
        memmove(w->x, window_x(w, p, 0), (size_t)(stay * row) * sizeof *w->x);
        memmove(w->hits, window_hits(w, p, s->params->recall_k, 0), (size_t)(stay * list) * sizeof *w->hits);
        w->first = 0;
    }
    memcpy(window_x(w, p, stay), p->x + (s->T - add) * row, (size_t)(add * row) * sizeof *w->x);
    memcpy(window_hits(w, p, s->params->recall_k, stay), hits + (s->T - add) * list,
           (size_t)(add * list) * sizeof *w->hits);
    w->n = stay + add;
    w->upto = end;
    return REATTN_OK;
}

/* The hits of one KV head's queries, together. */
static const reattn_hit *hits_of_head(recall *r, const reattn_hit *hits, int64_t n_query, int heads, int Hk, int head,
                                      int top_k, reattn_error *err)
{
    int g = heads / Hk;
    reattn_hit *out = reattn__buffer_need(&r->head_hits, (size_t)(n_query * g * top_k) * sizeof *out);
    if (!out) {
        reattn__fail(err, REATTN_E_NOMEM, "out of memory for votes");
        return NULL;
    }
    for (int64_t i = 0; i < n_query; i++)
        memcpy(out + i * g * top_k, hits + (i * heads + (int64_t)head * g) * top_k,
               (size_t)g * (size_t)top_k * sizeof *out);
    return out;
}

/* From votes to a plan. hits [n_query][heads][recall_k]. */
static int choose(recall *r, const reattn__step *s, const probes *p, const reattn_hit *hits, int64_t n_query,
                  int64_t end, reattn__plan *plan, reattn_error *err)
{
    const reattn_session_params *par = s->params;
    int top_k = (int)par->recall_k, n_list = par->recall_per_head ? s->shape->Hk : 1;
    int64_t m = par->recall_max;
    int code = reattn__plan_start(plan, n_list, m, err);
    int64_t *kept = reattn__buffer_need(&r->kept, (size_t)m * sizeof *kept);
    reattn_span *spans = reattn__buffer_need(&r->spans, (size_t)(m * n_list) * sizeof *spans);
    if (code == REATTN_OK && (!kept || !spans)) code = reattn__fail(err, REATTN_E_NOMEM, "out of memory for votes");
    for (int i = 0; i < n_list && code == REATTN_OK; i++) {
        const reattn_hit *mine = hits;
        int64_t n_kept, n_span, voters = n_query * p->heads;
        if (n_list > 1) {
            voters = n_query * (p->heads / n_list);
            mine = hits_of_head(r, hits, n_query, p->heads, n_list, i, top_k, err);
            if (!mine) return REATTN_E_NOMEM;
        }
        code = reattn__votes(mine, voters, top_k, (reattn_vote)par->recall_vote, s->shape->kq_scale, m, kept, &n_kept,
                             &r->vote_work, err);
        if (code == REATTN_OK)
            code = reattn_spans(kept, n_kept, par->recall_span, par->keep, end, spans + i * m, &n_span, err);
        if (code == REATTN_OK) reattn__plan_scope(plan, i, s, spans + i * m, n_span);
    }
    return code;
}

/* The text is short enough to be attended to whole. */
static bool whole(const reattn__step *s)
{
    return s->n <= REATTN__MAX(s->params->recall_from, s->params->keep + reattn__last_tokens(s->params, s->T));
}

/* Everything, or first and last tokens only: nothing is recalled. */
static int plan_without(const reattn__step *s, reattn__plan *plan, reattn_error *err)
{
    int code = reattn__plan_start(plan, 1, 0, err);
    if (code != REATTN_OK) return code;
    if (whole(s)) reattn__plan_full(plan, s);
    else reattn__plan_scope(plan, 0, s, NULL, 0);
    return REATTN_OK;
}

static int plan_reattention(void *state, const reattn__step *s, reattn__plan *plan, reattn_error *err)
{
    recall *r = state;
    window *w = &r->windows[s->layer];
    const reattn_session_params *par = s->params;
    const probes p = probes_of(s);
    bool now = par->recall_when == REATTN_WHEN_ALWAYS || (par->recall_when == REATTN_WHEN_DECODE) == s->decode;
    /* The middle is [keep, end); where nothing is recalled now it is empty, and searched later for the window. */
    int64_t end = now && !whole(s) ? REATTN__MAX(s->n - reattn__last_tokens(par, s->T), par->keep) : par->keep;
    if (s->decode && !now) return plan_without(s, plan, err);
    /* A prompt's chunk votes alone: its bits do not depend on what came before a restore. */
    if (!s->decode) w->first = w->n = 0;

    /* Hits of the window's queries, then of this step's: one array, so that they vote in order. */
    int64_t list = (int64_t)p.heads * par->recall_k, old = REATTN__MIN(w->n, par->recall_window - 1);
    reattn_hit *hits = reattn__buffer_need(&r->hits, (size_t)((par->recall_window + s->T) * list) * sizeof *hits);
    if (!hits) return reattn__fail(err, REATTN_E_NOMEM, "out of memory for hits");
    int code = old > 0 ? catch_up(r, s, &p, w, end, err) : REATTN_OK;
    if (code != REATTN_OK) return code;
    const reattn_hit *last = s->decode && w->n > 0 ? window_hits(w, &p, par->recall_k, w->n - 1) : NULL;
    if (old > 0) memcpy(hits, window_hits(w, &p, par->recall_k, w->n - old), (size_t)(old * list) * sizeof *hits);
    code = search(r, s, &p, p.x, s->T, par->keep, end, last, hits + old * list, err);
    if (code == REATTN_OK) code = remember(s, &p, w, hits + old * list, end, err);
    if (code != REATTN_OK) return code;
    if (end == par->keep || par->recall_max == 0) return plan_without(s, plan, err);
    return choose(r, s, &p, hits, old + s->T, end, plan, err);
}

static void forget(void *state, int64_t n)
{
    recall *r = state;
    (void)n;
    for (int l = 0; l < r->n_layer; l++) r->windows[l].first = r->windows[l].n = 0;
}

static void destroy(void *state)
{
    recall *r = state;
    if (!r) return;
    for (int l = 0; r->windows && l < r->n_layer; l++) {
        free(r->windows[l].x);
        free(r->windows[l].hits);
    }
    free(r->windows);
    reattn__buffer *buffers[] = {&r->hits, &r->topk_work, &r->vote_work, &r->head_hits, &r->kept, &r->spans, &r->fresh};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) reattn__buffer_free(buffers[i]);
    free(r);
}

/* A short local part serves small models better than the paper's half of the window: docs/quality.md. A chunk adds its
 * own tokens to it, so that of a short window it is a quarter. */
static int resolve(reattn_session_params *p, reattn_error *err)
{
    (void)err;
    if (p->local == 0 && p->preset != REATTN_PRESET_PAPER) p->local = REATTN__MIN(p->ctx_train / 4, INT64_C(512));
    return REATTN_OK;
}

static int create(const reattn_session_params *params, const reattn__layer *layers, int n_layer, void **state,
                  reattn_error *err)
{
    recall *r = calloc(1, sizeof *r);
    (void)params;
    (void)layers;
    if (r) r->windows = calloc((size_t)n_layer, sizeof *r->windows);
    if (!r || !r->windows) {
        free(r);
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    }
    r->n_layer = n_layer;
    *state = r;
    return REATTN_OK;
}

/* The queries of the windows and their hits; of a step hits, votes and what the searches need. */
static uint64_t bytes_for(const reattn_session_params *p, const reattn__layer *layers, int n_layer, int64_t n,
                          uint64_t *grows)
{
    const int64_t R = p->recall_window, T = REATTN__MAX(p->chunk, R), k = p->recall_k, m = p->recall_max;
    const bool values = p->recall_type == REATTN_RECALL_V, heads_kv = p->recall_type == REATTN_RECALL_K || values;
    const bool split =
        p->type_k == REATTN_SPLIT && (p->recall_type == REATTN_RECALL_QK || p->recall_type == REATTN_RECALL_K);
    uint64_t bytes = 0, step = 0;
    (void)n;
    *grows = 0;
    for (int l = 0; l < n_layer; l++) {
        const reattn__layer *s = &layers[l];
        const int64_t heads = heads_kv ? s->Hk : s->H, row = heads * (values ? s->Dv : s->D) * (int64_t)sizeof(float),
                      list = heads * k * (int64_t)sizeof(reattn_hit), n_list = p->recall_per_head ? s->Hk : 1;
        size_t scan = 0, of_step = 0;
        const int64_t steps[] = {p->chunk, R, 1};
        for (int i = 0; i < 3; i++)
            scan = REATTN__MAX(scan, reattn__topk_scratch(steps[i], (int)heads, s, split, (int)k, p->n_threads));
        of_step += reattn__buffer_room((size_t)((R + p->chunk) * list)) + reattn__buffer_room((size_t)(R * list));
        of_step += reattn__buffer_room(scan) + reattn__buffer_room(reattn__votes_scratch(T * heads * k));
        of_step +=
            reattn__buffer_room((size_t)(m * (int64_t)sizeof(int64_t) + m * n_list * (int64_t)sizeof(reattn_span)));
        if (n_list > 1) of_step += reattn__buffer_room((size_t)(T * list / s->Hk));
        bytes += (uint64_t)(2 * R * (row + list));
        step = REATTN__MAX(step, of_step);
    }
    return bytes + step;
}

const reattn__policy reattn__policy_reattention = {
    .info = {"reattention",
             "an exact top-k of q . k without positions recalls spans; then a finite scope from position 0",
             "keeps everything; a step scans all keys and attends to G + m*s + L of them", "ReAttention, 2407.15176"},
    .options = "keep local local-per recall-k recall-span recall-max recall-from recall-per "
               "recall-vote recall-window recall-type recall-when positions",
    .planner = REATTN__PLANS_RECALL,
    .finite = true,
    .resolve = resolve,
    .create = create,
    .destroy = destroy,
    .bytes_for = bytes_for,
    .forget = forget,
    .plan = plan_reattention,
};
