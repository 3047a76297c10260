/* hook_device.c - layers that a device engine has: their parts are taken where they lie. See hook.h. */
#include <ggml-backend.h>

#include "hook.h"
#include "node.h"

static int part_of(int kind)
{
    return kind == 'q' ? 0 : kind == 'k' ? 1 : 2;
}

bool reattn__hook_early(const reattn__hook *h)
{
    /* Rotated nodes come once a layer; of values there may be several, and only the last of them is what is meant. */
    return !h->overwritten && (h->awaited == 'q' || h->awaited == 'k');
}

/* The rows of a tensor [n][heads][T], or [n * heads][T], that lies on the device; false if it does not. */
static bool rows_of(const struct ggml_tensor *t, int device, int n, int heads, int64_t T, reattn__rows *rows)
{
    const int64_t f = sizeof(float);
    bool three = t->ne[0] == n && t->ne[1] == heads && t->ne[2] == T;
    bool two = t->ne[0] == (int64_t)n * heads && t->ne[1] == T && t->ne[2] == 1;
    if (t->type != GGML_TYPE_F32 || (int64_t)t->nb[0] != f || (!three && !two)) return false;
    if ((int64_t)t->nb[1] % f || (int64_t)t->nb[2] % f || reattn__hook_place(t) != device) return false;
    *rows = (reattn__rows){t->data, (int64_t)t->nb[three ? 2 : 1] / f, three ? (int64_t)t->nb[1] / f : n};
    return true;
}

/* True if the node's output is what its source was: a single token at position 0, without a factor on what is turned. */
static bool is_identity(const reattn__hook *h, int layer)
{
    const reattn_rope *r = &h->on->layers[layer].rope;
    return h->T == 1 && h->pos0 == 0 && r->attn_factor == 1 && r->ext_factor == 0;
}

/* Notes where a part lies; a copy is kept unless the layer's step runs before ggml goes on. */
static int take(reattn__hook *h, int kind, int layer, const struct ggml_tensor *node, bool now)
{
    const reattn__layer *l = &h->on->layers[layer];
    int part = part_of(kind), heads = kind == 'q' ? l->H : l->Hk, n = kind == 'v' ? l->Dv : l->D;
    const struct ggml_tensor *t = node;
    bool in_place = false;
    if (kind != 'v') {
        in_place = h->one || node->src[0]->data == node->data;
        t = in_place ? node : node->src[0];
    }
    h->here[part] = true;
    bool there = rows_of(t, h->on->device[layer], n, heads, h->T, &h->rows[part]) && (!in_place || is_identity(h, layer));
    if (there && now) return REATTN_OK;
    if (!there) { /* it lies elsewhere, or has to be turned back: by way of the host */
        int code = reattn__hook_take_part(h, kind, node);
        if (code != REATTN_OK) return code;
        const reattn__buffer *host[] = {&h->q, &h->k, &h->v};
        h->rows[part] = (reattn__rows){host[part]->data, (int64_t)heads * n, n};
    }
    reattn__rows from = h->rows[part];
    return reattn__device_engine()->keep(h->on->engine, layer, part, h->T, heads, &from, &h->rows[part], &h->err);
}

static int step(reattn__hook *h, int layer)
{
    static const char *const names[] = {"rotated Qcur", "rotated Kcur", "Vcur"};
    for (int part = 0; part < 3; part++)
        if (!h->here[part])
            return reattn__fail(&h->err, REATTN_E_UNSUPPORTED, "layer %d has no %s node of its own: only --policy native",
                                layer, names[part]);
    h->stepped = true;
    return h->on->step(h->on->user, layer, h->T, &h->rows[0], &h->rows[1], &h->rows[2], &h->has_out, &h->err);
}

static int put(reattn__hook *h, int layer, struct ggml_tensor *node)
{
    const reattn__layer *l = &h->on->layers[layer];
    const reattn__device_table *engine = reattn__device_engine();
    size_t bytes = (size_t)(h->T * l->H * l->Dv) * sizeof(float);
    if (node->type == GGML_TYPE_F32 && ggml_is_contiguous(node) && ggml_nbytes(node) == bytes &&
        reattn__hook_place(node) == h->on->device[layer])
        return engine->put(h->on->engine, layer, h->T, node->data, &h->err);
    float *out = reattn__buffer_need(&h->out, bytes);
    if (!out) return reattn__fail(&h->err, REATTN_E_NOMEM, "out of memory for the attention's output");
    int code = engine->put(h->on->engine, layer, h->T, out, &h->err);
    h->H = l->H;
    h->Dv = l->Dv;
    return code == REATTN_OK ? reattn__hook_write(h, node) : code;
}

static int take_attention(reattn__hook *h, struct ggml_tensor *node)
{
    int layer = h->layer, code = h->stepped ? REATTN_OK : step(h, layer);
    h->stepped = h->here[0] = h->here[1] = h->here[2] = false;
    h->has_q = h->has_k = h->has_v = false;
    return code == REATTN_OK && h->has_out ? put(h, layer, node) : code;
}

int reattn__hook_take_device(reattn__hook *h, int kind, struct ggml_tensor *node)
{
    if (kind == 's') return REATTN_OK;
    if (kind == 'a') return take_attention(h, node);
    int layer = reattn__node_layer(node, kind == 'q' ? "Qcur-" : kind == 'k' ? "Kcur-" : "Vcur-"), code = REATTN_OK;
    bool early = reattn__hook_early(h), last = early && kind == h->awaited;
    const struct ggml_tensor *nodes[] = {h->node_q, h->node_k, h->node_v};
    if (h->one && (!nodes[0] || !nodes[1] || !nodes[2])) return REATTN_OK; /* of the same name, but not yet the last */
    if (kind == 'q' || h->one) h->layer = layer;
    for (int part = 0; part < 3 && code == REATTN_OK; part++) {
        int each = "qkv"[part];
        if (each == kind) code = take(h, each, layer, node, last);
        else if (nodes[part] && (h->one || (last && each == 'v'))) code = take(h, each, layer, nodes[part], last);
    }
    h->last = kind;
    return code == REATTN_OK && last ? step(h, layer) : code;
}
