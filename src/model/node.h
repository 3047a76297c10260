/* node.h - what libllama's graph says of a layer's attention, in either of its two forms.
 *
 *   fused    GGML_OP_FLASH_ATTN_EXT, [Dv][H][T]
 *   apart    kq-<l> = k . q, a softmax, times v, and kqv_out-<l>, [Dv * H][T]: where flash attention is off, or where the
 *            layer's backend has no kernels for it (a CUDA build without them)
 * Both put out [T][H][Dv], read outermost first. */
#ifndef REATTN_NODE_H
#define REATTN_NODE_H

#include <ggml.h>
#include <stdbool.h>

/* "Qcur-17" -> 17 for prefix "Qcur-"; -1 if the name is another. */
int reattn__node_layer(const struct ggml_tensor *node, const char *prefix);
/* True for the node whose data is the attention's output. */
bool reattn__node_attends(const struct ggml_tensor *node);
/* True for the node at which the queries that the attention sees are src[1]; the fused form has them in its src[0]. */
bool reattn__node_scores(const struct ggml_tensor *node);
bool reattn__node_fused(const struct ggml_tensor *node);

/* Reads the factor on q . k of an attention node. Returns NULL, or what the layer has that is not plain softmax
 * attention ("a soft cap on its scores", ...). */
const char *reattn__node_scale(const struct ggml_tensor *node, float *scale);

#endif
