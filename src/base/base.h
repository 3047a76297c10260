/* base.h - what every room of the library may use: errors, log, memory, threads. */
#ifndef REATTN_BASE_H
#define REATTN_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "reattn/error.h"

#define REATTN__MIN(a, b) ((a) < (b) ? (a) : (b))
#define REATTN__MAX(a, b) ((a) > (b) ? (a) : (b))

/* Writes code and message to err (unless NULL) and returns the code, so that `return reattn__fail(...)` reads well. */
int reattn__fail(reattn_error *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* One line to the log callback; level is a reattn_log_level. */
void reattn__log(int level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Memory aligned to 64 bytes (a cache line, and the widest vector); NULL when there is none. */
void *reattn__alloc(size_t bytes);
void reattn__free(void *ptr);

/* A buffer that only grows, for the scratch of a step. Contents are lost when it grows. */
typedef struct reattn__buffer {
    void *data;
    size_t bytes;
} reattn__buffer;
/* Returns at least `bytes` bytes, or NULL; the old memory stays valid on failure. */
void *reattn__buffer_need(reattn__buffer *buffer, size_t bytes);
void reattn__buffer_free(reattn__buffer *buffer);
/* What it takes when so much is asked for: a quarter more, so that a scope that grows token by token does not
 * reallocate each time. */
static inline size_t reattn__buffer_room(size_t bytes) { return bytes + bytes / 4; }

/* Runs fn(ctx, task, worker) for every task 0 .. n_task-1 on up to n_threads threads, handed out one by one so that a
 * core that is busy with something else delays nobody. worker < n_threads tells which scratch to use; the result must
 * not depend on it. Returns the first (lowest task) error code that is not 0. */
typedef int (*reattn__task_fn)(void *ctx, int64_t task, int worker);
int reattn__parallel(int n_threads, int64_t n_task, reattn__task_fn fn, void *ctx);

/* Cores that this process may run on. */
int reattn__cores(void);

/* Wall clock in milliseconds. */
double reattn__now_ms(void);

/* True if every value is finite. */
bool reattn__all_finite(const float *x, int64_t n);

#endif
