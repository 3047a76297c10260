/* context.cu - the context of a session on a device: what it takes, holds and gives back. See step.h. */
#include "context.cuh"

#include <stdlib.h>

using namespace reattn_cuda;

namespace reattn_cuda
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

int64_t most_tokens(const reattn__cuda_context *c)
{
    return reattn__most_tokens(&c->params);
}

int lists_of(const reattn__cuda_context *c, const layer *l)
{
    return c->params.recall_per_head ? l->shape.Hk : 1;
}

} // namespace reattn_cuda

namespace
{

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
