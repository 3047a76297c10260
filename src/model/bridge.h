/* bridge.h - the model, seen from the rest of the library. Only src/model includes llama.h and ggml.h.
 *
 * A *bridge* runs the model on one chunk of tokens with its attention replaced: libllama computes its graph in a
 * context that never holds more than the chunk, and for every layer the hook takes the chunk's un-rotated Q, K and V
 * out of the graph, hands them to a function, and puts that function's output where the attention's result was.
 * A *native* runs the model with libllama's own attention and cache: the baseline. */
#ifndef REATTN_BRIDGE_H
#define REATTN_BRIDGE_H

#include "device/device.h"
#include "kv/store.h"
#include "reattn/reattn.h"

/* reattn_model_load with a form of libllama's attention to replace (node.h): AUTO is the one that libllama chooses, OFF
 * the one apart, ON the fused one. */
int reattn__model_load(const char *path, const reattn_model_params *params, int flash, reattn_model **out,
                       reattn_error *err);

/* Layers that attend, [n_layer]; NULL on a native-only model. */
const reattn__layer *reattn__model_layers(const reattn_model *model, int *n_layer);

/* Where each layer's queries, keys and values lie, [n_layer]: a CUDA device's number, or one of these. */
enum { REATTN__PLACE_HOST = -1, REATTN__PLACE_OTHER = -2 }; /* OTHER: a device that src/device does not know */
const int *reattn__model_places(const reattn_model *model);

/* Computes a layer's attention on the CPU: q [T][H][D], k [T][Hk][D], v [T][Hk][Dv] in, out [T][H][Dv]. */
typedef int (*reattn__layer_fn)(void *user, int layer, int64_t T, const float *q, const float *k, const float *v,
                                float *out, reattn_error *err);

/* The same on a device: the output goes to `out` or, if that is NULL, stays with the engine; *has_out says whether
 * there is one. */
typedef int (*reattn__device_fn)(void *user, int layer, int64_t T, const reattn__rows *q, const reattn__rows *k,
                                 const reattn__rows *v, float *out, bool *has_out, reattn_error *err);

typedef struct reattn__bridge reattn__bridge;

typedef struct reattn__bridge_args {
    int64_t chunk; /* most tokens a run takes */
    int n_threads;
    reattn__layer_fn fn;
    void *user;              /* of both functions */
    reattn__device *engine;  /* NULL: every layer's attention runs on the CPU; else */
    reattn__device_fn device_fn;
    const int *device;       /* [n_layer] the layers that the engine has: their device, else -1. Borrowed */
} reattn__bridge_args;

int reattn__bridge_create(reattn_model *model, const reattn__bridge_args *args, reattn__bridge **out,
                          reattn_error *err);
void reattn__bridge_free(reattn__bridge *bridge);
/* Runs T tokens; the layer function is called for every layer in order. An error that it returns ends the run and is
 * returned. The logits [n_vocab] of the last n_logits tokens (0 .. T) are there until the next run. */
int reattn__bridge_run(reattn__bridge *bridge, const int32_t *tokens, int64_t T, int64_t n_logits, reattn_error *err);
/* The same of T tokens that have nothing to do with each other, with logits of all: these two functions and their user
 * are called in place of the bridge's own, and of what they are given row t is token t's. Up to APART of them are
 * sequences of their own for libllama, for which it stops less often; more run as a chunk does. */
typedef struct reattn__bridge_for {
    reattn__layer_fn fn;
    reattn__device_fn device_fn;
    void *user;
} reattn__bridge_for;
enum { REATTN__BRIDGE_APART = 16 }; /* libllama keeps memory for so many rows of logits */
int reattn__bridge_run_for(reattn__bridge *bridge, const reattn__bridge_for *who, const int32_t *tokens, int64_t T,
                           reattn_error *err);
/* Logits of token t of that run; NULL if they were not asked for. */
const float *reattn__bridge_logits(const reattn__bridge *bridge, int64_t t);

typedef struct reattn__native reattn__native;
enum { REATTN__NATIVE_SEQUENCES = 2 }; /* a second one in the same cells, for stretch */

/* n_ctx: most tokens it holds; flash: libllama's flash attention, a reattn_flash; AUTO leaves it to libllama, which
 * knows whether the layers' backends have it. */
int reattn__native_create(reattn_model *model, int64_t n_ctx, int64_t chunk, int type_k, int type_v, int flash,
                          int n_threads, reattn__native **out, reattn_error *err);
void reattn__native_free(reattn__native *native);
int reattn__native_run(reattn__native *native, const int32_t *tokens, int64_t T, int64_t n_logits, reattn_error *err);
/* Benches only: fills the cache up to n tokens with copies of the first `from` of them, at the positions that
 * follow. */
int reattn__native_stretch(reattn__native *native, int64_t from, int64_t n, reattn_error *err);
int reattn__native_rewind(reattn__native *native, int64_t n, reattn_error *err);
const float *reattn__native_logits(const reattn__native *native, int64_t t);

#endif
