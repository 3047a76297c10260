/* cuda.c - device.h on src/cuda: a context, a stream and some memory for each device that has layers. */
#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/plan.h"
#include "cuda/step.h"
#include "device.h"
#include "policy/policy.h"

enum { PARTS = 3 };

typedef struct memory {
    void *data;
    size_t bytes;
} memory;

typedef struct unit {
    int device, first; /* its first layer */
    cudaStream_t stream;
    cudaStream_t on; /* where the last step was queued: its own stream, or another unit's */
    reattn__cuda_context *context;
    memory parts[PARTS], out;
} unit;

struct reattn__device {
    int n_layer, n_unit;
    reattn__layer *layers; /* [n_layer] */
    int *unit_of, *index;  /* [n_layer] the unit of a layer (-1: none) and its number there */
    unit *units;           /* [n_unit] */
};

static int failed(cudaError_t code, const char *what, reattn_error *err)
{
    int as = code == cudaErrorMemoryAllocation ? REATTN_E_NOMEM : REATTN_E_INTERNAL;
    return reattn__fail(err, as, "CUDA, %s: %s", what, cudaGetErrorString(code));
}

static int device_of(const void *data)
{
    struct cudaPointerAttributes at;
    if (!data || cudaPointerGetAttributes(&at, data) != cudaSuccess) {
        cudaGetLastError(); /* no driver, or no such memory: an answer, not an error */
        return -1;
    }
    return at.type == cudaMemoryTypeDevice ? at.device : -1;
}

static uint64_t free_bytes(int device)
{
    size_t unused = 0, total = 0;
    if (cudaSetDevice(device) != cudaSuccess || cudaMemGetInfo(&unused, &total) != cudaSuccess) {
        cudaGetLastError(); /* an answer, not an error */
        return 0;
    }
    return unused;
}

/* ---------------------------------------------------------------------------------------- create, free ------- */

static int policy_of(const reattn_session_params *p)
{
    switch (reattn__policy_find(p->policy)->planner) {
    case REATTN__PLANS_RECALL:
        return REATTN__CUDA_REATTENTION;
    case REATTN__PLANS_ENDS:
        return REATTN__CUDA_STREAMING;
    case REATTN__PLANS_ALL:
        return REATTN__CUDA_FULL;
    case REATTN__PLANS_FROM_LENGTHS:
        return REATTN__CUDA_GIVEN;
    case REATTN__PLANS_FROM_STORE:
        break;
    }
    return -1;
}

static const char *refuses(const reattn__device_args *a)
{
    const reattn_session_params *p = a->params;
    int policy = policy_of(p);
    if (policy < 0)
        return "the policy plans by what is in the store, which it cannot read on a GPU";
    if (p->type_k != REATTN_SPLIT && p->type_k != REATTN_F16)
        return "-ctk: only split and f16 keys are kept on a GPU";
    if (p->type_v != REATTN_F16)
        return "-ctv: only f16 values are kept on a GPU";
    if (p->store == REATTN_STORE_HOST && policy != REATTN__CUDA_REATTENTION && policy != REATTN__CUDA_STREAMING)
        return "--store host: only under reattention and streaming, whose scope does not grow with the text";
    if (policy == REATTN__CUDA_REATTENTION && p->recall_type != REATTN_RECALL_QK)
        return "--recall-type: only qk on a GPU";
    if (policy == REATTN__CUDA_REATTENTION && p->recall_k > 32)
        return "--recall-k: at most 32 on a GPU";
    if (policy == REATTN__CUDA_REATTENTION && p->recall_max > REATTN__CUDA_SPANS_MAX)
        return "--recall-max: at most 4096 on a GPU";
    for (int l = 0; l < a->n_layer; l++) {
        const reattn__layer *s = &a->layers[l];
        if (a->device[l] < 0)
            continue;
        if (s->D != s->Dv || (s->D != 64 && s->D != 96 && s->D != 128 && s->D != 256))
            return "its heads have another size than 64, 96, 128 or 256";
    }
    return NULL;
}

static void device_free(reattn__device *d)
{
    if (!d)
        return;
    for (int i = 0; i < d->n_unit; i++) {
        unit *u = &d->units[i];
        cudaSetDevice(u->device);
        reattn__cuda_context_free(u->context);
        for (int p = 0; p < PARTS; p++)
            cudaFree(u->parts[p].data);
        cudaFree(u->out.data);
        if (u->stream)
            cudaStreamDestroy(u->stream);
    }
    free(d->units);
    free(d->index);
    free(d->unit_of);
    free(d->layers);
    free(d);
}

static reattn__cuda_context_args context_of(const reattn__device_args *a, const reattn__layer *layers, int n)
{
    return (reattn__cuda_context_args){.layers = layers,
                                       .n_layer = n,
                                       .params = a->params,
                                       .policy = policy_of(a->params),
                                       .type = REATTN__CUDA_F16,
                                       .capacity = a->params->ctx_limit,
                                       .host = a->params->store == REATTN_STORE_HOST};
}

/* A device's context, of all layers that lie there. */
static int open_unit(reattn__device *d, const reattn__device_args *a, unit *u, reattn_error *err)
{
    reattn__layer *mine = malloc((size_t)a->n_layer * sizeof *mine);
    int n = 0;
    if (!mine)
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    for (int l = 0; l < a->n_layer; l++) {
        if (a->device[l] != u->device)
            continue;
        d->unit_of[l] = (int)(u - d->units);
        d->index[l] = n;
        mine[n++] = a->layers[l];
    }
    const reattn__cuda_context_args args = context_of(a, mine, n);
    cudaError_t code = cudaSetDevice(u->device);
    if (code == cudaSuccess)
        code = cudaStreamCreateWithFlags(&u->stream, cudaStreamNonBlocking);
    u->on = u->stream;
    int rc = code == cudaSuccess ? reattn__cuda_context_create(&args, &u->context, err) : failed(code, "a stream", err);
    free(mine);
    return rc;
}

static int create(const reattn__device_args *a, reattn__device **out, reattn_error *err)
{
    const char *why = refuses(a);
    if (why)
        return reattn__fail(err, REATTN_E_UNSUPPORTED, "%s", why);
    reattn__device *d = calloc(1, sizeof *d);
    if (!d)
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    size_t n = (size_t)a->n_layer;
    d->n_layer = a->n_layer;
    d->layers = malloc(n * sizeof *d->layers);
    d->unit_of = malloc(n * sizeof *d->unit_of);
    d->index = calloc(n, sizeof *d->index);
    d->units = calloc(n, sizeof *d->units);
    int code = d->layers && d->unit_of && d->index && d->units ? REATTN_OK
                                                               : reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    if (code == REATTN_OK) {
        memcpy(d->layers, a->layers, n * sizeof *d->layers);
        for (int l = 0; l < a->n_layer; l++)
            d->unit_of[l] = -1;
    }
    for (int l = 0; l < a->n_layer && code == REATTN_OK; l++) {
        if (a->device[l] < 0 || d->unit_of[l] >= 0)
            continue;
        unit *u = &d->units[d->n_unit++];
        u->device = a->device[l];
        u->first = l;
        code = open_unit(d, a, u, err);
    }
    if (code != REATTN_OK) {
        device_free(d);
        return code;
    }
    *out = d;
    return REATTN_OK;
}

static uint64_t bytes_for(const reattn__device_args *a, int64_t n, uint64_t *host)
{
    const reattn__cuda_context_args args = context_of(a, a->layers, a->n_layer);
    uint64_t bytes = 0;
    *host = 0;
    for (int l = 0; l < a->n_layer; l++) {
        uint64_t far = 0;
        if (a->device[l] >= 0)
            bytes += reattn__cuda_bytes_for(&args, l, n, &far);
        *host += far;
    }
    return bytes;
}

static uint64_t bytes(const reattn__device *d, uint64_t *host)
{
    uint64_t sum = 0;
    *host = 0;
    for (int i = 0; i < d->n_unit; i++) {
        uint64_t far;
        sum += reattn__cuda_context_bytes(d->units[i].context, &far);
        *host += far;
    }
    return sum;
}

/* ------------------------------------------------------------------------------------------------ step ------- */

static unit *unit_of(const reattn__device *d, int layer)
{
    unit *u = &d->units[d->unit_of[layer]];
    cudaSetDevice(u->device);
    return u;
}

static int reserve(reattn__device *d, int64_t n, reattn_error *err)
{
    int code = REATTN_OK;
    for (int i = 0; i < d->n_unit && code == REATTN_OK; i++) {
        cudaSetDevice(d->units[i].device);
        code = reattn__cuda_reserve(d->units[i].context, n, d->units[i].stream, err);
    }
    return code;
}

/* Memory that only grows; its content is lost when it does. */
static int need(memory *m, size_t size, reattn_error *err)
{
    if (size <= m->bytes)
        return REATTN_OK;
    cudaFree(m->data);
    *m = (memory){NULL, 0};
    cudaError_t code = cudaMalloc(&m->data, size);
    if (code != cudaSuccess)
        return failed(code, "memory for a chunk", err);
    m->bytes = size;
    return REATTN_OK;
}

static int keep(reattn__device *d, int layer, int part, int64_t T, int heads, const reattn__rows *from,
                reattn__rows *kept, reattn_error *err)
{
    unit *u = unit_of(d, layer);
    int64_t n = d->layers[layer].D;
    size_t row = (size_t)(heads * n) * sizeof(float), head = (size_t)n * sizeof(float);
    int code = need(&u->parts[part], (size_t)T * row, err);
    if (code != REATTN_OK)
        return code;
    cudaError_t rc = cudaSuccess;
    if (from->stride_head == n) { /* a token's heads lie together */
        rc = cudaMemcpy2DAsync(u->parts[part].data, row, from->data, (size_t)from->stride_token * sizeof(float), row,
                               (size_t)T, cudaMemcpyDefault, u->stream);
    } else {
        for (int h = 0; h < heads && rc == cudaSuccess; h++)
            rc = cudaMemcpy2DAsync(
                (float *)u->parts[part].data + h * n, row, (const float *)from->data + h * from->stride_head,
                (size_t)from->stride_token * sizeof(float), head, (size_t)T, cudaMemcpyDefault, u->stream);
    }
    if (rc == cudaSuccess)
        rc = cudaStreamSynchronize(u->stream);
    *kept = (reattn__rows){u->parts[part].data, heads * n, n, false};
    return rc == cudaSuccess ? REATTN_OK : failed(rc, "a copy of queries, keys or values", err);
}

static reattn__cuda_tensor tensor_of(const reattn__rows *rows)
{
    return (reattn__cuda_tensor){
        .data = rows->data, .half = rows->half, .stride_token = rows->stride_token, .stride_head = rows->stride_head};
}

static int room(reattn__device *d, int layer, int64_t T, float **out, reattn_error *err)
{
    unit *u = unit_of(d, layer);
    const reattn__layer *s = &d->layers[layer];
    int code = need(&u->out, (size_t)(T * s->H * s->Dv) * sizeof **out, err);
    *out = u->out.data;
    return code;
}

static int queue(reattn__device *d, int layer, int64_t T, bool decode, const reattn__rows *q, const reattn__rows *k,
                 const reattn__rows *v, const reattn__device_plan *plan, bool want_out, float *out, reattn_error *err)
{
    unit *u = unit_of(d, layer);
    const reattn__cuda_given given =
        plan ? (reattn__cuda_given){plan->lists, plan->n_list, plan->q_scale} : (reattn__cuda_given){0};
    int code = want_out && !out ? room(d, layer, T, &out, err) : REATTN_OK;
    if (code != REATTN_OK)
        return code;
    reattn__cuda_step_args args = {.layer = d->index[layer],
                                   .T = T,
                                   .decode = decode,
                                   .q = tensor_of(q),
                                   .k = tensor_of(k),
                                   .v = tensor_of(v),
                                   .plan = plan ? &given : NULL,
                                   .out = want_out ? out : NULL};
    return reattn__cuda_step(u->context, &args, u->stream, err);
}

static void queue_many(reattn__device_part *parts, int n, int among, int layer)
{
    for (int first = 0; first < n; first += REATTN__CUDA_MANY) {
        const int some = REATTN__MIN(n - first, REATTN__CUDA_MANY);
        reattn__cuda_member members[REATTN__CUDA_MANY];
        reattn__cuda_given given[REATTN__CUDA_MANY];
        for (int i = 0; i < some; i++) {
            const reattn__device_part *p = &parts[first + i];
            const unit *u = unit_of(p->device, layer);
            if (p->plan)
                given[i] = (reattn__cuda_given){p->plan->lists, p->plan->n_list, p->plan->q_scale};
            members[i] = (reattn__cuda_member){.context = u->context, .stream = u->stream, .err = p->err};
            members[i].args = (reattn__cuda_step_args){.layer = p->device->index[layer],
                                                       .T = 1,
                                                       .decode = 1,
                                                       .q = tensor_of(&p->q),
                                                       .k = tensor_of(&p->k),
                                                       .v = tensor_of(&p->v),
                                                       .plan = p->plan ? &given[i] : NULL,
                                                       .out = p->out};
        }
        reattn__cuda_step_many(members, some, REATTN__MIN(among, REATTN__CUDA_MANY));
        for (int i = 0; i < some; i++) {
            parts[first + i].code = members[i].code;
            unit_of(parts[first + i].device, layer)->on = members[i].stream;
        }
    }
}

static int wait_for(reattn__device *d, int layer, reattn_error *err)
{
    unit *u = unit_of(d, layer);
    cudaError_t rc = cudaStreamSynchronize(u->on);
    u->on = u->stream;
    return rc == cudaSuccess ? REATTN_OK : failed(rc, "a layer's step", err);
}

static int step(reattn__device *d, int layer, int64_t T, bool decode, const reattn__rows *q, const reattn__rows *k,
                const reattn__rows *v, const reattn__device_plan *plan, bool want_out, float *out, reattn_error *err)
{
    int code = queue(d, layer, T, decode, q, k, v, plan, want_out, out, err);
    return code == REATTN_OK ? wait_for(d, layer, err) : code;
}

static int put(reattn__device *d, int layer, int64_t T, float *out, reattn_error *err)
{
    unit *u = unit_of(d, layer);
    size_t size = (size_t)(T * d->layers[layer].H * d->layers[layer].Dv) * sizeof *out;
    cudaError_t rc = cudaMemcpyAsync(out, u->out.data, size, cudaMemcpyDefault, u->stream);
    if (rc == cudaSuccess)
        rc = cudaStreamSynchronize(u->stream);
    return rc == cudaSuccess ? REATTN_OK : failed(rc, "a layer's output", err);
}

static int check(reattn__device *d, reattn_error *err)
{
    int code = REATTN_OK;
    for (int i = 0; i < d->n_unit && code == REATTN_OK; i++) {
        unit *u = &d->units[i];
        reattn_error why = {0};
        cudaSetDevice(u->device);
        code = reattn__cuda_check(u->context, u->stream, &why);
        if (code != REATTN_OK)
            reattn__fail(err, code, "CUDA device %d, whose layers are counted from the model's layer %d: %s", u->device,
                         u->first, why.msg);
    }
    return code;
}

static int rewind_to(reattn__device *d, int64_t n, reattn_error *err)
{
    int code = REATTN_OK;
    for (int i = 0; i < d->n_unit && code == REATTN_OK; i++) {
        cudaSetDevice(d->units[i].device);
        code = reattn__cuda_rewind(d->units[i].context, n, err);
    }
    return code;
}

static int spans_of(reattn__device *d, int layer, int list, reattn_span *spans, int64_t cap, int64_t *n_span,
                    int64_t *n_scope, reattn_error *err)
{
    unit *u = unit_of(d, layer);
    return reattn__cuda_spans(u->context, d->index[layer], list, spans, cap, n_span, n_scope, u->stream, err);
}

const reattn__device_table *reattn__device_engine(void)
{
    static const reattn__device_table table = {
        .of = device_of,
        .free_bytes = free_bytes,
        .refuses = refuses,
        .create = create,
        .free = device_free,
        .bytes_for = bytes_for,
        .bytes = bytes,
        .reserve = reserve,
        .keep = keep,
        .step = step,
        .queue = queue,
        .queue_many = queue_many,
        .wait = wait_for,
        .room = room,
        .put = put,
        .check = check,
        .rewind = rewind_to,
        .spans = spans_of,
    };
    return &table;
}
