/* measure.h - what the benches share in counting and printing. */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "reattn/error.h"

/* Sorts the values; n >= 1. */
double bench_median(double *values, int64_t n);

/* Calls are timed until there are `repeats` of them and they took a while. */
enum { BENCH_MOST_CALLS = 4096 };
typedef struct bench_clock {
    int repeats, n;
    double start, ms[BENCH_MOST_CALLS];
} bench_clock;
void bench_clock_start(bench_clock *clock, int repeats);
bool bench_clock_goes_on(const bench_clock *clock);

/* Prints an object on standard output and frees it. */
int bench_print_json(json_t *object, reattn_error *err);

#endif
