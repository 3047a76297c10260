/* data.c - see data.h. */
#include "data.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/base.h"
#include "roof.h"
#include "text.h"

/* Streams of random numbers: what is drawn for a token does not depend on what else was drawn. */
enum { SHAPE, KEYS, QUERIES, QUERIES_BEFORE };

struct bench_data {
    const bench_request *request;
    reattn__layer shape;
    bench_text *text;       /* or NULL, and then the keys are synthetic: */
    float *k_mean, *k_size; /* [Hk * D] dimensions differ in size and have a mean, as those of real keys do */
    float *q_mean, *q_size; /* [H * D] */
    char name[256];
};

/* ------------------------------------------------------------------------------------------- numbers --------- */

uint64_t bench_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Nearly a standard normal: the sum of four uniform numbers of 16 bits. */
static float normal(uint64_t *state)
{
    uint64_t z = bench_random(state);
    double sum = (double)((z & 0xffff) + (z >> 16 & 0xffff) + (z >> 32 & 0xffff) + (z >> 48));
    return (float)((sum - 4 * 32767.5) / (65536 / sqrt(3)));
}

static uint64_t stream(const bench_data *data, int kind, int layer, int64_t token)
{
    uint64_t state = data->request->seed + ((uint64_t)kind << 56) + ((uint64_t)layer << 40) + (uint64_t)token;
    return bench_random(&state);
}

static void draw(uint64_t *state, const float *mean, const float *size, int64_t n, float *x)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (mean ? mean[i] : 0) + (size ? size[i] : 1) * normal(state);
}

/* ---------------------------------------------------------------------------------------------- open --------- */

static int draw_shape(bench_data *data, reattn_error *err)
{
    int64_t nk = (int64_t)data->shape.Hk * data->shape.D, nq = (int64_t)data->shape.H * data->shape.D;
    uint64_t state = stream(data, SHAPE, 0, 0);
    data->k_mean = malloc((size_t)(2 * (nk + nq)) * sizeof(float));
    if (!data->k_mean)
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    data->k_size = data->k_mean + nk;
    data->q_mean = data->k_size + nk;
    data->q_size = data->q_mean + nq;
    draw(&state, NULL, NULL, 2 * (nk + nq), data->k_mean);
    for (int64_t i = 0; i < nk; i++) {
        data->k_mean[i] *= 2;
        data->k_size[i] = expf(0.5f * data->k_size[i]);
    }
    for (int64_t i = 0; i < nq; i++)
        data->q_size[i] = expf(0.5f * data->q_size[i]);
    snprintf(data->name, sizeof data->name, "synthetic keys, seed %llu", (unsigned long long)data->request->seed);
    return REATTN_OK;
}

static int take_shape(bench_data *data, reattn_error *err)
{
    const bench_request *r = data->request;
    if (r->model) {
        int n_layer;
        const reattn__layer *layers = reattn__model_layers(r->model, &n_layer);
        if (!layers)
            return reattn__fail(err, REATTN_E_UNSUPPORTED, "this model runs with --policy native only");
        data->shape = layers[0];
        return REATTN_OK;
    }
    if (r->heads % r->kv_heads)
        return reattn__fail(err, REATTN_E_ARG, "--heads %d is not a multiple of --kv-heads %d", r->heads, r->kv_heads);
    data->shape = (reattn__layer){
        .H = r->heads,
        .Hk = r->kv_heads,
        .D = r->dim,
        .Dv = r->dim,
        .kq_scale = 1 / sqrtf((float)r->dim),
        .rope = {.kind = REATTN_ROPE_NEOX,
                 .n_rot = r->dim,
                 .n_ctx_orig = 8192,
                 .freq_base = 10000,
                 .freq_scale = 1,
                 .attn_factor = 1,
                 .beta_fast = 32,
                 .beta_slow = 1},
    };
    return REATTN_OK;
}

int bench_data_open(const bench_request *request, bench_data **out, reattn_error *err)
{
    bench_data *data = calloc(1, sizeof *data);
    if (!data)
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    data->request = request;
    int code = take_shape(data, err);
    if (code == REATTN_OK && request->tokens) {
        code = bench_text_open(request, &data->text, err);
        snprintf(data->name, sizeof data->name, "the model's keys for %s", request->text);
    } else if (code == REATTN_OK) {
        code = draw_shape(data, err);
    }
    if (code != REATTN_OK) {
        bench_data_close(data);
        return code;
    }
    *out = data;
    return REATTN_OK;
}

void bench_data_close(bench_data *data)
{
    if (!data)
        return;
    bench_text_close(data->text);
    free(data->k_mean);
    free(data);
}

const reattn__layer *bench_data_shape(const bench_data *data)
{
    return &data->shape;
}

const char *bench_data_name(const bench_data *data)
{
    return data->name;
}

/* ---------------------------------------------------------------------------------------------- fill --------- */

/* taken: bytes of a layer; 0 for a type that cannot be, which creating the store will say. */
static int layers_for(const bench_data *data, uint64_t touched, uint64_t taken)
{
    uint64_t wanted = 4 * (uint64_t)bench_cache_bytes() / REATTN__MAX(touched, 1) + 2;
    uint64_t room = (uint64_t)sysconf(_SC_AVPHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 2 / REATTN__MAX(taken, 1);
    uint64_t most = data->text ? (uint64_t)bench_text_layers(data->text) : 1024;
    return (int)REATTN__MAX(1, REATTN__MIN(REATTN__MIN(wanted, room), most));
}

void bench_data_rows(const bench_data *data, int layer, int64_t first, int64_t count, float *k, float *v)
{
    int64_t nk = (int64_t)data->shape.Hk * data->shape.D, nv = (int64_t)data->shape.Hk * data->shape.Dv;
    if (data->text)
        bench_data_dense(bench_text_store(data->text), &data->shape, layer, first, count, k, v);
    for (int64_t t = 0; t < count && !data->text; t++) {
        uint64_t state = stream(data, KEYS, layer, first + t);
        draw(&state, data->k_mean, data->k_size, nk, k + t * nk);
        draw(&state, NULL, NULL, nv, v + t * nv);
    }
}

static int fill_layer(const bench_data *data, reattn__store *store, int layer, int64_t n, float *rows,
                      reattn_error *err)
{
    int64_t nk = (int64_t)data->shape.Hk * data->shape.D;
    int code = REATTN_OK;
    for (int64_t first = 0; first < n && code == REATTN_OK; first += REATTN__PAGE) {
        int64_t count = REATTN__MIN((int64_t)REATTN__PAGE, n - first);
        float *k = rows, *v = rows + count * nk;
        bench_data_rows(data, layer, first, count, k, v);
        code = reattn__store_append(store, layer, count, k, v, err);
    }
    return code;
}

int bench_data_store(const bench_data *data, int type_k, int type_v, int64_t n, uint64_t touched, reattn__store **out,
                     int *n_layer, reattn_error *err)
{
    const reattn__layer *shape = &data->shape;
    *n_layer = layers_for(data, touched, reattn__store_bytes_for(shape, 1, type_k, type_v, n));
    reattn__layer *layers = malloc((size_t)*n_layer * sizeof *layers);
    float *rows = malloc((size_t)(REATTN__PAGE * shape->Hk * (shape->D + shape->Dv)) * sizeof *rows);
    reattn__store *store = NULL;
    for (int l = 0; layers && l < *n_layer; l++)
        layers[l] = *shape;
    int code = layers && rows ? REATTN_OK : reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    if (code == REATTN_OK)
        code = reattn__store_create(layers, *n_layer, type_k, type_v, 0, &store, err);
    if (code == REATTN_OK)
        code = reattn__store_reserve(store, n, err);
    for (int l = 0; l < *n_layer && code == REATTN_OK; l++)
        code = fill_layer(data, store, l, n, rows, err);
    free(layers);
    free(rows);
    if (code != REATTN_OK) {
        reattn__store_free(store);
        return code;
    }
    *out = store;
    return REATTN_OK;
}

int bench_data_queries(const bench_data *data, int layer, int64_t T, bool before, float *q, reattn_error *err)
{
    int64_t row = (int64_t)data->shape.H * data->shape.D;
    if (data->text)
        return bench_text_queries(data->text, layer, T, before, q, err);
    for (int64_t t = 0; t < T; t++, q += row) {
        uint64_t state = stream(data, QUERIES_BEFORE, layer, t), fresh = stream(data, QUERIES, layer, t);
        draw(&state, data->q_mean, data->q_size, row, q);
        /* One query is like the one before it. */
        for (int64_t i = 0; i < row && !before; i++)
            q[i] = 0.2f * data->q_mean[i] + 0.8f * q[i] + 0.6f * data->q_size[i] * normal(&fresh);
    }
    return REATTN_OK;
}

void bench_data_dense(const reattn__store *store, const reattn__layer *shape, int layer, int64_t first, int64_t count,
                      float *k, float *v)
{
    enum { PART = 16 };
    float part[512 * PART];
    for (int h = 0; h < shape->Hk; h++)
        for (int64_t at = 0; at < count; at += PART) {
            int64_t n = REATTN__MIN((int64_t)PART, count - at);
            reattn__store_read_k(store, layer, h, first + at, n, part, PART);
            for (int64_t i = 0; i < n; i++)
                for (int d = 0; d < shape->D; d++)
                    k[((at + i) * shape->Hk + h) * shape->D + d] = part[d * PART + i];
            if (!v)
                continue;
            reattn__store_read_v(store, layer, h, first + at, n, part);
            for (int64_t i = 0; i < n; i++)
                for (int d = 0; d < shape->Dv; d++)
                    v[((at + i) * shape->Hk + h) * shape->Dv + d] = part[i * shape->Dv + d];
        }
}
