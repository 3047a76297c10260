/* hook.h - taking Q, K and V out of libllama's graph and putting the attention's output back.
 *
 * libllama calls the hook for every node of its graph. Of a layer these are wanted, in the order in which they
 * come:
 *   Vcur-<l>                 values, not rotated
 *   Qcur-<l>, Kcur-<l>       as GGML_OP_ROPE: the source is what we want, the parameters say how the model rotates
 *   the attention's output   fused or apart (node.h), [T][H][Dv]: it is replaced
 * Each stop costs a decode step some 10 us, more on a device. A token at position 0 is not turned by RoPE, so there q and
 * k can be read from the nodes' outputs, all three at the last of them: two stops a layer instead of four. A single token
 * is always there, several are where the bridge puts them there ("level").
 *
 * Nodes may lie in any backend's memory. A layer whose attention runs on the CPU gets arrays on the host, copied by
 * ggml where they lie elsewhere. A layer that a device engine has (src/device) is given to it where it lies: at the
 * last of q, k, v the layer's step runs, and its output is put at the attention's node. Only of the part that came
 * first a copy is kept there, because ggml may use its memory again. Tokens at position 0 on a device need one stop
 * where attention is fused: at its node the sources are q, k and v, the latter two as rows of libllama's cache, in
 * f16, which is how the engine keeps them too. The first such run, of one token and of several, is taken as above and
 * compared; if the sources are not the same the two stops remain. */
#ifndef REATTN_HOOK_H
#define REATTN_HOOK_H

#include <ggml.h>

#include "bridge.h"
#include "device/device.h"

typedef struct reattn__hook reattn__hook;

/* Called at a layer's attention node, with the hook's q, k and v filled in. */
typedef int (*reattn__hook_fn)(reattn__hook *hook, struct ggml_tensor *node);

/* Device layers: how the hook reaches their engine. `step` is called once a layer, with the layer's parts where they
 * lie; *has_out says whether there is an output to put at the attention's node. */
typedef struct reattn__hook_device {
    reattn__device *engine;
    const int *device;           /* [n_layer] -1: the layer's attention runs on the CPU */
    const reattn__layer *layers; /* [n_layer] */
    reattn__device_fn step;
    void *user;
} reattn__hook_device;

struct reattn__hook {
    reattn__hook_fn attend;
    reattn__hook_fn scores; /* at the node of an attention apart whose src[1] are its queries; NULL: no stop there */
    void *user;
    int64_t T, pos0;             /* tokens of the run, position of its first */
    bool level;                  /* they are all at pos0 */
    int layer;                   /* layer at hand: that of the last Qcur; -1 before the first */
    int H, Hk, D, Dv;            /* its shape */
    bool has_q, has_k, has_v;    /* which of its parts have come */
    int latest;                  /* which of them came last in this run so far: 'q', 'k', 'v' */
    int last;                    /* which of them comes last in a layer; 0: none was seen whole yet */
    bool written;                /* something was written over a part of this layer; if then another part comes: */
    bool overwritten;            /* a part is overwritten before the last has come: stop at each */
    bool at_zero;                /* tokens that RoPE does not turn: stop at the last only, for all three */
    struct ggml_tensor *node_q, *node_k, *node_v; /* those announced in this layer */
    reattn__buffer q, k, v, out; /* [T][H][D], [T][Hk][D], [T][Hk][Dv], [T][H][Dv] */
    reattn__buffer staging;      /* a tensor that lies on a device */
    reattn_rope rope;            /* of the layer's Q; freq_factors points into factors or is NULL */
    float factors[256];
    int place; /* where the layer's Q lies: reattn__model_places */
    const void *buffer; /* the last buffer of this run whose place was asked for, and that place */
    int buffer_place;

    const reattn__hook_device *on; /* NULL: every layer's attention runs on the CPU */
    bool scaled;          /* a layer of the engine scales what it rotates: its source is needed for a single token too */
    int awaited;          /* `last` of the runs before this one */
    reattn__rows rows[3]; /* q, k, v of the layer at hand, on its device */
    bool here[3];         /* which of them have come */
    bool stepped, has_out; /* its step has run; there is an output */
    int compared;         /* layer of `compare` */
    int sources[2];       /* of a fused node, for one token and for several: 0 not compared yet, 1 they are q, k, v, -1
                             they are not */
    int n_compared, n_same; /* layers, in the run that compares */
    bool single;          /* this run stops at them only */
    reattn__buffer compare; /* q, k, v of the tokens that are compared */

    int code; /* first error; nothing is wanted after it */
    reattn_error err;
};

void reattn__hook_free(reattn__hook *hook);
/* hook_device.c: takes a node of a layer that a device engine has; kind as in hook.c. */
int reattn__hook_take_device(reattn__hook *hook, int kind, struct ggml_tensor *node);
/* True if the layer's step runs at the last of its parts, before its attention. */
bool reattn__hook_early(const reattn__hook *hook);
/* hook.c: takes part 'q', 'k' or 'v' to the host. */
int reattn__hook_take_part(reattn__hook *hook, int kind, const struct ggml_tensor *node);
/* Starts a run of T tokens from position pos0 on, or, if they are level, all at pos0. */
void reattn__hook_start(reattn__hook *hook, int64_t T, int64_t pos0, bool level);
/* The function for llama_context_params.cb_eval; user_data is the hook. */
bool reattn__hook_eval(struct ggml_tensor *node, bool ask, void *user_data);
/* Reads a tensor of f32 with any strides into out, in the order of its dimensions ([ne2][ne1][ne0]). */
int reattn__hook_read(reattn__hook *hook, const struct ggml_tensor *t, float *out);
/* Writes the hook's out [T][H][Dv] into the attention node. */
int reattn__hook_write(reattn__hook *hook, struct ggml_tensor *node);
/* The device of a tensor's memory: reattn__model_places. */
int reattn__hook_place(reattn__hook *hook, const struct ggml_tensor *t);

#endif
