/* law.h - a few queries of a call by the law (cpu/ref.h), to compare with. */
#ifndef BENCH_LAW_H
#define BENCH_LAW_H

#include "policy/policy.h"

/* Keys [first, first + count) as f32, [count][Hk][D]; called from several threads. */
typedef int (*bench_law_keys)(void *ctx, int64_t first, int64_t count, float *k);

/* *equal becomes false if hits [T][H][top_k] of up to four queries of q [T][H][D], the first and the last among them,
 * are not those of the law. E_NOMEM, and what `keys` returns. */
int bench_law_select(const reattn__layer *shape, const float *q, int64_t T, int64_t n, int top_k, int n_threads,
                     bench_law_keys keys, void *ctx, const reattn_hit *hits, bool *equal, reattn_error *err);

/* Raises *error to the largest |out - law| / |law| of up to four of the last T queries of n tokens: q [T][H][D], k
 * [n][Hk][D], v [n][Hk][Dv], out [T][H][Dv], over a list of runs. A NaN stays. With `loss`, *loss is raised to the
 * largest that the law itself is off when each value of q and k is changed at random by up to what rounding to half
 * precision can change it. */
int bench_law_attend(const reattn__layer *shape, const float *q, const float *k, const float *v, int64_t T, int64_t n,
                     const reattn__run_list *list, int n_threads, const float *out, double *error, double *loss,
                     reattn_error *err);

#endif
