/* store.h - what a layer keeps: un-rotated keys and values, and the index that selection scans.
 *
 * Keys and values are [token][Hk][D] in memory that grows (array.h): the device's, or the host's if they are to be far.
 * The index, always on the device, is copied when it grows: next to nothing, with an 8-bit plane half of the keys.
 *
 * Selection searches a middle that begins at token `first`, so the index counts keys from there. It lags behind: only
 * what a search needs is brought up to date. */
#ifndef REATTN_CUDA_STORE_H
#define REATTN_CUDA_STORE_H

#include "cuda/array.h"
#include "cuda/step.h"
#include "cuda/tier.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct reattn__cuda_layer {
    int Hk, D, type, plane;
    const reattn__cuda_tier *tier; /* of keys and values that are in the host's memory; NULL: they are on the device */
    int64_t first;                 /* token at which the index begins; -1: there is no index */
    reattn__cuda_array k, v;       /* [token][Hk][D] */
    void *index;
    int64_t index_room, indexed; /* in keys from `first` on */
    int64_t n;                   /* tokens held */
} reattn__cuda_layer;

int reattn__cuda_layer_open(reattn__cuda_layer *layer, int64_t capacity, reattn_error *err);
void reattn__cuda_layer_close(reattn__cuda_layer *layer);
uint64_t reattn__cuda_layer_bytes(const reattn__cuda_layer *layer); /* of the device */
uint64_t reattn__cuda_layer_host_bytes(const reattn__cuda_layer *layer);
/* Bytes of the device for n tokens; *host gets those of the host. */
uint64_t reattn__cuda_layer_bytes_for(const reattn__cuda_layer *layer, int64_t n, uint64_t *host);
int reattn__cuda_layer_reserve(reattn__cuda_layer *layer, int64_t n, void *stream, reattn_error *err);
void reattn__cuda_layer_rewind(reattn__cuda_layer *layer, int64_t n);
/* Keys [first, end) for selection, the index of them up to date. */
int reattn__cuda_layer_keys(reattn__cuda_layer *layer, int64_t end, reattn__cuda_keys *keys, void *stream,
                            reattn_error *err);

/* The last queries of a layer and what they chose, in any order. */
typedef struct reattn__cuda_window {
    float *x;                /* [R][H][D] */
    reattn_hit *hits;        /* [R][H][top_k], positions counted from the layer's `first` */
    int64_t n, oldest, upto; /* queries held, the oldest of R, and up to which key they were searched */
} reattn__cuda_window;

/* New rows: keys and values to the store, queries to where selection and attention read them, and what keys that newly
 * fell into the middle mean for the queries of the window. */
typedef struct reattn__cuda_append_args {
    const reattn__cuda_layer *layer; /* room for n + T tokens; n is what it held before */
    reattn__cuda_tensor q, k, v;
    int64_t T;
    int H;           /* 0: there are no queries */
    float *q_out;    /* [T][H][D] */
    float *remember; /* [T - forget][H][D] gets the queries from `forget` on; or NULL */
    int64_t forget;
    const reattn__cuda_window *window; /* or NULL: nobody has to catch up */
    int64_t skip;                      /* a query of the window that is about to be replaced, -1: none */
    int64_t upto;                      /* keys [window->upto, upto), counted from `first`, are new to the window */
    reattn_hit *none;                  /* [T][H][top_k] get no hits: there is nothing to search; or NULL */
    int top_k;
    int number; /* of the layer, for `bad` */
    int *bad;   /* gets 4 * number + 1, 2, 3 if a query, key, value is not finite or too large */
} reattn__cuda_append_args;

int reattn__cuda_append(const reattn__cuda_append_args *args, void *stream, reattn_error *err);
/* Of up to REATTN__CUDA_MANY sessions in one launch. */
int reattn__cuda_append_many(const reattn__cuda_append_args *args, int n, void *stream, reattn_error *err);

#ifdef __cplusplus
}
#endif
#endif
