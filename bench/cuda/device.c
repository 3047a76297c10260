/* device.c - see device.h. */
#include "device.h"

#include <stdio.h>
#include <stdlib.h>

#include "../measure.h"
#include "base/base.h"
#include "cpu/half.h"
#include "cuda/select.h"

enum { COPIES = 10, WARM = 2 };

int bench_device_failed(cudaError_t code, const char *what, reattn_error *err)
{
    if (code == cudaSuccess)
        return REATTN_OK;
    return reattn__fail(err, code == cudaErrorMemoryAllocation ? REATTN_E_NOMEM : REATTN_E_INTERNAL,
                        "CUDA: %s failed: %s", what, cudaGetErrorString(code));
}

int bench_device_open(bench_device *d, reattn_error *err)
{
    struct cudaDeviceProp prop;
    int at;
    *d = (bench_device){0};
    if (reattn__cuda_devices() == 0)
        return reattn__fail(err, REATTN_E_UNSUPPORTED, "--device cuda: there is no CUDA device, or no driver for it");
    cudaError_t code = cudaGetDevice(&at);
    if (code == cudaSuccess)
        code = cudaGetDeviceProperties(&prop, at);
    if (code == cudaSuccess)
        code = cudaEventCreate(&d->begin);
    if (code == cudaSuccess)
        code = cudaEventCreate(&d->end);
    if (code == cudaSuccess) {
        snprintf(d->name, sizeof d->name, "%s", prop.name);
        d->flush_bytes = (size_t)REATTN__MAX(8 * (int64_t)prop.l2CacheSize, (int64_t)256 << 20) / 2 * 2;
        code = cudaMalloc(&d->flush, d->flush_bytes);
    }
    return bench_device_failed(code, "opening the device", err);
}

void bench_device_close(bench_device *d)
{
    if (d->begin)
        cudaEventDestroy(d->begin);
    if (d->end)
        cudaEventDestroy(d->end);
    cudaFree(d->flush);
}

int bench_device_roof(bench_device *d, reattn_error *err)
{
    const size_t half = d->flush_bytes / 2;
    cudaError_t code = cudaSuccess;
    for (int i = 0; i < COPIES && code == cudaSuccess; i++) {
        float ms = 0;
        code = cudaEventRecord(d->begin, NULL);
        if (code == cudaSuccess)
            code = cudaMemcpyAsync((char *)d->flush + half, d->flush, half, cudaMemcpyDeviceToDevice, NULL);
        if (code == cudaSuccess)
            code = cudaEventRecord(d->end, NULL);
        if (code == cudaSuccess)
            code = cudaEventSynchronize(d->end);
        if (code == cudaSuccess)
            code = cudaEventElapsedTime(&ms, d->begin, d->end);
        if (code == cudaSuccess && 2.0 * (double)half / ms * 1e3 > d->copy)
            d->copy = 2.0 * (double)half / ms * 1e3;
    }
    return bench_device_failed(code, "measuring the copy rate", err);
}

int bench_device_put(void **to, const void *from, size_t bytes, reattn_error *err)
{
    cudaError_t code = cudaMalloc(to, bytes ? bytes : 1);
    if (code == cudaSuccess && from)
        code = cudaMemcpy(*to, from, bytes, cudaMemcpyHostToDevice);
    return bench_device_failed(code, "taking device memory", err);
}

int bench_device_rows(const bench_lines *l, void **k, void **v, reattn_error *err)
{
    const int64_t row = (int64_t)l->shape->Hk * l->shape->D;
    void **to[2] = {k, v};
    float *x = malloc((size_t)(2 * REATTN__PAGE * row) * sizeof *x);
    uint16_t *bits = malloc((size_t)(REATTN__PAGE * row) * sizeof *bits);
    int code = x && bits ? REATTN_OK : reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    for (int i = 0; i < 2 && code == REATTN_OK; i++)
        if (to[i])
            code = bench_device_put(to[i], NULL, (size_t)(l->keys * row) * sizeof *bits, err);
    for (int64_t first = 0; first < l->keys && code == REATTN_OK; first += REATTN__PAGE) {
        const int64_t count = REATTN__MIN((int64_t)REATTN__PAGE, l->keys - first), n = count * row;
        bench_data_rows(l->data, 0, first, count, x, x + n);
        for (int i = 0; i < 2 && code == REATTN_OK; i++) {
            for (int64_t j = 0; j < n && to[i]; j++)
                bits[j] = reattn__float_to_half(x[i * n + j]);
            if (to[i])
                code = bench_device_failed(cudaMemcpy((uint16_t *)*to[i] + first * row, bits, (size_t)n * sizeof *bits,
                                                      cudaMemcpyHostToDevice),
                                           "copying keys and values", err);
        }
    }
    free(x);
    free(bits);
    return code;
}

int bench_device_call_open(const bench_lines *l, size_t out_bytes, size_t work_bytes, bench_device_call *c,
                           reattn_error *err)
{
    const size_t bytes = (size_t)(l->T * l->shape->H * l->shape->D) * sizeof(float);
    *c = (bench_device_call){.queries = malloc(bytes)};
    if (!c->queries)
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    int code = bench_data_queries(l->data, 0, l->T, false, c->queries, err);
    if (code == REATTN_OK)
        code = bench_device_put(&c->q, c->queries, bytes, err);
    if (code == REATTN_OK)
        code = bench_device_put(&c->out, NULL, out_bytes, err);
    return code ? code : bench_device_put(&c->work, NULL, work_bytes, err);
}

void bench_device_call_close(bench_device_call *c)
{
    cudaFree(c->q);
    cudaFree(c->out);
    cudaFree(c->work);
    free(c->queries);
}

int bench_device_read(const void *rows, int64_t first, int64_t count, float *out)
{
    uint16_t *bits = malloc((size_t)count * sizeof *bits);
    if (!bits)
        return REATTN_E_NOMEM;
    const cudaError_t code =
        cudaMemcpy(bits, (const uint16_t *)rows + first, (size_t)count * sizeof *bits, cudaMemcpyDeviceToHost);
    for (int64_t i = 0; i < count && code == cudaSuccess; i++)
        out[i] = reattn__half_to_float(bits[i]);
    free(bits);
    return code == cudaSuccess ? REATTN_OK : REATTN_E_INTERNAL;
}

int bench_device_time(bench_device *d, int repeats, int (*call)(void *ctx, reattn_error *err), void *ctx, double *ms,
                      reattn_error *err)
{
    static bench_clock clock;
    int rc = REATTN_OK;
    for (int i = 0; i < WARM && rc == REATTN_OK; i++)
        rc = call(ctx, err);
    bench_clock_start(&clock, repeats);
    while (rc == REATTN_OK && bench_clock_goes_on(&clock)) {
        float took = 0;
        cudaError_t code = cudaMemsetAsync(d->flush, clock.n, d->flush_bytes, NULL);
        if (code == cudaSuccess)
            code = cudaEventRecord(d->begin, NULL);
        if (code == cudaSuccess)
            rc = call(ctx, err);
        if (code == cudaSuccess)
            code = cudaEventRecord(d->end, NULL);
        if (code == cudaSuccess)
            code = cudaEventSynchronize(d->end);
        if (code == cudaSuccess)
            code = cudaEventElapsedTime(&took, d->begin, d->end);
        if (rc == REATTN_OK)
            rc = bench_device_failed(code, "timing a call", err);
        clock.ms[clock.n++] = took;
    }
    if (rc == REATTN_OK)
        *ms = bench_median(clock.ms, clock.n);
    return rc;
}
