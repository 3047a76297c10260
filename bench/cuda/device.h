/* device.h - the CUDA device of a bench: memory, clock, and how fast it copies. */
#ifndef BENCH_CUDA_DEVICE_H
#define BENCH_CUDA_DEVICE_H

#include <cuda_runtime_api.h>

#include "../lines.h"

typedef struct bench_device {
    char name[256];
    double copy; /* bytes read and written a second, the best seen so far */
    void *flush; /* overwritten before each timed call, so that the cache holds nothing of the one before */
    size_t flush_bytes;
    cudaEvent_t begin, end;
} bench_device;

/* The current device. Errors: E_UNSUPPORTED if there is none, E_NOMEM. Close it in any case. */
int bench_device_open(bench_device *device, reattn_error *err);
void bench_device_close(bench_device *device);
/* Measures the copy rate again. */
int bench_device_roof(bench_device *device, reattn_error *err);

int bench_device_failed(cudaError_t code, const char *what, reattn_error *err);
/* New memory with these bytes, or as it comes if `from` is NULL. */
int bench_device_put(void **to, const void *from, size_t bytes, reattn_error *err);

/* Keys and values of layer 0 as f16, [keys][Hk][D]; v may be NULL. What was made stays when it fails. */
int bench_device_rows(const bench_lines *lines, void **k, void **v, reattn_error *err);
/* Reads some of them back as f32. */
int bench_device_read(const void *rows, int64_t first, int64_t count, float *out);

/* What a call of the line at hand reads and writes on the device. */
typedef struct bench_device_call {
    float *queries; /* [T][H][D], and the same on the device: */
    void *q, *out, *work;
} bench_device_call;
/* What was made stays when it fails: close it in any case. Errors: E_NOMEM, E_INTERNAL. */
int bench_device_call_open(const bench_lines *lines, size_t out_bytes, size_t work_bytes, bench_device_call *call,
                           reattn_error *err);
void bench_device_call_close(bench_device_call *call);

/* The median of at least `repeats` calls, in milliseconds on the device. */
int bench_device_time(bench_device *device, int repeats, int (*call)(void *ctx, reattn_error *err), void *ctx,
                      double *ms, reattn_error *err);

#endif
