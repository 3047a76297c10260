/* hook.c - see hook.h. */
#include "hook.h"

#include <ggml-backend.h>
#include <stdlib.h>
#include <string.h>

#include "attend/rope.h"
#include "node.h"

void reattn__hook_free(reattn__hook *h)
{
    reattn__buffer_free(&h->q);
    reattn__buffer_free(&h->k);
    reattn__buffer_free(&h->v);
    reattn__buffer_free(&h->out);
    reattn__buffer_free(&h->staging);
    reattn__buffer_free(&h->compare);
}

void reattn__hook_start(reattn__hook *h, int64_t T, int64_t pos0, bool level)
{
    int *compared = &h->sources[h->T > 1]; /* in the run before */
    if (*compared == 0 && h->n_compared > 0) *compared = h->n_same == h->n_compared ? 1 : -1;
    h->n_compared = h->n_same = 0;
    h->T = T;
    h->pos0 = pos0;
    h->level = level;
    h->layer = -1;
    h->has_q = h->has_k = h->has_v = false;
    h->here[0] = h->here[1] = h->here[2] = h->stepped = h->written = false;
    h->awaited = h->last;
    h->latest = 0;
    h->at_zero = (T == 1 || level) && pos0 == 0 && h->last && !h->overwritten && !h->scaled;
    h->single = h->at_zero && h->sources[T > 1] > 0;
    h->node_q = h->node_k = h->node_v = NULL;
    h->buffer = NULL;
    h->code = REATTN_OK;
}

/* 'q', 'k', 'v', 's'(cores) or 'a'(ttention); 0 if the node is nothing to us. */
static int kind_of(const struct ggml_tensor *t)
{
    if (reattn__node_attends(t)) return 'a';
    if (reattn__node_scores(t)) return 's';
    if (t->op != GGML_OP_ROPE) return reattn__node_layer(t, "Vcur-") >= 0 ? 'v' : 0;
    return reattn__node_layer(t, "Qcur-") >= 0 ? 'q' : reattn__node_layer(t, "Kcur-") >= 0 ? 'k' : 0;
}

/* True if a device engine has the layer of this node. */
static bool on_device(const reattn__hook *h, int kind, const struct ggml_tensor *t)
{
    if (!h->on) return false;
    int layer = kind == 'q' ? reattn__node_layer(t, "Qcur-") : kind == 'k' ? reattn__node_layer(t, "Kcur-")
                : kind == 'v' ? reattn__node_layer(t, "Vcur-") : h->layer;
    return layer >= 0 && h->on->device[layer] >= 0;
}

static bool writes_over(const struct ggml_tensor *t, const struct ggml_tensor *part)
{
    bool view = t->op == GGML_OP_NONE || t->op == GGML_OP_VIEW || t->op == GGML_OP_RESHAPE || t->op == GGML_OP_PERMUTE ||
                t->op == GGML_OP_TRANSPOSE;
    return part && t != part && !view && t->data == part->data;
}

/* Called as nodes are announced. The parts are noted; of tokens at 0 they are read at the last. (Phi 3 scales q in
 * place.) */
static bool wanted(reattn__hook *h, struct ggml_tensor *t)
{
    int kind = kind_of(t);
    bool part = kind == 'q' || kind == 'k' || kind == 'v';
    if ((kind != 'q' && writes_over(t, h->node_q)) || (kind != 'k' && writes_over(t, h->node_k)) ||
        (kind != 'v' && writes_over(t, h->node_v)))
        h->written = true;
    if (part && h->written) h->overwritten = true;
    if (kind == 'q') h->node_q = t;
    if (kind == 'k') h->node_k = t;
    if (kind == 'v') h->node_v = t;
    if (kind == 'a') {
        h->node_q = h->node_k = h->node_v = NULL;
        h->written = false;
    }
    if (kind == 's') return h->scores != NULL;
    if (h->single && kind == 'q') h->layer = reattn__node_layer(t, "Qcur-");
    if (h->single && on_device(h, kind, t)) return kind == 'a';
    if (h->at_zero) return kind == 'a' || kind == h->last;
    /* Its memory is the layer's until the cache has it, which is after the last part. */
    if (kind == 'v' && on_device(h, kind, t) && reattn__hook_early(h)) return false;
    return kind != 0;
}

int reattn__hook_place(reattn__hook *h, const struct ggml_tensor *t)
{
    ggml_backend_buffer_t buffer = t->view_src ? t->view_src->buffer : t->buffer;
    if (!buffer || ggml_backend_buffer_is_host(buffer)) return REATTN__PLACE_HOST;
    if (buffer == h->buffer) return h->buffer_place;
    int device = reattn__device_engine() ? reattn__device_engine()->of(t->data) : -1;
    h->buffer = buffer;
    return h->buffer_place = device < 0 ? REATTN__PLACE_OTHER : device;
}

int reattn__hook_read(reattn__hook *h, const struct ggml_tensor *t, float *out)
{
    const char *data = t->data;
    if (t->type != GGML_TYPE_F32)
        return reattn__fail(&h->err, REATTN_E_UNSUPPORTED, "%s is %s in the graph: only f32 is read", t->name,
                            ggml_type_name(t->type));
    ggml_backend_buffer_t buffer = t->view_src ? t->view_src->buffer : t->buffer;
    if (buffer && !ggml_backend_buffer_is_host(buffer)) {
        char *copy = reattn__buffer_need(&h->staging, ggml_nbytes(t));
        if (!copy) return reattn__fail(&h->err, REATTN_E_NOMEM, "out of memory for a copy of %s", t->name);
        ggml_backend_tensor_get(t, copy, 0, ggml_nbytes(t));
        data = copy;
    }
    for (int64_t i2 = 0; i2 < t->ne[2]; i2++) {
        for (int64_t i1 = 0; i1 < t->ne[1]; i1++) {
            const char *row = data + i2 * (int64_t)t->nb[2] + i1 * (int64_t)t->nb[1];
            if (t->nb[0] == sizeof(float)) memcpy(out, row, (size_t)t->ne[0] * sizeof *out);
            else
                for (int64_t i0 = 0; i0 < t->ne[0]; i0++) memcpy(out + i0, row + i0 * (int64_t)t->nb[0], sizeof *out);
            out += t->ne[0];
        }
    }
    return REATTN_OK;
}

int reattn__hook_write(reattn__hook *h, struct ggml_tensor *node)
{
    size_t bytes = (size_t)(h->T * h->H * h->Dv) * sizeof(float);
    if (node->type != GGML_TYPE_F32 || !ggml_is_contiguous(node) || ggml_nbytes(node) != bytes)
        return reattn__fail(&h->err, REATTN_E_UNSUPPORTED, "layer %d: the attention's output has an unexpected layout",
                            h->layer);
    ggml_backend_buffer_t buffer = node->view_src ? node->view_src->buffer : node->buffer;
    if (buffer && !ggml_backend_buffer_is_host(buffer)) ggml_backend_tensor_set(node, h->out.data, 0, bytes);
    else memcpy(node->data, h->out.data, bytes);
    return REATTN_OK;
}

/* Reads how a ROPE node rotates. The layout of op_params is ggml's, unchanged since YaRN came in; the check at load
 * compares a rotation with the node's own output, so a change would be found. */
static int read_rope(reattn__hook *h, const struct ggml_tensor *node)
{
    const int32_t *p = node->op_params;
    reattn_rope *r = &h->rope;
    *r = (reattn_rope){.n_rot = p[1], .n_ctx_orig = p[4]};
    if (p[2] == GGML_ROPE_TYPE_NEOX) r->kind = REATTN_ROPE_NEOX;
    else if (p[2] == 0) r->kind = REATTN_ROPE_NORMAL;
    else
        return reattn__fail(&h->err, REATTN_E_UNSUPPORTED, "layer %d rotates with ggml mode %d (multi-dimensional RoPE)",
                            h->layer, p[2]);
    if (p[15] != 0)
        return reattn__fail(&h->err, REATTN_E_UNSUPPORTED, "layer %d rotates from dimension %d on, not from 0", h->layer,
                            p[15]);
    memcpy(&r->freq_base, p + 5, 4);
    memcpy(&r->freq_scale, p + 6, 4);
    memcpy(&r->ext_factor, p + 7, 4);
    memcpy(&r->attn_factor, p + 8, 4);
    memcpy(&r->beta_fast, p + 9, 4);
    memcpy(&r->beta_slow, p + 10, 4);
    int code = reattn__rope_check(r, (int)node->ne[0], &h->err);
    if (code != REATTN_OK || !node->src[2]) return code;
    if (r->n_rot / 2 > (int)(sizeof h->factors / sizeof *h->factors) || node->src[2]->ne[0] < r->n_rot / 2)
        return reattn__fail(&h->err, REATTN_E_UNSUPPORTED, "layer %d has %d frequency factors", h->layer,
                            (int)node->src[2]->ne[0]);
    struct ggml_tensor row = *node->src[2];
    row.ne[0] = r->n_rot / 2;
    r->freq_factors = h->factors;
    return reattn__hook_read(h, &row, h->factors);
}

/* ROPE may run in place, and then its source is gone: turn the result back by the positions that it was given. */
static void turn_back(const reattn__hook *h, float *x, int heads)
{
    float cs[512];
    for (int64_t t = 0; t < h->T; t++) {
        reattn__rope_angles(&h->rope, h->pos0 + (h->level ? 0 : t), cs);
        for (int i = 0; i < heads; i++) reattn__rope_row_back(&h->rope, cs, x + (t * heads + i) * h->D);
    }
}

/* Takes what a ROPE node turned into `into`: its source; or of tokens at position 0, its output. */
static int take_rotated(reattn__hook *h, const struct ggml_tensor *node, reattn__buffer *into, int *heads)
{
    const struct ggml_tensor *src = node->src[0];
    bool in_place = h->at_zero || src->data == node->data;
    if (node->ne[0] > 512)
        return reattn__fail(&h->err, REATTN_E_UNSUPPORTED, "layer %d has heads of %lld values, more than 512", h->layer,
                            (long long)node->ne[0]);
    if (node->ne[2] != h->T)
        return reattn__fail(&h->err, REATTN_E_UNSUPPORTED, "layer %d: %s has %lld rows for %lld tokens", h->layer,
                            node->name, (long long)node->ne[2], (long long)h->T);
    int code = read_rope(h, node);
    float *x = code == REATTN_OK ? reattn__buffer_need(into, ggml_nelements(node) * sizeof *x) : NULL;
    if (code != REATTN_OK) return code;
    if (!x) return reattn__fail(&h->err, REATTN_E_NOMEM, "out of memory for %s", node->name);
    *heads = (int)node->ne[1];
    h->D = (int)node->ne[0];
    code = reattn__hook_read(h, in_place ? node : src, x);
    bool turned = h->pos0 != 0 || (h->T != 1 && !h->level) || h->rope.attn_factor != 1 || h->rope.ext_factor != 0;
    if (code == REATTN_OK && in_place && turned) turn_back(h, x, *heads);
    return code;
}

static int take_values(reattn__hook *h, const struct ggml_tensor *node)
{
    float *v = reattn__buffer_need(&h->v, (size_t)ggml_nelements(node) * sizeof *v);
    if (!v) return reattn__fail(&h->err, REATTN_E_NOMEM, "out of memory for %s", node->name);
    h->Dv = (int)(ggml_nelements(node) / h->T); /* of all KV heads together until their number is known */
    return reattn__hook_read(h, node, v);
}

int reattn__hook_take_part(reattn__hook *h, int kind, const struct ggml_tensor *node)
{
    int code;
    h->latest = kind;
    if (kind == 'v') {
        code = take_values(h, node);
        h->has_v = code == REATTN_OK;
        return code;
    }
    if (kind == 'k') {
        code = take_rotated(h, node, &h->k, &h->Hk);
        h->has_k = code == REATTN_OK;
        return code;
    }
    h->layer = reattn__node_layer(node, "Qcur-");
    h->place = reattn__hook_place(h, node);
    code = take_rotated(h, node, &h->q, &h->H);
    h->has_q = code == REATTN_OK;
    return code;
}

/* All parts of a layer, at the last of them. */
static int take_parts(reattn__hook *h)
{
    int code = REATTN_OK;
    if (!h->node_q || !h->node_k || !h->node_v) return REATTN_OK; /* one of the same name came before: not yet the last */
    code = reattn__hook_take_part(h, 'v', h->node_v);
    if (code == REATTN_OK) code = reattn__hook_take_part(h, 'k', h->node_k);
    if (code == REATTN_OK) code = reattn__hook_take_part(h, 'q', h->node_q);
    return code;
}

static int take_node(reattn__hook *h, struct ggml_tensor *node)
{
    int kind = kind_of(node);
    if (kind == 'a' && !h->at_zero) h->last = h->latest;
    if (on_device(h, kind, node)) return reattn__hook_take_device(h, kind, node);
    if (kind == 's') return h->has_q ? h->scores(h, node) : REATTN_OK;
    if (kind != 'a') return h->at_zero ? take_parts(h) : reattn__hook_take_part(h, kind, node);
    if (!h->has_q || !h->has_k || !h->has_v)
        return reattn__fail(&h->err, REATTN_E_UNSUPPORTED,
                            "layer %d has no %s node of its own (no RoPE, MLA, or shared keys): only --policy native",
                            h->layer + (h->has_q ? 0 : 1), !h->has_q ? "rotated Qcur" : !h->has_k ? "rotated Kcur" : "Vcur");
    if (h->Dv % h->Hk || h->H % h->Hk)
        return reattn__fail(&h->err, REATTN_E_UNSUPPORTED, "layer %d: %d query heads, %d KV heads", h->layer, h->H, h->Hk);
    h->Dv /= h->Hk;
    h->has_q = h->has_k = h->has_v = false;
    return h->attend(h, node);
}

bool reattn__hook_eval(struct ggml_tensor *node, bool ask, void *user_data)
{
    reattn__hook *h = user_data;
    if (ask) return h->code == REATTN_OK && wanted(h, node);
    h->code = take_node(h, node);
    return h->code == REATTN_OK;
}
