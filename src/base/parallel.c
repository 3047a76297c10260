/* parallel.c - the one place that knows about threads.
 *
 * libllama's CPU backend runs on OpenMP where it can; using OpenMP here too means that both share one pool of threads,
 * which matters: two pools that spin while waiting would fight for the same cores. Tasks are handed out dynamically and
 * never wait for each other. */
#define _GNU_SOURCE /* sched_getaffinity */
#include "base.h"

#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

#ifdef _OPENMP
#include <omp.h>
#endif

int reattn__cores(void)
{
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return REATTN__MAX(1, CPU_COUNT(&set));
#endif
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}

typedef struct first_error {
    atomic_llong task; /* lowest task that failed */
    atomic_int code;
} first_error;

static void note_error(first_error *first, int64_t task, int code)
{
    long long seen = atomic_load(&first->task);
    while (task < seen) {
        if (atomic_compare_exchange_weak(&first->task, &seen, task)) {
            atomic_store(&first->code, code);
            return;
        }
    }
}

int reattn__parallel(int n_threads, int64_t n_task, reattn__task_fn fn, void *ctx)
{
    first_error first;
    atomic_init(&first.task, INT64_MAX);
    atomic_init(&first.code, 0);
#ifdef _OPENMP
    if (n_threads > 1 && n_task > 1) {
#pragma omp parallel for num_threads(n_threads) schedule(dynamic, 1)
        for (int64_t task = 0; task < n_task; task++) {
            int code = fn(ctx, task, omp_get_thread_num());
            if (code != 0) note_error(&first, task, code);
        }
        return atomic_load(&first.code);
    }
#endif
    (void)n_threads;
    for (int64_t task = 0; task < n_task; task++) {
        int code = fn(ctx, task, 0);
        if (code != 0) note_error(&first, task, code);
    }
    return atomic_load(&first.code);
}
