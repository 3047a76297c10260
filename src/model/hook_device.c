/* hook_device.c - layers that a device engine has: their parts are taken where they lie. See hook.h. */
#include <ggml-backend.h>
#include <math.h>
#include <string.h>

#include "cpu/half.h"
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
static bool rows_of(reattn__hook *h, const struct ggml_tensor *t, int device, int n, int heads, reattn__rows *rows)
{
    const int64_t f = sizeof(float), T = h->T;
    bool three = t->ne[0] == n && t->ne[1] == heads && t->ne[2] == T;
    bool two = t->ne[0] == (int64_t)n * heads && t->ne[1] == T && t->ne[2] == 1;
    if (t->type != GGML_TYPE_F32 || (int64_t)t->nb[0] != f || (!three && !two))
        return false;
    if ((int64_t)t->nb[1] % f || (int64_t)t->nb[2] % f || reattn__hook_place(h, t) != device)
        return false;
    *rows = (reattn__rows){t->data, (int64_t)t->nb[three ? 2 : 1] / f, three ? (int64_t)t->nb[1] / f : n, false};
    return true;
}

/* Notes where a part lies; a copy is kept unless the layer's step runs before ggml goes on. */
static int take(reattn__hook *h, int kind, int layer, const struct ggml_tensor *node, bool now)
{
    const reattn__layer *l = &h->on->layers[layer];
    int part = part_of(kind), heads = kind == 'q' ? l->H : l->Hk, n = kind == 'v' ? l->Dv : l->D;
    const struct ggml_tensor *t = node;
    bool in_place = kind != 'v' && !h->at_zero && node->src[0]->data == node->data;
    if (kind != 'v' && !h->at_zero)
        t = node->src[0];
    h->here[part] = true;
    bool there = rows_of(h, t, h->on->device[layer], n, heads, &h->rows[part]) && !in_place;
    if (there && now)
        return REATTN_OK;
    if (!there) { /* it lies elsewhere, or has to be turned back: by way of the host */
        int code = reattn__hook_take_part(h, kind, node);
        if (code != REATTN_OK)
            return code;
        const reattn__buffer *host[] = {&h->q, &h->k, &h->v};
        h->rows[part] = (reattn__rows){host[part]->data, (int64_t)heads * n, n, false};
    }
    reattn__rows from = h->rows[part];
    return reattn__device_engine()->keep(h->on->engine, layer, part, h->T, heads, &from, &h->rows[part], &h->err);
}

static int step(reattn__hook *h, int layer)
{
    static const char *const names[] = {"rotated Qcur", "rotated Kcur", "Vcur"};
    for (int part = 0; part < 3; part++)
        if (!h->here[part])
            return reattn__fail(&h->err, REATTN_E_UNSUPPORTED,
                                "layer %d has no %s node of its own: only --policy native", layer, names[part]);
    h->stepped = true;
    return h->on->step(h->on->user, layer, h->T, &h->rows[0], &h->rows[1], &h->rows[2], NULL, &h->has_out, &h->err);
}

/* True if an output can be written where the attention's node lies. */
static bool is_place_of_output(reattn__hook *h, int layer, const struct ggml_tensor *node)
{
    const reattn__layer *l = &h->on->layers[layer];
    return node->type == GGML_TYPE_F32 && ggml_is_contiguous(node) && ggml_nelements(node) == h->T * l->H * l->Dv &&
           reattn__hook_place(h, node) == h->on->device[layer];
}

static int put(reattn__hook *h, int layer, struct ggml_tensor *node)
{
    const reattn__layer *l = &h->on->layers[layer];
    const reattn__device_table *engine = reattn__device_engine();
    if (is_place_of_output(h, layer, node))
        return engine->put(h->on->engine, layer, h->T, node->data, &h->err);
    float *out = reattn__buffer_need(&h->out, (size_t)(h->T * l->H * l->Dv) * sizeof *out);
    if (!out)
        return reattn__fail(&h->err, REATTN_E_NOMEM, "out of memory for the attention's output");
    int code = engine->put(h->on->engine, layer, h->T, out, &h->err);
    h->H = l->H;
    h->Dv = l->Dv;
    return code == REATTN_OK ? reattn__hook_write(h, node) : code;
}

/* ---------------------------------------------------------------------------- the sources of a fused node ---- */

/* True if source i of a fused node is [n][T or cells][heads] of the type that is expected. */
static bool fits(const reattn__hook *h, const struct ggml_tensor *node, int i, int layer)
{
    const reattn__layer *l = &h->on->layers[layer];
    const struct ggml_tensor *t = node->src[i];
    int64_t size = i == 0 ? (int64_t)sizeof(float) : 2;
    return t->type == (i == 0 ? GGML_TYPE_F32 : GGML_TYPE_F16) && (int64_t)t->nb[0] == size &&
           (int64_t)t->nb[1] % size == 0 && (int64_t)t->nb[2] % size == 0 && t->ne[0] == (i == 2 ? l->Dv : l->D) &&
           t->ne[1] >= h->T && t->ne[2] == (i == 0 ? l->H : l->Hk) && t->ne[3] == 1;
}

/* Its rows, if it lies on the layer's device. */
static bool source_of(reattn__hook *h, const struct ggml_tensor *node, int i, int layer, reattn__rows *rows)
{
    const struct ggml_tensor *t = node->src[i];
    const int64_t size = i == 0 ? (int64_t)sizeof(float) : 2;
    if (!fits(h, node, i, layer) || reattn__hook_place(h, t) != h->on->device[layer])
        return false;
    *rows = (reattn__rows){t->data, (int64_t)t->nb[1] / size, (int64_t)t->nb[2] / size, i > 0};
    return true;
}

/* A token's row of a source, all heads, wherever it lies: out [heads][n]. */
static int read_row(reattn__hook *h, const struct ggml_tensor *t, int64_t token, float *out)
{
    const bool joined = t->nb[2] == (size_t)t->ne[0] * t->nb[0];
    const size_t size = (size_t)t->ne[0] * t->nb[0], heads = (size_t)t->ne[2], at = (size_t)token * t->nb[1];
    char *row = reattn__buffer_need(&h->staging, heads * size);
    if (!row)
        return reattn__fail(&h->err, REATTN_E_NOMEM, "out of memory for a copy of %s", t->name);
    for (size_t head = 0; head < (joined ? 1 : heads); head++)
        ggml_backend_tensor_get(t, row + head * size, at + head * t->nb[2], joined ? heads * size : size);
    for (int64_t i = 0; i < t->ne[0] * t->ne[2]; i++)
        out[i] = t->type == GGML_TYPE_F16 ? reattn__half_to_float(((const uint16_t *)row)[i]) : ((const float *)row)[i];
    return REATTN_OK;
}

/* The same of a source that lies elsewhere. (Which operations libllama moves to a GPU, of layers that it does not keep
 * there, depends on the number of tokens.) */
static int fetch_source(reattn__hook *h, const struct ggml_tensor *node, int i, int layer, reattn__rows *rows)
{
    const struct ggml_tensor *t = node->src[i];
    const int64_t n = t->ne[0] * t->ne[2];
    if (!fits(h, node, i, layer))
        return reattn__fail(&h->err, REATTN_E_UNSUPPORTED,
                            "layer %d lies in another way than the layers before it: "
                            "only --engine cpu",
                            layer);
    float *x = reattn__buffer_need(&h->q, (size_t)(h->T * n) * sizeof *x);
    int code = x ? REATTN_OK : reattn__fail(&h->err, REATTN_E_NOMEM, "out of memory for a copy of %s", t->name);
    for (int64_t token = 0; token < h->T && code == REATTN_OK; token++)
        code = read_row(h, t, token, x + token * n);
    if (code != REATTN_OK)
        return code;
    const reattn__rows from = {x, n, t->ne[0], false};
    return reattn__device_engine()->keep(h->on->engine, layer, i, h->T, (int)t->ne[2], &from, rows, &h->err);
}

/* Of many tokens so many are compared, from the first to the last. */
enum { MOST_COMPARED = 16 };

static int64_t n_compared(const reattn__hook *h)
{
    return REATTN__MIN(h->T, (int64_t)MOST_COMPARED);
}

static int64_t token_compared(const reattn__hook *h, int64_t i)
{
    return i * (h->T - 1) / REATTN__MAX(n_compared(h) - 1, (int64_t)1);
}

/* Keeps the q, k and v of tokens to compare the sources with: each [n_compared][heads][n]. */
static int note_parts(reattn__hook *h, int layer)
{
    const reattn__layer *l = &h->on->layers[layer];
    const struct ggml_tensor *nodes[] = {h->node_q, h->node_k, h->node_v};
    const int64_t n[] = {(int64_t)l->H * l->D, (int64_t)l->Hk * l->D, (int64_t)l->Hk * l->Dv}, count = n_compared(h);
    float *x = reattn__buffer_need(&h->compare, (size_t)(count * (n[0] + n[1] + n[2])) * sizeof *x);
    if (!x)
        return reattn__fail(&h->err, REATTN_E_NOMEM, "out of memory");
    for (int part = 0; part < 3; part++) {
        struct ggml_tensor one = *nodes[part];
        const int of_token = one.ne[2] == h->T ? 2 : 1; /* [n][heads][T], or [n * heads][T] */
        one.ne[of_token] = 1;
        for (int64_t i = 0; i < count; i++, x += n[part]) {
            one.data = (char *)nodes[part]->data + token_compared(h, i) * (int64_t)one.nb[of_token];
            int code = ggml_nelements(&one) != n[part]
                           ? reattn__fail(&h->err, REATTN_E_UNSUPPORTED, "layer %d: %s has an unexpected layout", layer,
                                          one.name)
                           : reattn__hook_read(h, &one, x);
            if (code != REATTN_OK)
                return code;
        }
    }
    h->compared = layer;
    return REATTN_OK;
}

/* True if row `token` of a source holds these values, [heads][n], rounded to its type. */
static bool holds(reattn__hook *h, const struct ggml_tensor *t, int64_t token, const float *x)
{
    const int64_t n = t->ne[0] * t->ne[2];
    float *row = reattn__buffer_need(&h->q, (size_t)n * sizeof *row);
    if (!row || read_row(h, t, token, row) != REATTN_OK)
        return false;
    for (int64_t i = 0; i < n; i++)
        if (!(fabsf(row[i] - x[i]) <= (t->type == GGML_TYPE_F16 ? 0x1p-11f * fabsf(x[i]) + 0x1p-24f : 0)))
            return false;
    return true;
}

static void compare_sources(reattn__hook *h, const struct ggml_tensor *node, int layer)
{
    const reattn__layer *l = &h->on->layers[layer];
    const int heads[] = {l->H, l->Hk, l->Hk}, n[] = {l->D, l->D, l->Dv};
    const float *x = h->compare.data;
    reattn__rows rows;
    bool same = reattn__node_fused(node) && h->compared == layer;
    for (int part = 0; part < 3; part++)
        same = same && source_of(h, node, part, layer, &rows);
    for (int part = 0; part < 3; part++)
        for (int64_t i = 0; i < n_compared(h); i++, x += (int64_t)heads[part] * n[part])
            same = same && holds(h, node->src[part], token_compared(h, i), x);
    h->n_compared++;
    h->n_same += same;
}

/* A layer's step, from the sources to the output. */
static int take_sources(reattn__hook *h, int layer, struct ggml_tensor *node)
{
    reattn__rows rows[3];
    for (int i = 0; i < 3; i++) {
        int code = source_of(h, node, i, layer, &rows[i]) ? REATTN_OK : fetch_source(h, node, i, layer, &rows[i]);
        if (code != REATTN_OK)
            return code;
    }
    bool direct = is_place_of_output(h, layer, node);
    int code = h->on->step(h->on->user, layer, h->T, &rows[0], &rows[1], &rows[2], direct ? node->data : NULL,
                           &h->has_out, &h->err);
    return code == REATTN_OK && h->has_out && !direct ? put(h, layer, node) : code;
}

static int take_attention(reattn__hook *h, struct ggml_tensor *node)
{
    int layer = h->layer;
    if (h->single)
        return take_sources(h, layer, node);
    int code = h->stepped ? REATTN_OK : step(h, layer);
    if (h->at_zero && h->sources[h->T > 1] == 0)
        compare_sources(h, node, layer);
    h->stepped = h->here[0] = h->here[1] = h->here[2] = false;
    h->has_q = h->has_k = h->has_v = false;
    return code == REATTN_OK && h->has_out ? put(h, layer, node) : code;
}

int reattn__hook_take_device(reattn__hook *h, int kind, struct ggml_tensor *node)
{
    if (kind == 's')
        return REATTN_OK;
    if (kind == 'a')
        return take_attention(h, node);
    int layer = reattn__node_layer(node, kind == 'q' ? "Qcur-" : kind == 'k' ? "Kcur-" : "Vcur-"), code = REATTN_OK;
    bool early = reattn__hook_early(h), last = early && kind == h->awaited;
    const struct ggml_tensor *nodes[] = {h->node_q, h->node_k, h->node_v};
    if (h->at_zero && (!nodes[0] || !nodes[1] || !nodes[2]))
        return REATTN_OK; /* of the same name, but not yet the last */
    if (kind == 'q' || h->at_zero)
        h->layer = layer;
    for (int part = 0; part < 3 && code == REATTN_OK; part++) {
        int each = "qkv"[part];
        if (each == kind)
            code = take(h, each, layer, node, last);
        else if (nodes[part] && (h->at_zero || (last && each == 'v')))
            code = take(h, each, layer, nodes[part], last);
    }
    h->latest = kind;
    if (code == REATTN_OK && h->at_zero && h->sources[h->T > 1] == 0)
        code = note_parts(h, layer);
    return code == REATTN_OK && last ? step(h, layer) : code;
}
