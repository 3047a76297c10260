/* device.h - the engine on the GPUs on which a model's layers lie, as the bridge and a session see it.
 *
 * cuda.c fills the table from src/cuda; none.c is compiled instead where there is no CUDA. A device is the CUDA
 * runtime's number of it. An engine keeps the keys and values of the layers that it was given, each on the layer's
 * own device, and queues all work of a device on one stream. One thread at a time. Sizes are those of the layer: q
 * [T][H][D], k [T][Hk][D], v [T][Hk][Dv], out [T][H][Dv]. */
#ifndef REATTN_DEVICE_H
#define REATTN_DEVICE_H

#include "attend/attend.h"
#include "kv/store.h"
#include "reattn/reattn.h"

typedef struct reattn__device reattn__device;

/* Rows of a [T][heads][n] tensor of f32 or f16: value i of head h of token t is element t * stride_token + h *
 * stride_head + i. */
typedef struct reattn__rows {
    const void *data;
    int64_t stride_token, stride_head;
    bool half;
} reattn__rows;

/* A session's layers: those with device[l] >= 0 are the engine's. */
typedef struct reattn__device_args {
    const reattn__layer *layers; /* [n_layer] */
    const int *device;           /* [n_layer] */
    int n_layer;
    const reattn_session_params *params; /* resolved */
} reattn__device_args;

/* A plan that the host made: a list of runs for all KV heads, or one a head. */
typedef struct reattn__device_plan {
    const reattn__run_list *lists; /* [n_list] */
    int n_list;
    const float *q_scale; /* [T] factors on the queries, or NULL: 1 */
} reattn__device_plan;

/* An engine's part in a step of several. */
typedef struct reattn__device_part {
    reattn__device *device;
    reattn__rows q, k, v; /* of one token */
    const reattn__device_plan *plan;
    float *out;
    int code; /* written, as of `queue` */
    reattn_error *err;
} reattn__device_part;

typedef struct reattn__device_table {
    /* The device whose memory this is; -1 if it is none of these. */
    int (*of)(const void *data);
    /* Bytes of that device that are free now; 0 if it does not say. */
    uint64_t (*free_bytes)(int device);
    /* NULL, or what of this the kernels cannot do: an option, a policy, a shape. */
    const char *(*refuses)(const reattn__device_args *args);
    /* Errors: E_UNSUPPORTED (as refuses), E_NOMEM. */
    int (*create)(const reattn__device_args *args, reattn__device **out, reattn_error *err);
    void (*free)(reattn__device *d);
    /* Bytes that n tokens take, scratch not counted; and all bytes taken now: of devices, and *host of the host. */
    uint64_t (*bytes_for)(const reattn__device_args *args, int64_t n, uint64_t *host);
    uint64_t (*bytes)(const reattn__device *d, uint64_t *host);

    /* Takes the memory of n tokens in all layers. On E_LIMIT or E_NOMEM what is there stays. */
    int (*reserve)(reattn__device *d, int64_t n, reattn_error *err);
    /* Copies T rows of `heads` heads of f32 to memory kept for part 0, 1 or 2 until the next copy of that part, from
     * the layer's device or from the host. Returns when `from` may be overwritten; *kept is what was made. */
    int (*keep)(reattn__device *d, int layer, int part, int64_t T, int heads, const reattn__rows *from,
                reattn__rows *kept, reattn_error *err);
    /* One layer of one step. q, k, v lie on the layer's device; returns when they may be overwritten. The output
     * goes to `out`, memory of that device, or if it is NULL stays with the engine until `put`; without want_out
     * there is none. A policy that plans from lengths has made the `plan` of a step with an output, which is copied;
     * others have none. */
    int (*step)(reattn__device *d, int layer, int64_t T, bool decode, const reattn__rows *q, const reattn__rows *k,
                const reattn__rows *v, const reattn__device_plan *plan, bool want_out, float *out, reattn_error *err);
    /* The two halves of a step, so that steps of several engines run at the same time: `queue` returns before it has
     * run, `wait` when it has. */
    int (*queue)(reattn__device *d, int layer, int64_t T, bool decode, const reattn__rows *q, const reattn__rows *k,
                 const reattn__rows *v, const reattn__device_plan *plan, bool want_out, float *out, reattn_error *err);
    int (*wait)(reattn__device *d, int layer, reattn_error *err);
    /* Queues the decode steps of n engines whose layer lies on one device, each waited for by itself; where they are
     * alike with one launch of each kernel. All that was queued of them before has been waited for. `among`: how many
     * there were when the token began, n or more; the last bits of an output depend on it, and on nothing else of the
     * others. */
    void (*queue_many)(reattn__device_part *parts, int n, int among, int layer);
    /* *out becomes where an output of T rows stays until `put`: for steps of other engines, whose rows these are. */
    int (*room)(reattn__device *d, int layer, int64_t T, float **out, reattn_error *err);
    /* Copies the output of the last step, which was this layer's, to memory of its device or of the host. Returns
     * when it is there. */
    int (*put)(reattn__device *d, int layer, int64_t T, float *out, reattn_error *err);
    /* After the last layer of a step. E_NAN if a layer met a value that is not finite: rewind to before the step. */
    int (*check)(reattn__device *d, reattn_error *err);
    /* Forgets tokens from n on. */
    int (*rewind)(reattn__device *d, int64_t n, reattn_error *err);
    /* What the layer's last step recalled for KV head `list` (0 if all have one set), and the keys that it attended
     * to. Writes up to cap spans, ascending; *n_span says how many there are. Waits for the device. */
    int (*spans)(reattn__device *d, int layer, int list, reattn_span *spans, int64_t cap, int64_t *n_span,
                 int64_t *n_scope, reattn_error *err);
} reattn__device_table;

/* NULL in a build without CUDA. */
const reattn__device_table *reattn__device_engine(void);

#endif
