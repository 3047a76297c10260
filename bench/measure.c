/* measure.c - see measure.h. */
#include "measure.h"

#include <stdlib.h>

#include "base/base.h"

static const double LEAST_MS = 200;

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *values, int64_t n)
{
    qsort(values, (size_t)n, sizeof *values, by_value);
    return n % 2 ? values[n / 2] : 0.5 * (values[n / 2 - 1] + values[n / 2]);
}

void bench_clock_start(bench_clock *clock, int repeats)
{
    clock->repeats = repeats;
    clock->n = 0;
    clock->start = reattn__now_ms();
}

bool bench_clock_goes_on(const bench_clock *clock)
{
    return clock->n < BENCH_MOST_CALLS && (clock->n < clock->repeats || reattn__now_ms() - clock->start < LEAST_MS);
}

int bench_print_json(json_t *object, reattn_error *err)
{
    int failed = !object || json_dumpf(object, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) || putchar('\n') == EOF;
    json_decref(object);
    return failed ? reattn__fail(err, REATTN_E_IO, "the JSON object could not be written") : REATTN_OK;
}
