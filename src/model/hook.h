/* hook.h - taking Q, K and V out of libllama's graph and putting the attention's output back.
 *
 * libllama calls the hook for every node of its graph. Of a layer these are wanted, in the order in which they come:
 *   Vcur-<l>                 values, not rotated
 *   Qcur-<l>, Kcur-<l>       as GGML_OP_ROPE: the source is what we want, the parameters say how the model rotates
 *   GGML_OP_FLASH_ATTN_EXT   its output [D][H][T] is replaced
 * Each stop costs a decode step some 10 us. A single token at position 0 is not turned by RoPE, so there q and k can be
 * read from the nodes' outputs, all three at the last of them: two stops a layer instead of four. */
#ifndef REATTN_HOOK_H
#define REATTN_HOOK_H

#include <ggml.h>

#include "bridge.h"

typedef struct reattn__hook reattn__hook;

/* Called at a layer's attention node, with the hook's q, k and v filled in. */
typedef int (*reattn__hook_fn)(reattn__hook *hook, struct ggml_tensor *node);

struct reattn__hook {
    reattn__hook_fn attend;
    void *user;
    int64_t T, pos0;             /* tokens of the run, position of its first */
    int layer;                   /* layer at hand: that of the last Qcur; -1 before the first */
    int H, Hk, D, Dv;            /* its shape */
    bool has_q, has_k, has_v;    /* which of its parts have come */
    int last;                    /* which of them came last in the runs so far: 'q', 'k', 'v'; 0: none was seen yet */
    bool overwritten;            /* a part is overwritten before the last has come: stop at each */
    bool one;                    /* a single token: stop at the last only, for all three */
    struct ggml_tensor *node_q, *node_k, *node_v; /* those announced in this layer */
    reattn__buffer q, k, v, out; /* [T][H][D], [T][Hk][D], [T][Hk][Dv], [T][H][Dv] */
    reattn__buffer staging;      /* a tensor that lies on a device */
    reattn_rope rope;            /* of the layer's Q; freq_factors points into factors or is NULL */
    float factors[256];
    int code; /* first error; nothing is wanted after it */
    reattn_error err;
};

void reattn__hook_free(reattn__hook *hook);
/* Starts a run of T tokens at position pos0. */
void reattn__hook_start(reattn__hook *hook, int64_t T, int64_t pos0);
/* The function for llama_context_params.cb_eval; user_data is the hook. */
bool reattn__hook_eval(struct ggml_tensor *node, bool ask, void *user_data);
/* Reads a tensor of f32 with any strides into out, in the order of its dimensions ([ne2][ne1][ne0]). */
int reattn__hook_read(reattn__hook *hook, const struct ggml_tensor *t, float *out);
/* Writes the hook's out [T][H][Dv] into the attention node. */
int reattn__hook_write(reattn__hook *hook, struct ggml_tensor *node);

#endif
