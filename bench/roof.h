/* roof.h - what this machine can do at most: bytes read from memory and f32 operations a second. */
#ifndef BENCH_ROOF_H
#define BENCH_ROOF_H

#include <stdint.h>

#include "reattn/error.h"

/* Bytes of the last cache, or a guess. */
int64_t bench_cache_bytes(void);

typedef struct bench_roof {
    int n_threads;
    void *memory; /* what is read: much larger than the caches */
    int64_t bytes;
    double read, flops; /* best seen so far, a second */
} bench_roof;

int bench_roof_open(bench_roof *roof, int n_threads, reattn_error *err);
/* Measures both again, about 0.1 s. Called before and after each line, so that a machine that others slow down for a
 * while does not get a low roof. */
void bench_roof_measure(bench_roof *roof);
void bench_roof_close(bench_roof *roof);

#endif
