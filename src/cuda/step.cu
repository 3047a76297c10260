/* step.cu - a layer's step. See step.h.
 *
 * The order on the stream: append (and what it means for the window) -> index, seldom -> select -> plan -> attend. In
 * decode that is seven kernels, which step_many.cu queues for several sessions at once. Which keys were chosen stays on
 * the device; what the host keeps of a window (how many queries, which is the oldest, how far they have searched) does
 * not depend on it. */
#include "context.cuh"

using namespace reattn_cuda;

namespace
{

enum { SEARCH_FROM = 64 };

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
step plan_ahead(const reattn__cuda_context *c, const layer *l, const reattn__cuda_step_args *a)
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

} // namespace

int reattn_cuda::look_ahead(reattn__cuda_context *c, const reattn__cuda_step_args *a, step *s, cudaStream_t stream,
                            reattn_error *err)
{
    int code = check_step(c, a, err);
    if (code)
        return code;
    layer *l = &c->layers[a->layer];
    *s = plan_ahead(c, l, a);
    if (s->n > c->capacity)
        return reattn__fail(err, REATTN_E_LIMIT, "the text reaches %lld tokens, the limit on this GPU is %lld",
                            (long long)s->n, (long long)c->capacity);
    return reattn__cuda_layer_reserve(&l->store, s->n, stream, err);
}

int reattn_cuda::arrange_append(reattn__cuda_context *c, layer *l, const reattn__cuda_step_args *a, step *s,
                                reattn__cuda_append_args *to, cudaStream_t stream, reattn_error *err)
{
    const int H = l->shape.H, row = H * l->shape.D;
    const int64_t R = c->params.recall_window;
    reattn__cuda_append_args &args = *to;
    args = reattn__cuda_append_args{};
    args.layer = &l->store, args.q = a->q, args.k = a->k, args.v = a->v, args.T = a->T, args.H = a->out ? H : 0;
    args.number = a->layer, args.bad = c->bad_device, args.skip = -1, args.top_k = (int)c->params.recall_k;
    if (s->search && s->decode) {
        args.q_out = l->window.x + s->slot * row;
        args.skip = l->window.n == R ? s->slot : -1;
        args.upto = s->end - l->store.first;
        args.none = args.upto > 0 ? NULL : hits_of_query(c, l, s);
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
    return REATTN_OK;
}

int reattn_cuda::arrange_search(reattn__cuda_context *c, layer *l, const step *s, const float *q, int64_t T,
                                reattn_hit *hits, reattn__cuda_select_args *to, cudaStream_t stream, reattn_error *err)
{
    reattn__cuda_select_args &args = *to;
    args = reattn__cuda_select_args{};
    int code = reattn__cuda_layer_keys(&l->store, s->end, &args.keys, stream, err);
    if (code)
        return code;
    args.q = q, args.hits = hits, args.T = T, args.H = l->shape.H, args.top_k = (int)c->params.recall_k;
    args.plane = args.keys.plane;
    code = need(&c->select, reattn__cuda_select_bytes(&args), stream, err);
    args.work = c->select.at, args.work_bytes = c->select.bytes;
    return code;
}

reattn_hit *reattn_cuda::hits_of_query(const reattn__cuda_context *c, const layer *l, const step *s)
{
    return l->window.hits + s->slot * l->shape.H * c->params.recall_k;
}

bool reattn_cuda::window_is_late(const layer *l, const step *s)
{
    return l->window.n > 0 && l->window.upto == 0 && s->end - l->store.first > SEARCH_FROM;
}

namespace
{

int search(reattn__cuda_context *c, layer *l, const step *s, const float *q, int64_t T, reattn_hit *hits,
           cudaStream_t stream, reattn_error *err)
{
    reattn__cuda_select_args args;
    int code = arrange_search(c, l, s, q, T, hits, &args, stream, err);
    return code ? code : reattn__cuda_select(&args, stream, err);
}

/* Looks for this step's queries, and keeps the window's hits. Where there is nothing to search, append has said so to a
 * query of decode. */
int find(reattn__cuda_context *c, layer *l, const step *s, int64_t T, cudaStream_t stream, reattn_error *err)
{
    reattn__cuda_window *w = &l->window;
    const int64_t R = c->params.recall_window, list = (int64_t)l->shape.H * c->params.recall_k,
                  M = s->end - l->store.first;
    int code = REATTN_OK;
    if (s->decode) {
        if (window_is_late(l, s))
            code = search(c, l, s, w->x, w->n, w->hits, stream, err);
        return code || M == 0 ? code : search(c, l, s, s->q, 1, hits_of_query(c, l, s), stream, err);
    }
    const int64_t add = T < R ? T : R;
    if (M == 0)
        return failed(cudaMemsetAsync(w->hits, 0xff, sizeof *w->hits * add * list, stream), "clearing hits", err);
    code = need(&c->hits, sizeof(reattn_hit) * T * list, stream, err);
    reattn_hit *hits = (reattn_hit *)c->hits.at;
    if (code == REATTN_OK)
        code = search(c, l, s, s->q, T, hits, stream, err);
    return code ? code
                : failed(cudaMemcpyAsync(w->hits, hits + (T - add) * list, sizeof *hits * add * list,
                                         cudaMemcpyDeviceToDevice, stream),
                         "keeping hits", err);
}

void place_output(const layer *l, const reattn__cuda_step_args *a, int64_t *stride_token, int64_t *stride_head)
{
    const bool dense = !a->out_stride_token && !a->out_stride_head;
    *stride_token = dense ? (int64_t)l->shape.H * l->shape.D : a->out_stride_token;
    *stride_head = dense ? l->shape.D : a->out_stride_head;
}

} // namespace

reattn__cuda_scope reattn_cuda::scope_ahead(const reattn__cuda_context *c, const step *s)
{
    const int64_t keep = c->params.keep, local = s->last;
    const bool all = whole(c, s);
    reattn__cuda_scope scope = {};
    scope.original = c->params.positions == REATTN_POS_ORIGINAL && c->policy != REATTN__CUDA_FULL;
    if (s->choose)
        return scope;
    scope.lists = 1;
    scope.head = all ? s->n : keep;
    scope.skip = all ? 0 : s->n - local - keep;
    scope.most = all ? s->n : keep + local;
    return scope;
}

int reattn_cuda::arrange_plan(reattn__cuda_context *c, layer *l, const step *s, int64_t T, reattn__cuda_scope *scope,
                              reattn__cuda_plan_args *to, cudaStream_t stream, reattn_error *err)
{
    const reattn_session_params *p = &c->params;
    reattn__cuda_plan_args &args = *to;
    args = reattn__cuda_plan_args{};
    if (s->decode) /* the window votes */
        args.hits = l->window.hits, args.n_query = REATTN__MIN(l->window.n + 1, p->recall_window), args.fresh = s->slot;
    else
        args.hits = (const reattn_hit *)c->hits.at, args.n_query = T;
    args.n_fresh = T, args.H = l->shape.H, args.top_k = (int)p->recall_k;
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
    return code;
}

int reattn_cuda::arrange_attention(reattn__cuda_context *c, layer *l, const reattn__cuda_step_args *a, const step *s,
                                   const reattn__cuda_scope *scope, int among, reattn__cuda_attend_args *to,
                                   cudaStream_t stream, reattn_error *err)
{
    reattn__cuda_turns *t = &c->tables[l->table];
    int code = reattn__cuda_turns_need(t, scope->original ? s->n : scope->most, stream, err);
    if (code)
        return code;
    reattn__cuda_attend_args &args = *to;
    args = reattn__cuda_attend_args{};
    args.among = among;
    args.q = s->q, args.type = l->store.type;
    args.k = c->host ? l->tier.k : l->store.k.at, args.v = c->host ? l->tier.v : l->store.v.at;
    args.H = l->shape.H, args.Hk = l->shape.Hk, args.D = l->shape.D, args.T = a->T, args.n = s->n;
    args.scale = l->shape.kq_scale, args.cs = t->cs, args.neox = t->rope.kind == REATTN_ROPE_NEOX;
    args.n_rot = t->rope.n_rot, args.scope = *scope, args.out = a->out;
    place_output(l, a, &args.out_stride_token, &args.out_stride_head);
    code = need(&c->attend, reattn__cuda_attend_bytes(&args), stream, err);
    args.work = c->attend.at, args.work_bytes = c->attend.bytes;
    return code;
}

namespace
{

int attend(reattn__cuda_context *c, layer *l, const reattn__cuda_step_args *a, const step *s, reattn__cuda_scope *scope,
           cudaStream_t stream, reattn_error *err)
{
    reattn__cuda_attend_args args;
    int code = c->host ? need(&c->near, reattn__cuda_tier_scratch(&l->tier), stream, err) : REATTN_OK;
    if (code == REATTN_OK && c->host)
        code = reattn__cuda_tier_bring(&l->tier, &l->store, scope, c->near.at, stream, err);
    if (code == REATTN_OK)
        code = arrange_attention(c, l, a, s, scope, 1, &args, stream, err);
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
    int code = c->host ? reattn__cuda_tier_ready(&l->tier, &l->store, a->T, stream, err) : REATTN_OK;
    reattn__cuda_append_args rows;
    if (code == REATTN_OK)
        code = arrange_append(c, l, a, s, &rows, stream, err);
    if (code == REATTN_OK)
        code = reattn__cuda_append(&rows, stream, err);
    l->store.n = s->n;
    if (code || !a->out)
        return code;
    if (c->policy == REATTN__CUDA_GIVEN)
        return attend_planned(c, l, a, s, stream, err);
    reattn__cuda_scope scope = scope_ahead(c, s);
    if (s->search)
        code = find(c, l, s, a->T, stream, err);
    if (code == REATTN_OK && s->choose) {
        reattn__cuda_plan_args args;
        code = arrange_plan(c, l, s, a->T, &scope, &args, stream, err);
        code = code ? code : reattn__cuda_plan(&args, stream, err);
    }
    if (code == REATTN_OK)
        code = attend(c, l, a, s, &scope, stream, err);
    if (code == REATTN_OK)
        l->scope = s->choose ? -1 : scope.most;
    return code;
}

} // namespace

void reattn_cuda::remember(const reattn__cuda_context *c, layer *l, const step *s, int64_t T)
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

extern "C" int reattn__cuda_step(reattn__cuda_context *c, const reattn__cuda_step_args *args, void *stream,
                                 reattn_error *err)
{
    step s;
    int code = look_ahead(c, args, &s, (cudaStream_t)stream, err);
    if (code)
        return code;
    layer *l = &c->layers[args->layer];
    const int64_t before = l->store.n;
    code = run(c, l, args, &s, (cudaStream_t)stream, err);
    if (code) {
        reattn__cuda_layer_rewind(&l->store, before);
        reattn__cuda_tier_rewind(&l->tier, before);
    } else {
        remember(c, l, &s, args->T);
    }
    return code;
}
