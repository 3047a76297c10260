/* infllm.c - InfLLM (2402.04617): a block memory. The last `local` tokens are met at their true distances. Older ones
 * lie in blocks of `recall_span` tokens, of which each step takes the `recall_max` that fit its mean query best; these,
 * the first `keep` tokens, and what is in no block yet are all met at the one distance local - 1.
 *
 * Of a layer's tokens, in order:
 *     first [0, keep) | blocks | remainder: what is in no block yet
 * The remainder reaches back over the window and up to a block beyond. A token of it collects, for every query head,
 * the attention that it got inside the window. When a block is cut off, the recall_k tokens with the most become its
 * representative: the mean of their keys, one for each query head. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "policy.h"
#include "select/topk.h"

/* States at multiples of the chunk that can be returned to bit for bit: the last two. */
enum { SAVED = 2 };

typedef struct saved {
    int64_t n, start; /* tokens held then, -1: nothing is saved; first of the remainder */
    float *mass;      /* [H][n - start] */
} saved;

/* One layer's. */
typedef struct memory {
    int H, Hk, D;
    int64_t start;  /* first token of the remainder: what lies before it is first tokens, then whole blocks */
    int64_t scored; /* tokens from start to here have a mass; those behind it were never attended to */
    float *mass;    /* [H][cap], of token start + i */
    int64_t cap;
    float *reps;        /* [blocks][H][D] */
    int64_t reps_cap;   /* in blocks */
    saved saved[SAVED]; /* that of n tokens is number n / chunk % SAVED */
} memory;

typedef struct blocks {
    const reattn_session_params *params;
    int n_layer;
    memory *layers; /* [n_layer] */
    reattn__buffer query, scores, hits, spans;
} blocks;

static int64_t n_first(const blocks *b, const memory *m)
{
    return REATTN__MIN(m->start, b->params->keep);
}
static int64_t n_blocks(const blocks *b, const memory *m)
{
    return REATTN__MAX(m->start - b->params->keep, (int64_t)0) / b->params->recall_span;
}

/* Where the remainder starts once n tokens were attended to: the first tokens fill up as they leave the window, then
 * blocks are cut off while the window stays whole. */
static int64_t start_at(const blocks *b, int64_t n)
{
    int64_t out = REATTN__MAX(n - b->params->local, (int64_t)0), span = b->params->recall_span, keep = b->params->keep;
    return out < keep ? out : keep + (out - keep) / span * span;
}

/* Room for the mass of tokens start .. n - 1, 0 for those that have none. */
static int fit(memory *m, int64_t n, reattn_error *err)
{
    int64_t need = n - m->start, have = m->scored - m->start;
    if (need > m->cap) {
        int64_t cap = need + need / 4;
        float *mass = malloc((size_t)(m->H * cap) * sizeof *mass);
        if (!mass) return reattn__fail(err, REATTN_E_NOMEM, "out of memory for the block memory");
        for (int h = 0; h < m->H && have > 0; h++)
            memcpy(mass + h * cap, m->mass + h * m->cap, (size_t)have * sizeof *mass);
        free(m->mass);
        m->mass = mass;
        m->cap = cap;
    }
    for (int h = 0; h < m->H && need > have; h++)
        memset(m->mass + h * m->cap + have, 0, (size_t)(need - have) * sizeof(float));
    m->scored = REATTN__MAX(m->scored, n);
    return REATTN_OK;
}

/* The representative of a head: the mean key of the tokens that got most, most first, of equals the earlier. */
static void represent(const blocks *b, const memory *m, const reattn__store *store, int layer, int head, float *rep)
{
    int span = (int)b->params->recall_span, top_k = (int)REATTN__MIN(b->params->recall_k, (int64_t)span);
    reattn_hit best[64];
    float key[512];
    double sum[512] = {0};
    for (int i = 0; i < top_k; i++) best[i] = (reattn_hit){-1, 0};
    for (int i = 0; i < span; i++) reattn__hit_insert(best, top_k, (reattn_hit){i, (double)m->mass[head * m->cap + i]});
    for (int i = 0; i < top_k; i++) {
        reattn__store_read_k(store, layer, head / (m->H / m->Hk), m->start + best[i].pos, 1, key, 1);
        for (int d = 0; d < m->D; d++) sum[d] += (double)key[d];
    }
    for (int d = 0; d < m->D; d++) rep[d] = (float)(sum[d] / top_k);
}

/* Takes what n tokens leave outside the window out of the remainder. */
static int advance(const blocks *b, memory *m, const reattn__store *store, int layer, int64_t n, reattn_error *err)
{
    int64_t span = b->params->recall_span, keep = b->params->keep, end = start_at(b, n);
    if (end <= m->start) return REATTN_OK;
    int64_t total = REATTN__MAX(end - keep, (int64_t)0) / span;
    if (total > m->reps_cap) {
        int64_t cap = total + total / 2 + 16;
        float *reps = realloc(m->reps, (size_t)(cap * m->H * m->D) * sizeof *reps);
        if (!reps)
            return reattn__fail(err, REATTN_E_NOMEM, "out of memory for the representatives of %lld blocks",
                                (long long)cap);
        m->reps = reps;
        m->reps_cap = cap;
    }
    int code = fit(m, n, err);
    if (code != REATTN_OK) return code;
    while (m->start < end) {
        int64_t step = m->start < keep ? REATTN__MIN(keep, end) - m->start : span;
        if (m->start >= keep)
            for (int h = 0; h < m->H; h++)
                represent(b, m, store, layer, h, m->reps + (n_blocks(b, m) * m->H + h) * m->D);
        m->start += step;
        for (int h = 0; h < m->H; h++)
            memmove(m->mass + h * m->cap, m->mass + h * m->cap + step,
                    (size_t)(m->scored - m->start) * sizeof *m->mass);
    }
    return REATTN_OK;
}

/* The step's mean query of every head, rotated to the one position from which far keys are seen: out [H][D]. */
static void mean_query(const reattn__step *s, float *out)
{
    const reattn__layer *l = s->shape;
    float cs[512];
    reattn__rope_angles(&l->rope, s->params->local - 1, cs);
    for (int h = 0; h < l->H; h++) {
        double sum[512] = {0};
        for (int64_t t = 0; t < s->T; t++)
            for (int d = 0; d < l->D; d++) sum[d] += (double)s->q[(t * l->H + h) * l->D + d];
        for (int d = 0; d < l->D; d++) out[h * l->D + d] = (float)(sum[d] / (double)s->T);
        reattn__rope_row(&l->rope, cs, out + h * l->D);
    }
}

typedef struct scoring {
    const memory *m;
    const float *query; /* [H][D] */
    double *scores;     /* [n][H] */
    int64_t n;
} scoring;

enum { TASK_BLOCKS = 64 };

static int score_task(void *ctx, int64_t task, int worker)
{
    const scoring *s = ctx;
    int H = s->m->H, D = s->m->D;
    (void)worker;
    for (int64_t i = task * TASK_BLOCKS * H; i < REATTN__MIN((task + 1) * TASK_BLOCKS, s->n) * H; i++) {
        const float *rep = s->m->reps + i * D, *q = s->query + i % H * D;
        s->scores[i] = 0;
        for (int d = 0; d < D; d++) s->scores[i] += (double)q[d] * (double)rep[d];
    }
    return REATTN_OK;
}

static int by_pos(const void *a, const void *b)
{
    int64_t x = ((const reattn_hit *)a)->pos, y = ((const reattn_hit *)b)->pos;
    return (x > y) - (x < y);
}

/* The blocks that heads [from, to) choose: score down, then position up. Ascending into hits; returns how many. */
static int64_t rank(const double *scores, int H, int64_t n, int from, int to, int64_t most, reattn_hit *hits)
{
    for (int64_t i = 0; i < most; i++) hits[i] = (reattn_hit){-1, 0};
    for (int64_t i = 0; i < n && most > 0; i++) {
        double sum = 0;
        for (int h = from; h < to; h++) sum += scores ? scores[i * H + h] : 0;
        reattn__hit_insert(hits, (int)most, (reattn_hit){i, sum});
    }
    qsort(hits, (size_t)most, sizeof *hits, by_pos);
    return most;
}

/* List i becomes: the window; first tokens, blocks, and what of the remainder is outside the window of the last query,
 * all at one distance. The window comes first, so that its number is the same in every list. */
static void lay_out(const blocks *b, const memory *m, const reattn__step *s, reattn__plan *plan, int i,
                    const reattn_hit *hits, int64_t n_hit, reattn_span *spans)
{
    int64_t local = s->params->local, span = s->params->recall_span, n_span = 0, n = 0;
    int64_t from = REATTN__MAX(s->n - s->T - local + 1, (int64_t)0);
    reattn_run *runs = (reattn_run *)plan->lists[i].runs;
    for (int64_t j = 0; j < n_hit; j++) {
        int64_t first = s->params->keep + hits[j].pos * span;
        if (n_span && spans[n_span - 1].first + spans[n_span - 1].count == first) spans[n_span - 1].count += span;
        else spans[n_span++] = (reattn_span){first, span};
    }
    if (m->start < s->n - local) spans[n_span++] = (reattn_span){m->start, s->n - local - m->start};
    runs[n++] = (reattn_run){.first = from,
                             .count = s->n - from,
                             .k_step = 1,
                             .q_pos = s->n - s->T - from,
                             .q_step = 1,
                             .dist_max = local - 1};
    for (int64_t j = -1; j < n_span; j++) {
        reattn_span far = j < 0 ? (reattn_span){0, n_first(b, m)} : spans[j];
        if (far.count > 0)
            runs[n++] = (reattn_run){
                .first = far.first, .count = far.count, .q_pos = local - 1, .dist_min = local, .dist_max = INT64_MAX};
    }
    plan->lists[i].n = n;
    plan->spans[i] = spans;
    plan->n_spans[i] = n_span;
}

static int plan_infllm(void *state, const reattn__step *s, reattn__plan *plan, reattn_error *err)
{
    blocks *b = state;
    memory *m = &b->layers[s->layer];
    const reattn__layer *l = s->shape;
    /* Nothing to do, unless tokens came that were never attended to. */
    int code = advance(b, m, s->store, s->layer, s->n - s->T, err);
    if (code != REATTN_OK) return code;
    int64_t n = n_blocks(b, m), most = REATTN__MIN(n, s->params->recall_max);
    int n_list = s->params->recall_per_head && most < n ? l->Hk : 1;
    code = reattn__plan_start(plan, n_list, most + 1, err);
    if (code != REATTN_OK) return code;
    plan->mass_run = 0;
    if (s->n <= s->params->local) {
        reattn__plan_full(plan, s);
        return REATTN_OK;
    }
    float *query = reattn__buffer_need(&b->query, (size_t)(l->H * l->D) * sizeof *query);
    double *scores = reattn__buffer_need(&b->scores, (size_t)(n * l->H + 1) * sizeof *scores);
    reattn_hit *hits = reattn__buffer_need(&b->hits, (size_t)(most + 1) * sizeof *hits);
    reattn_span *spans = reattn__buffer_need(&b->spans, (size_t)(n_list * (most + 1)) * sizeof *spans);
    if (!query || !scores || !hits || !spans)
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory for the choice of blocks");
    bool choose = most > 0 && most < n;
    if (choose) {
        mean_query(s, query);
        scoring job = {m, query, scores, n};
        reattn__parallel(n < 4 * TASK_BLOCKS ? 1 : s->params->n_threads, (n + TASK_BLOCKS - 1) / TASK_BLOCKS,
                         score_task, &job);
        *s->scored += n * l->H;
    }
    for (int i = 0; i < n_list; i++) {
        int per = l->H / n_list;
        int64_t n_hit = rank(choose ? scores : NULL, l->H, n, i * per, (i + 1) * per, most, hits);
        lay_out(b, m, s, plan, i, hits, n_hit, spans + i * (most + 1));
    }
    return REATTN_OK;
}

/* Keeps the state at a chunk boundary, so that a text can be continued from there in another way. */
static int save(const blocks *b, memory *m, int64_t n, reattn_error *err)
{
    saved *s = &m->saved[n / b->params->chunk % SAVED];
    int64_t count = n - m->start;
    float *mass = realloc(s->mass, (size_t)(m->H * count + 1) * sizeof *mass);
    s->n = -1;
    if (!mass) return reattn__fail(err, REATTN_E_NOMEM, "out of memory for the block memory");
    for (int h = 0; h < m->H; h++) memcpy(mass + h * count, m->mass + h * m->cap, (size_t)count * sizeof *mass);
    *s = (saved){n, m->start, mass};
    return REATTN_OK;
}

static int learn(void *state, const reattn__step *s, const float *mass, reattn_error *err)
{
    blocks *b = state;
    memory *m = &b->layers[s->layer];
    int64_t from = s->n <= s->params->local ? 0 : REATTN__MAX(s->n - s->T - s->params->local + 1, (int64_t)0);
    int64_t count = s->n - from;
    int code = fit(m, s->n, err);
    if (code != REATTN_OK) return code;
    for (int h = 0; h < m->H; h++)
        for (int64_t i = 0; i < count; i++) m->mass[h * m->cap + from - m->start + i] += mass[h * count + i];
    code = advance(b, m, s->store, s->layer, s->n, err);
    if (code == REATTN_OK && !s->decode && s->n % s->params->chunk == 0) code = save(b, m, s->n, err);
    return code;
}

/* Without a saved state: if no block has been cut off since, the remainder keeps what it got, from later queries too;
 * else it starts anew, with nothing. */
static void forget_layer(const blocks *b, memory *m, int64_t n)
{
    int64_t start = start_at(b, n);
    for (int i = 0; i < SAVED; i++)
        if (m->saved[i].n > n) m->saved[i].n = -1;
    const saved *s = &m->saved[n / b->params->chunk % SAVED];
    if (s->n == n) {
        int64_t count = n - s->start; /* there was room for it when it was saved */
        m->start = s->start;
        m->scored = n;
        for (int h = 0; h < m->H; h++)
            memcpy(m->mass + h * m->cap, s->mass + h * count, (size_t)count * sizeof *m->mass);
        return;
    }
    if (start != m->start) {
        m->start = start;
        m->scored = start;
    }
    m->scored = REATTN__MIN(m->scored, n);
}

static void forget(void *state, int64_t n)
{
    blocks *b = state;
    for (int l = 0; l < b->n_layer; l++)
        if (n < b->layers[l].scored) forget_layer(b, &b->layers[l], n);
}

static int64_t anchor(const void *state, int64_t n)
{
    const blocks *b = state;
    int64_t best = 0;
    for (int i = 0; i < SAVED; i++) {
        int64_t at = b->layers[0].saved[i].n;
        /* A step that failed half way has overwritten what the first layers had saved. */
        for (int l = 1; l < b->n_layer; l++)
            if (b->layers[l].saved[i].n != at) at = -1;
        if (at <= n) best = REATTN__MAX(best, at);
    }
    return best;
}

static void destroy(void *state)
{
    blocks *b = state;
    if (!b) return;
    for (int l = 0; b->layers && l < b->n_layer; l++) {
        free(b->layers[l].mass);
        free(b->layers[l].reps);
        for (int i = 0; i < SAVED; i++) free(b->layers[l].saved[i].mass);
    }
    free(b->layers);
    reattn__buffer *buffers[] = {&b->query, &b->scores, &b->hits, &b->spans};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) reattn__buffer_free(buffers[i]);
    free(b);
}

static int create(const reattn_session_params *params, const reattn__layer *layers, int n_layer, void **state,
                  reattn_error *err)
{
    blocks *b = calloc(1, sizeof *b);
    if (b) b->layers = calloc((size_t)n_layer, sizeof *b->layers);
    if (!b || !b->layers) {
        free(b);
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    }
    b->params = params;
    b->n_layer = n_layer;
    for (int l = 0; l < n_layer; l++) {
        b->layers[l] = (memory){.H = layers[l].H, .Hk = layers[l].Hk, .D = layers[l].D};
        for (int i = 0; i < SAVED; i++) b->layers[l].saved[i].n = -1;
    }
    *state = b;
    return REATTN_OK;
}

static uint64_t bytes_for(const reattn_session_params *p, const reattn__layer *layers, int n_layer, int64_t n,
                          uint64_t *grows)
{
    const int64_t n_block = REATTN__MAX(n - p->local - p->keep, (int64_t)0) / p->recall_span, most = p->recall_max + 1;
    /* The remainder, as it is before and after it is cut to blocks. */
    const int64_t long_rest = p->local + p->recall_span + p->chunk, rest = p->local + p->recall_span;
    uint64_t fixed = 0, buffers = 0;
    *grows = 0;
    for (int l = 0; l < n_layer; l++) {
        const uint64_t H = (uint64_t)layers[l].H, rep = H * (uint64_t)layers[l].D * sizeof(float);
        const uint64_t spans = (uint64_t)(layers[l].Hk * most) * sizeof(reattn_span);
        fixed += H * sizeof(float) * (uint64_t)(long_rest + long_rest / 4 + SAVED * rest) + 16 * rep;
        buffers = REATTN__MAX(buffers, rep + (uint64_t)most * sizeof(reattn_hit) + spans);
        *grows += (uint64_t)(n_block + n_block / 2) * rep; /* as advance takes them */
    }
    *grows += reattn__buffer_room((size_t)n_block * (size_t)layers[0].H * sizeof(double));
    return fixed + reattn__buffer_room(buffers);
}

const reattn__policy reattn__policy_infllm = {
    .info = {"infllm",
             "a window at true distances; the blocks that fit the mean query best, and the first tokens, at one",
             "keeps everything; a step scores one vector a block and head, and attends to G + m*s + L keys",
             "InfLLM, 2402.04617"},
    .options = "keep local recall-k recall-span recall-max recall-per",
    .finite = true,
    .own_local = true,
    .keep = 128,
    .span = 128,
    .max = 16,
    .create = create,
    .destroy = destroy,
    .bytes_for = bytes_for,
    .forget = forget,
    .anchor = anchor,
    .plan = plan_infllm,
    .learn = learn,
};
