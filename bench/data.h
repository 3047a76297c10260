/* data.h - stores full of keys to measure on, and queries for them. */
#ifndef BENCH_DATA_H
#define BENCH_DATA_H

#include "bench.h"
#include "kv/source.h"
#include "kv/store.h"

/* Keys, values and queries of n_layer layers: synthetic, or what a model makes of a text. */
typedef struct bench_data bench_data;

int bench_data_open(const bench_request *request, bench_data **out, reattn_error *err);
void bench_data_close(bench_data *data);
const reattn__layer *bench_data_shape(const bench_data *data);
/* "synthetic, seed 1", or the text's name. */
const char *bench_data_name(const bench_data *data);

/* Keys [count][Hk][D] and values [count][Hk][Dv] of a layer, from token `first`; in any order, the same each time. */
void bench_data_rows(const bench_data *data, int layer, int64_t first, int64_t count, float *k, float *v);
/* A store of the first n tokens, in so many layers that `touched` bytes of each make up much more than the caches hold:
 * a call on one layer after the other then finds none of its keys there, as in a model. */
int bench_data_store(const bench_data *data, int type_k, int type_v, int64_t n, uint64_t touched, reattn__store **out,
                     int *n_layer, reattn_error *err);
/* T queries of a layer, [T][H][D]: the last ones, or with `before` those that came before them. */
int bench_data_queries(const bench_data *data, int layer, int64_t T, bool before, float *q, reattn_error *err);
/* A layer of the store as f32, [count][Hk][D] and [count][Hk][Dv], from token `first`; v may be NULL. */
void bench_data_dense(const reattn__store *store, const reattn__layer *shape, int layer, int64_t first, int64_t count,
                      float *k, float *v);

/* 64 random bits; the state may start as anything. */
uint64_t bench_random(uint64_t *state);

#endif
