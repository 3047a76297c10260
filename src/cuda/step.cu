/* step.cu - the context of a session on a device, and a layer's step. See step.h.
 *
 * The order on the stream: append (and what it means for the window) -> index, seldom -> select -> plan -> attend. In
 * decode that is seven kernels. Which keys were chosen stays on the device; what the host keeps of a window (how many
 * queries, which is the oldest, how far they have searched) does not depend on it. */
#include <stdlib.h>
#include <string.h>

#include "attend.h"
#include "limits.cuh"
#include "plan.h"
#include "planned.cuh"
#include "scan.cuh"
#include "store.h"
#include "turns.h"
extern "C" {
#include "policy/local.h"
}

using namespace reattn_cuda;

namespace
{

enum { SEARCH_FROM = 64 };

/* Scratch on the device that only grows. */
struct buffer {
    void *at;
    size_t bytes;
};

struct layer {
    reattn__layer shape;
    reattn__cuda_layer store;
    reattn__cuda_tier tier; /* if the store is the host's: k is not NULL */
    reattn__cuda_window window;
    reattn_span *spans; /* device, [lists][m] of the last step */
    int32_t *count;     /* device, [lists] keys of the scope, then [lists] numbers of spans */
    int64_t scope;      /* keys of the scope, if the host knows; -1: see count */
    int table;          /* of rotations: which */
};

struct step {       /* what a layer's step is about to do */
    int64_t n, end; /* tokens held after it; end of the middle */
    int64_t last;   /* last tokens in scope */
    bool search, choose, decode;
    int64_t slot; /* of the window that the query goes to, in decode */
    const float *q;
};

} // namespace

struct reattn__cuda_context {
    reattn_session_params params;
    int policy, n_layer, n_table, lists_per_head;
    int host;
    int64_t capacity, room; /* most tokens; most keys of a finite scope */
    layer *layers;
    reattn__cuda_turns *tables;
    planned given;         /* under GIVEN */
    int *bad, *bad_device; /* memory of the host that kernels write to */
    buffer q, hits, select, plan, tokens, near, attend;
};

namespace
{

int need(buffer *b, size_t bytes, cudaStream_t stream, reattn_error *err)
{
    if (bytes <= b->bytes)
        return REATTN_OK;
    void *at = NULL;
    const size_t room = bytes + bytes / 8;
    int code = failed(cudaMalloc(&at, room), "taking scratch", err);
    if (code)
        return code;
    code = failed(cudaStreamSynchronize(stream), "a step", err); /* kernels may still use the old one */
    if (code) {
        cudaFree(at);
        return code;
    }
    cudaFree(b->at);
    *b = {at, room};
    return REATTN_OK;
}

/* Of a step under a finite scope. */
int64_t most_tokens(const reattn__cuda_context *c)
{
    return reattn__most_tokens(&c->params);
}

int lists_of(const reattn__cuda_context *c, const layer *l)
{
    return c->params.recall_per_head ? l->shape.Hk : 1;
}

/* The table of rotations that a layer needs: one that another layer has, or a new one. */
int find_table(reattn__cuda_context *c, layer *l, reattn_error *err)
{
    const bool own = c->policy != REATTN__CUDA_FULL && c->policy != REATTN__CUDA_GIVEN;
    const bool finite = own && c->params.positions == REATTN_POS_REASSIGNED;
    for (l->table = 0; l->table < c->n_table; l->table++)
        if (reattn__cuda_turns_serve(&c->tables[l->table], &l->shape.rope, l->shape.D))
            break;
    reattn__cuda_turns *t = &c->tables[l->table];
    int code = REATTN_OK;
    if (l->table == c->n_table) {
        code = reattn__cuda_turns_open(t, &l->shape.rope, l->shape.D, err);
        c->n_table++;
    }
    l->shape.rope.freq_factors = NULL; /* the caller's; the table has its own */
    return code ? code : reattn__cuda_turns_need(t, finite ? c->room : 4096, NULL, err);
}

/* ------------------------------------------------------------------------------------- create and free --------- */

int open_layer(reattn__cuda_context *c, const reattn__cuda_context_args *a, int i, reattn_error *err)
{
    layer *l = &c->layers[i];
    const reattn_session_params *p = &c->params;
    const bool recalls = a->policy == REATTN__CUDA_REATTENTION;
    l->shape = a->layers[i];
    l->store.Hk = l->shape.Hk, l->store.D = l->shape.D, l->store.type = a->type;
    l->store.plane = a->plane || a->host, l->store.first = recalls ? p->keep : -1;
    int code = find_table(c, l, err);
    if (code == REATTN_OK && a->host) {
        l->tier = reattn__cuda_tier_for(a, i);
        code = reattn__cuda_tier_open(&l->tier, err);
        l->store.tier = &l->tier;
    }
    if (code == REATTN_OK)
        code = reattn__cuda_layer_open(&l->store, c->capacity, err);
    if (code || !recalls)
        return code;
    const int64_t R = p->recall_window, H = l->shape.H, lists = lists_of(c, l);
    cudaError_t made = cudaMalloc((void **)&l->window.x, sizeof(float) * R * H * l->shape.D);
    if (made == cudaSuccess)
        made = cudaMalloc((void **)&l->window.hits, sizeof(reattn_hit) * R * H * p->recall_k);
    if (made == cudaSuccess)
        made = cudaMalloc((void **)&l->spans, sizeof(reattn_span) * lists * (p->recall_max + 1));
    if (made == cudaSuccess)
        made = cudaMalloc((void **)&l->count, sizeof(int32_t) * 2 * lists);
    if (made == cudaSuccess)
        made = cudaMemset(l->count, 0, sizeof(int32_t) * 2 * lists);
    return failed(made, "taking memory for the recall window", err);
}

} // namespace

extern "C" int reattn__cuda_context_create(const reattn__cuda_context_args *args, reattn__cuda_context **out,
                                           reattn_error *err)
{
    int code = check_context(args, err);
    if (code)
        return code;
    reattn__cuda_context *c = (reattn__cuda_context *)calloc(1, sizeof *c);
    if (c) {
        c->layers = (layer *)calloc((size_t)args->n_layer, sizeof *c->layers);
        c->tables = (reattn__cuda_turns *)calloc((size_t)args->n_layer, sizeof *c->tables);
    }
    if (!c || !c->layers || !c->tables) {
        reattn__cuda_context_free(c);
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    }
    c->params = *args->params;
    c->policy = args->policy;
    c->n_layer = args->n_layer;
    c->host = args->host;
    c->room = c->params.keep + reattn__last_tokens(&c->params, most_tokens(c));
    if (c->policy == REATTN__CUDA_REATTENTION)
        c->room += c->params.recall_max * c->params.recall_span;
    c->capacity = args->capacity ? args->capacity : fill_device(args);
    code = failed(cudaHostAlloc((void **)&c->bad, sizeof *c->bad, cudaHostAllocMapped), "taking a flag", err);
    if (code == REATTN_OK) {
        *c->bad = 0;
        code = failed(cudaHostGetDevicePointer((void **)&c->bad_device, c->bad, 0), "taking a flag", err);
    }
    for (int i = 0; i < args->n_layer && code == REATTN_OK; i++)
        code = open_layer(c, args, i, err);
    if (code == REATTN_OK && c->policy == REATTN__CUDA_GIVEN)
        code = open_planned(&c->given, args->layers, args->n_layer, err);
    if (code == REATTN_OK) /* the tables: steps come on other streams */
        code = failed(cudaStreamSynchronize(NULL), "making rotations", err);
    if (code) {
        reattn__cuda_context_free(c);
        return code;
    }
    *out = c;
    return REATTN_OK;
}

extern "C" void reattn__cuda_context_free(reattn__cuda_context *c)
{
    if (!c)
        return;
    cudaDeviceSynchronize();
    for (int i = 0; c->layers && i < c->n_layer; i++) {
        layer *l = &c->layers[i];
        reattn__cuda_layer_close(&l->store);
        reattn__cuda_tier_close(&l->tier);
        cudaFree(l->window.x);
        cudaFree(l->window.hits);
        cudaFree(l->spans);
        cudaFree(l->count);
    }
    for (int i = 0; i < c->n_table; i++)
        reattn__cuda_turns_close(&c->tables[i]);
    close_planned(&c->given);
    buffer *buffers[] = {&c->q, &c->hits, &c->select, &c->plan, &c->tokens, &c->near, &c->attend};
    for (buffer *b : buffers)
        cudaFree(b->at);
    cudaFreeHost(c->bad);
    free(c->layers);
    free(c->tables);
    free(c);
}

extern "C" uint64_t reattn__cuda_context_bytes(const reattn__cuda_context *c, uint64_t *host)
{
    const buffer *buffers[] = {&c->q, &c->hits, &c->select, &c->plan, &c->tokens, &c->near, &c->attend};
    uint64_t bytes = planned_bytes(&c->given);
    if (host)
        *host = 0;
    for (const buffer *b : buffers)
        bytes += b->bytes;
    for (int i = 0; i < c->n_table; i++)
        bytes += sizeof(float) * c->tables[i].room * c->tables[i].D;
    for (int i = 0; i < c->n_layer; i++) {
        const layer *l = &c->layers[i];
        bytes += reattn__cuda_layer_bytes(&l->store) + (c->host ? reattn__cuda_tier_bytes(&l->tier) : 0);
        if (host)
            *host += reattn__cuda_layer_host_bytes(&l->store);
        if (l->window.x)
            bytes += c->params.recall_window * l->shape.H *
                     (sizeof(float) * l->shape.D + sizeof(reattn_hit) * c->params.recall_k);
    }
    return bytes;
}

/* --------------------------------------------------------------------------------------------- tokens ---------- */

extern "C" int reattn__cuda_reserve(reattn__cuda_context *c, int64_t n, void *stream, reattn_error *err)
{
    uint64_t bytes = 0, host = 0;
    if (n > c->capacity)
        return reattn__fail(err, REATTN_E_LIMIT, "the text reaches %lld tokens, the limit on this GPU is %lld",
                            (long long)n, (long long)c->capacity);
    for (int i = 0; i < c->n_layer; i++) {
        uint64_t far;
        bytes += reattn__cuda_layer_bytes_for(&c->layers[i].store, n, &far);
        host += far;
    }
    bytes = c->host ? host : bytes; /* the one that grows with the text most */
    if (c->params.mem_limit > 0 && bytes > (uint64_t)c->params.mem_limit)
        return reattn__fail(err, REATTN_E_LIMIT, "%lld tokens need %llu bytes of keys and values, mem-limit is %lld",
                            (long long)n, (unsigned long long)bytes, (long long)c->params.mem_limit);
    int code = REATTN_OK;
    for (int i = 0; i < c->n_layer && code == REATTN_OK; i++)
        code = reattn__cuda_layer_reserve(&c->layers[i].store, n, stream, err);
    return code;
}

extern "C" int reattn__cuda_traffic(const reattn__cuda_context *c, int layer, uint64_t *scored, uint64_t *brought,
                                    void *stream, reattn_error *err)
{
    return reattn__cuda_tier_traffic(&c->layers[layer].tier, scored, brought, stream, err);
}

extern "C" int64_t reattn__cuda_length(const reattn__cuda_context *c, int layer)
{
    return c->layers[layer].store.n;
}

extern "C" int reattn__cuda_rewind(reattn__cuda_context *c, int64_t n, reattn_error *err)
{
    if (n < 0)
        return reattn__fail(err, REATTN_E_ARG, "rewind to %lld tokens", (long long)n);
    for (int i = 0; i < c->n_layer; i++) {
        reattn__cuda_layer_rewind(&c->layers[i].store, n);
        reattn__cuda_tier_rewind(&c->layers[i].tier, n);
        c->layers[i].window.n = c->layers[i].window.oldest = 0;
    }
    return REATTN_OK;
}

extern "C" int reattn__cuda_check(reattn__cuda_context *c, void *stream, reattn_error *err)
{
    int code = failed(cudaStreamSynchronize((cudaStream_t)stream), "a step", err);
    const int bad = *(volatile int *)c->bad;
    if (code || !bad)
        return code;
    static const char *const what[] = {"", "query", "key", "value"};
    *c->bad = 0;
    return reattn__fail(err, REATTN_E_NAN,
                        "layer %d gave a %s that is not finite, or too large for how it is stored: the "
                        "model or its file is damaged",
                        bad / 4, what[bad % 4]);
}

extern "C" int reattn__cuda_spans(reattn__cuda_context *c, int number, int list, reattn_span *spans, int64_t cap,
                                  int64_t *n_span, int64_t *n_scope, void *stream, reattn_error *err)
{
    const layer *l = &c->layers[number];
    const int lists = lists_of(c, l);
    int32_t n[2] = {(int32_t)l->scope, 0};
    cudaStream_t on = (cudaStream_t)stream;
    cudaError_t code = cudaSuccess;
    if (l->scope < 0) {
        code = cudaMemcpyAsync(&n[0], l->count + list, sizeof n[0], cudaMemcpyDeviceToHost, on);
        if (code == cudaSuccess)
            code = cudaMemcpyAsync(&n[1], l->count + lists + list, sizeof n[1], cudaMemcpyDeviceToHost, on);
        if (code == cudaSuccess)
            code = cudaStreamSynchronize(on);
    }
    const int64_t read = n[1] < cap ? n[1] : cap;
    if (code == cudaSuccess && read > 0)
        code = cudaMemcpyAsync(spans, l->spans + list * c->params.recall_max, sizeof *spans * read,
                               cudaMemcpyDeviceToHost, on);
    if (code == cudaSuccess)
        code = cudaStreamSynchronize(on);
    *n_span = n[1];
    if (n_scope)
        *n_scope = n[0];
    return failed(code, "reading a plan", err);
}

/* ----------------------------------------------------------------------------------------------- step ---------- */

namespace
{

int check_step(const reattn__cuda_context *c, const reattn__cuda_step_args *a, reattn_error *err)
{
    if (a->layer < 0 || a->layer >= c->n_layer || a->T < 1 || (a->decode && a->T != 1) || !a->k.data || !a->v.data ||
        (a->out && !a->q.data))
        return reattn__fail(err, REATTN_E_ARG, "a step of layer %d with %lld tokens: out of range", a->layer,
                            (long long)a->T);
    if (c->policy == REATTN__CUDA_GIVEN) {
        if (a->out && (!a->plan || a->plan->n_list < 1))
            return reattn__fail(err, REATTN_E_ARG, "a step of layer %d without a plan", a->layer);
        return REATTN_OK;
    }
    if (c->policy != REATTN__CUDA_FULL && a->T > most_tokens(c))
        return reattn__fail(err, REATTN_E_ARG, "a step of %lld tokens is longer than %lld", (long long)a->T,
                            (long long)most_tokens(c));
    return REATTN_OK;
}

/* The text is short enough to be attended to whole. */
bool whole(const reattn__cuda_context *c, const step *s)
{
    if (c->policy == REATTN__CUDA_FULL || s->n <= c->params.keep + s->last)
        return true;
    return c->policy == REATTN__CUDA_REATTENTION && s->n <= c->params.recall_from;
}

/* What will happen, as plan_reattention decides it. */
step look_ahead(const reattn__cuda_context *c, const layer *l, const reattn__cuda_step_args *a)
{
    const reattn_session_params *p = &c->params;
    const reattn__cuda_window *w = &l->window;
    step s = {};
    s.n = l->store.n + a->T;
    s.last = reattn__last_tokens(p, a->T);
    s.decode = a->decode;
    if (c->policy != REATTN__CUDA_REATTENTION || !a->out)
        return s;
    const bool now = p->recall_when == REATTN_WHEN_ALWAYS || (p->recall_when == REATTN_WHEN_DECODE) == (a->decode != 0);
    s.end = now && !whole(c, &s) ? s.n - s.last : p->keep;
    s.search = (!a->decode || now) && p->recall_max > 0; /* a window is kept, be the middle empty or not */
    s.choose = s.search && s.end > p->keep;
    s.slot = w->n < p->recall_window ? w->n : w->oldest;
    return s;
}

int append(reattn__cuda_context *c, layer *l, const reattn__cuda_step_args *a, step *s, cudaStream_t stream,
           reattn_error *err)
{
    const int H = l->shape.H, row = H * l->shape.D;
    const int64_t R = c->params.recall_window;
    reattn__cuda_append_args args = {};
    args.layer = &l->store, args.q = a->q, args.k = a->k, args.v = a->v, args.T = a->T, args.H = a->out ? H : 0;
    args.number = a->layer, args.bad = c->bad_device, args.skip = -1, args.top_k = (int)c->params.recall_k;
    if (s->search && s->decode) {
        args.q_out = l->window.x + s->slot * row;
        args.skip = l->window.n == R ? s->slot : -1;
        args.upto = s->end - l->store.first;
        args.window = l->window.upto > 0 || args.upto <= SEARCH_FROM ? &l->window : NULL;
    } else {
        int code = need(&c->q, sizeof(float) * a->T * row, stream, err);
        if (code)
            return code;
        args.q_out = (float *)c->q.at;
        args.forget = a->T > R ? a->T - R : 0;
        args.remember = s->search ? l->window.x : NULL;
    }
    s->q = args.q_out;
    return reattn__cuda_append(&args, stream, err);
}

int search(reattn__cuda_context *c, layer *l, const step *s, const float *q, int64_t T, reattn_hit *hits,
           cudaStream_t stream, reattn_error *err)
{
    reattn__cuda_select_args args = {};
    int code = reattn__cuda_layer_keys(&l->store, s->end, &args.keys, stream, err);
    if (code)
        return code;
    args.q = q, args.hits = hits, args.T = T, args.H = l->shape.H, args.top_k = (int)c->params.recall_k;
    args.plane = args.keys.plane;
    code = need(&c->select, reattn__cuda_select_bytes(&args), stream, err);
    args.work = c->select.at, args.work_bytes = c->select.bytes;
    return code ? code : reattn__cuda_select(&args, stream, err);
}

/* Hits of this step's queries and of the window; *hits and *n_query say who votes. */
int find(reattn__cuda_context *c, layer *l, const step *s, int64_t T, const reattn_hit **hits, int64_t *n_query,
         cudaStream_t stream, reattn_error *err)
{
    reattn__cuda_window *w = &l->window;
    const int64_t R = c->params.recall_window, list = (int64_t)l->shape.H * c->params.recall_k,
                  M = s->end - l->store.first;
    int code = REATTN_OK;
    if (s->decode) {
        reattn_hit *mine = w->hits + s->slot * list;
        if (w->n > 0 && w->upto == 0 && M > SEARCH_FROM) /* no search was made for the window so far */
            code = search(c, l, s, w->x, w->n, w->hits, stream, err);
        if (code == REATTN_OK)
            code = M > 0 ? search(c, l, s, s->q, 1, mine, stream, err)
                         : failed(cudaMemsetAsync(mine, 0xff, sizeof *mine * list, stream), "clearing hits", err);
        *hits = w->hits;
        *n_query = w->n < R ? w->n + 1 : R;
        return code;
    }
    const int64_t add = T < R ? T : R;
    if (M == 0)
        return failed(cudaMemsetAsync(w->hits, 0xff, sizeof *w->hits * add * list, stream), "clearing hits", err);
    code = need(&c->hits, sizeof(reattn_hit) * T * list, stream, err);
    if (code == REATTN_OK)
        code = search(c, l, s, s->q, T, (reattn_hit *)c->hits.at, stream, err);
    *hits = (const reattn_hit *)c->hits.at;
    *n_query = T;
    return code ? code
                : failed(cudaMemcpyAsync(w->hits, *hits + (T - add) * list, sizeof **hits * add * list,
                                         cudaMemcpyDeviceToDevice, stream),
                         "keeping hits", err);
}

int choose(reattn__cuda_context *c, layer *l, const step *s, const reattn_hit *hits, int64_t n_query,
           reattn__cuda_scope *scope, cudaStream_t stream, reattn_error *err)
{
    const reattn_session_params *p = &c->params;
    reattn__cuda_plan_args args = {};
    args.hits = hits, args.n_query = n_query, args.fresh = s->decode ? s->slot : 0;
    args.n_fresh = s->decode ? 1 : n_query, args.H = l->shape.H, args.top_k = (int)p->recall_k;
    args.lists = lists_of(c, l), args.vote = p->recall_vote, args.scale = l->shape.kq_scale;
    args.m = p->recall_max, args.span = p->recall_span, args.n = s->n, args.keep = p->keep, args.local = s->last;
    args.along = s->decode; /* attention to the last tokens */
    int code = need(&c->tokens, sizeof(int32_t) * args.lists * c->room, stream, err);
    if (code == REATTN_OK)
        code = need(&c->plan, reattn__cuda_plan_bytes(&args), stream, err);
    args.tokens = (int32_t *)c->tokens.at, args.room = c->room, args.count = l->count, args.spans = l->spans;
    args.n_span = l->count + args.lists, args.work = c->plan.at, args.work_bytes = c->plan.bytes;
    scope->tokens = args.tokens, scope->count = args.count, scope->room = c->room, scope->lists = args.lists;
    scope->most = c->room < s->n ? c->room : s->n;
    scope->sure = s->last;
    scope->likely = l->spans, scope->n_likely = args.n_span, scope->likely_room = p->recall_max;
    return code ? code : reattn__cuda_plan(&args, stream, err);
}

/* First and last tokens, or all. */
void scope_without(const reattn__cuda_context *c, const step *s, reattn__cuda_scope *scope)
{
    const int64_t keep = c->params.keep, local = s->last;
    const bool all = whole(c, s);
    scope->lists = 1;
    scope->head = all ? s->n : keep;
    scope->skip = all ? 0 : s->n - local - keep;
    scope->most = all ? s->n : keep + local;
}

void place_output(const layer *l, const reattn__cuda_step_args *a, int64_t *stride_token, int64_t *stride_head)
{
    const bool dense = !a->out_stride_token && !a->out_stride_head;
    *stride_token = dense ? (int64_t)l->shape.H * l->shape.D : a->out_stride_token;
    *stride_head = dense ? l->shape.D : a->out_stride_head;
}

int attend(reattn__cuda_context *c, layer *l, const reattn__cuda_step_args *a, const step *s, reattn__cuda_scope *scope,
           cudaStream_t stream, reattn_error *err)
{
    reattn__cuda_turns *t = &c->tables[l->table];
    int code = reattn__cuda_turns_need(t, scope->original ? s->n : scope->most, stream, err);
    if (code == REATTN_OK && c->host)
        code = need(&c->near, reattn__cuda_tier_scratch(&l->tier), stream, err);
    if (code == REATTN_OK && c->host)
        code = reattn__cuda_tier_bring(&l->tier, &l->store, scope, c->near.at, stream, err);
    if (code)
        return code;
    reattn__cuda_attend_args args = {};
    args.q = s->q, args.type = l->store.type;
    args.k = c->host ? l->tier.k : l->store.k.at, args.v = c->host ? l->tier.v : l->store.v.at;
    args.H = l->shape.H, args.Hk = l->shape.Hk, args.D = l->shape.D, args.T = a->T, args.n = s->n;
    args.scale = l->shape.kq_scale, args.cs = t->cs, args.neox = t->rope.kind == REATTN_ROPE_NEOX;
    args.n_rot = t->rope.n_rot, args.scope = *scope, args.out = a->out;
    place_output(l, a, &args.out_stride_token, &args.out_stride_head);
    code = need(&c->attend, reattn__cuda_attend_bytes(&args), stream, err);
    args.work = c->attend.at, args.work_bytes = c->attend.bytes;
    return code ? code : reattn__cuda_attend(&args, stream, err);
}

/* Attention as the plan of the step has it. */
int attend_planned(reattn__cuda_context *c, layer *l, const reattn__cuda_step_args *a, const step *s,
                   cudaStream_t stream, reattn_error *err)
{
    reattn__cuda_runs_args args = {};
    int code =
        ready_planned(&c->given, a->plan, &l->shape, &c->tables[l->table], l->table, a->T, s->n, &args, stream, err);
    if (code)
        return code;
    args.q = s->q, args.k = l->store.k.at, args.v = l->store.v.at, args.type = l->store.type;
    place_output(l, a, &args.out_stride_token, &args.out_stride_head);
    args.out = a->out;
    code = need(&c->attend, reattn__cuda_runs_scratch(&args), stream, err);
    args.work = c->attend.at, args.work_bytes = c->attend.bytes;
    l->scope = reattn__cuda_runs_seen(c->given.runs);
    return code ? code : reattn__cuda_runs_attend(&args, stream, err);
}

int run(reattn__cuda_context *c, layer *l, const reattn__cuda_step_args *a, step *s, cudaStream_t stream,
        reattn_error *err)
{
    const reattn_hit *hits = NULL;
    int64_t n_query = 0;
    int code = c->host ? reattn__cuda_tier_ready(&l->tier, &l->store, a->T, stream, err) : REATTN_OK;
    if (code == REATTN_OK)
        code = append(c, l, a, s, stream, err);
    l->store.n = s->n;
    if (code || !a->out)
        return code;
    if (c->policy == REATTN__CUDA_GIVEN)
        return attend_planned(c, l, a, s, stream, err);
    reattn__cuda_scope scope = {};
    scope.original = c->params.positions == REATTN_POS_ORIGINAL && c->policy != REATTN__CUDA_FULL;
    if (s->search)
        code = find(c, l, s, a->T, &hits, &n_query, stream, err);
    if (code == REATTN_OK && s->choose)
        code = choose(c, l, s, hits, n_query, &scope, stream, err);
    if (!s->choose)
        scope_without(c, s, &scope);
    if (code == REATTN_OK)
        code = attend(c, l, a, s, &scope, stream, err);
    if (code == REATTN_OK)
        l->scope = s->choose ? -1 : scope.most;
    return code;
}

/* The window as it is after the step. */
void remember(const reattn__cuda_context *c, layer *l, const step *s, int64_t T)
{
    reattn__cuda_window *w = &l->window;
    const int64_t R = c->params.recall_window;
    if (!s->search)
        return;
    if (!s->decode) {
        w->n = T < R ? T : R;
        w->oldest = 0;
    } else if (w->n < R) {
        w->n++;
    } else {
        w->oldest = (w->oldest + 1) % R;
    }
    w->upto = s->end - l->store.first;
}

} // namespace

extern "C" int reattn__cuda_step(reattn__cuda_context *c, const reattn__cuda_step_args *args, void *stream,
                                 reattn_error *err)
{
    int code = check_step(c, args, err);
    if (code)
        return code;
    layer *l = &c->layers[args->layer];
    const int64_t before = l->store.n;
    step s = look_ahead(c, l, args);
    if (s.n > c->capacity)
        return reattn__fail(err, REATTN_E_LIMIT, "the text reaches %lld tokens, the limit on this GPU is %lld",
                            (long long)s.n, (long long)c->capacity);
    code = reattn__cuda_layer_reserve(&l->store, s.n, stream, err);
    if (code == REATTN_OK)
        code = run(c, l, args, &s, (cudaStream_t)stream, err);
    if (code) {
        reattn__cuda_layer_rewind(&l->store, before);
        reattn__cuda_tier_rewind(&l->tier, before);
    } else {
        remember(c, l, &s, args->T);
    }
    return code;
}
