/* node.c - see node.h. */
#include "node.h"

#include <stdlib.h>
#include <string.h>

int reattn__node_layer(const struct ggml_tensor *node, const char *prefix)
{
    size_t n = strlen(prefix);
    if (strncmp(node->name, prefix, n) != 0)
        return -1;
    char *end;
    long layer = strtol(node->name + n, &end, 10);
    return end != node->name + n && *end == 0 ? (int)layer : -1;
}

bool reattn__node_fused(const struct ggml_tensor *node)
{
    return node->op == GGML_OP_FLASH_ATTN_EXT;
}

bool reattn__node_attends(const struct ggml_tensor *node)
{
    /* The fused form has a kqv_out too: a view of its output, in another shape. */
    return reattn__node_fused(node) || (node->op == GGML_OP_CONT && reattn__node_layer(node, "kqv_out-") >= 0);
}

bool reattn__node_scores(const struct ggml_tensor *node)
{
    return node->op == GGML_OP_MUL_MAT && reattn__node_layer(node, "kq-") >= 0;
}

/* op_params of GGML_OP_SOFT_MAX: scale, ALiBi's bias; of GGML_OP_FLASH_ATTN_EXT: the same, then the cap. */
static float parameter(const struct ggml_tensor *node, int i)
{
    float x;
    memcpy(&x, (const float *)node->op_params + i, sizeof x);
    return x;
}

const char *reattn__node_scale(const struct ggml_tensor *node, float *scale)
{
    bool fused = reattn__node_fused(node);
    const struct ggml_tensor *softmax = node;
    if (!fused) {
        /* kqv_out is a copy of a permuted (v times softmax). */
        const struct ggml_tensor *product = node->src[0];
        while (product &&
               (product->op == GGML_OP_PERMUTE || product->op == GGML_OP_VIEW || product->op == GGML_OP_RESHAPE))
            product = product->src[0];
        softmax = product && product->op == GGML_OP_MUL_MAT ? product->src[1] : NULL;
        if (!softmax || softmax->op != GGML_OP_SOFT_MAX)
            return "an attention of several parts (MLA?)";
        if (softmax->src[0]->op != GGML_OP_MUL_MAT)
            return "a soft cap or a bias on its scores";
    }
    *scale = parameter(softmax, 0);
    if (fused && parameter(softmax, 2) != 0)
        return "a soft cap on its scores";
    if (parameter(softmax, 1) != 0)
        return "ALiBi";
    if (softmax->src[fused ? 4 : 2])
        return "attention sinks";
    return NULL;
}
