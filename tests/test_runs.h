/* test_runs.h - random runs of a plan, for the tests of what is laid out for a device and of what it computes. */
#ifndef REATTN_TEST_RUNS_H
#define REATTN_TEST_RUNS_H

#include "base/base.h"
#include "reattn/ops.h"
#include "test_util.h"

/* A valid run for the last T of n tokens. With `empty` it may hold no key, or none that any query sees. */
static inline reattn_run test_run(test_rng *rng, int64_t T, int64_t n, bool empty)
{
    const int64_t q_first = n - T;
    reattn_run r = {.first = test_int(rng, 0, n - 1), .dist_max = INT64_MAX};
    r.count = test_int(rng, empty ? 0 : 1, n - r.first);
    r.k_step = test_one_in(rng, 2) ? 1 : test_int(rng, 0, 4) - 1;
    r.k_div = test_one_in(rng, 3) ? test_int(rng, 0, 9) : 0;
    r.k_pos = (r.k_step < 0 ? r.count : 0) + test_int(rng, 0, 40);
    if (test_one_in(rng, 3)) /* as others are placed, so that keys are shared */
        r.k_pos = r.first, r.k_step = 1, r.k_div = 0;
    r.q_step = test_int(rng, 0, 2);
    r.q_div = test_one_in(rng, 3) ? test_int(rng, 0, 9) : 0;
    r.q_pos = test_one_in(rng, 2) ? q_first : test_int(rng, 0, 100);
    if (test_one_in(rng, 2))
        r.dist_min = test_int(rng, -3, empty ? n : n / 2);
    if (test_one_in(rng, 2))
        r.dist_max = test_int(rng, empty ? -3 : 0, n);
    if (test_one_in(rng, 3)) {
        r.t_min = test_int(rng, 0, T);
        r.t_end = test_int(rng, 0, T + 2);
        if (test_one_in(rng, 2)) /* no position before that */
            r.q_pos = REATTN__MAX(-r.t_min * r.q_step, -(int64_t)5) + test_int(rng, 0, 3);
        if (r.q_pos + r.t_min * r.q_step < 0)
            r.q_pos = 0;
    }
    return r;
}

#endif
