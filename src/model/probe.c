/* probe.c - the check at load: is replacing the attention exact for this model and this libllama?
 *
 * One decode of a few tokens, at positions that are not 0, is watched. For every layer the rotation that we read from
 * the graph must give the rotated Q that the model's attention sees (up to one constant factor, which some models fold
 * into Q), and plain causal attention of what we took out must give what the model's attention put out. So whatever a
 * model does that we do not - windows, soft caps, sinks, biases, other names or another order of the nodes - is found
 * here, and refused with the layer and the reason. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "attend/attend.h"
#include "hook.h"
#include "model.h"
#include "node.h"

enum { TOKENS = 24, POSITION = 37 };

/* An f16 cache and f16 sums stay well below this; a missing soft cap or mask does not. */
static const double TOLERANCE = 2e-2;

typedef struct probe {
    reattn_model *model;
    int n_threads;
    int seen;     /* layers that attended */
    float factor; /* of the layer at hand: between the queries that its attention sees and ours */
    bool checked; /* it was found */
    reattn__buffer x, work[REATTN__ATTEND_BUFFERS];
} probe;

/* |a - b| / |b| over n values. */
static double difference(const float *a, const float *b, int64_t n)
{
    double diff = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        diff += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return norm > 0 ? sqrt(diff / norm) : diff > 0 ? INFINITY : 0;
}

/* The attention's Q is [D][T][H], ours rotated is [T][H][D]: finds the factor between them, and that there is only
 * one. */
static int check_query(reattn__hook *h, const struct ggml_tensor *q)
{
    int64_t n = h->T * h->H * h->D;
    probe *p = h->user;
    float *theirs = reattn__buffer_need(&p->x, (size_t)(2 * n) * sizeof(float)), *ours = theirs + n;
    float cs[512];
    if (!theirs) return reattn__fail(&h->err, REATTN_E_NOMEM, "out of memory");
    if (q->ne[0] != h->D || q->ne[1] != h->T || q->ne[2] != h->H)
        return reattn__fail(&h->err, REATTN_E_UNSUPPORTED,
                            "layer %d attends with queries of another shape than its Qcur", h->layer);
    int code = reattn__hook_read(h, q, theirs); /* [H][T][D] */
    if (code != REATTN_OK) return code;
    double dot = 0, norm = 0;
    for (int64_t t = 0; t < h->T; t++) {
        reattn__rope_angles(&h->rope, h->pos0 + t, cs);
        for (int i = 0; i < h->H; i++) {
            float *x = ours + (i * h->T + t) * h->D;
            memcpy(x, (const float *)h->q.data + (t * h->H + i) * h->D, (size_t)h->D * sizeof *x);
            reattn__rope_row(&h->rope, cs, x);
        }
    }
    for (int64_t i = 0; i < n; i++) {
        dot += (double)theirs[i] * ours[i];
        norm += (double)ours[i] * ours[i];
    }
    p->factor = norm > 0 ? (float)(dot / norm) : 1;
    if (fabsf(p->factor - 1) < 1e-4f) p->factor = 1;
    for (int64_t i = 0; i < n; i++) ours[i] *= p->factor;
    double diff = difference(ours, theirs, n);
    if (!(diff < 1e-3))
        return reattn__fail(&h->err, REATTN_E_UNSUPPORTED,
                            "layer %d changes its queries after RoPE (%.2g apart from a plain rotation): only --policy "
                            "native",
                            h->layer, diff);
    p->checked = true;
    return REATTN_OK;
}

/* At the scores of a layer that attends in parts: only there are its queries sure to be in memory. */
static int watch_scores(reattn__hook *h, struct ggml_tensor *node)
{
    return check_query(h, node->src[1]);
}

/* Our attention against the model's. */
static int check_output(reattn__hook *h, const struct ggml_tensor *node, const reattn__layer *l)
{
    probe *p = h->user;
    int64_t n = h->T * h->H * h->Dv;
    float *theirs = reattn__buffer_need(&p->x, (size_t)(2 * n) * sizeof *theirs);
    if (!theirs) return reattn__fail(&h->err, REATTN_E_NOMEM, "out of memory");
    int code = reattn__hook_read(h, node, theirs);
    if (code != REATTN_OK) return code;
    reattn_run run = {
        .count = h->T, .k_pos = h->pos0, .k_step = 1, .q_pos = h->pos0, .q_step = 1, .dist_max = INT64_MAX};
    reattn__run_list list = {.runs = &run, .n = 1};
    reattn__rope_table table = {.rope = l->rope};
    reattn__attend_args args = {
        .q = h->q.data, .T = h->T, .H = h->H,
        .src = {.k = h->k.data, .v = h->v.data, .Hk = h->Hk, .D = h->D, .Dv = h->Dv},
        .scale = l->kq_scale, .rope = &table, .lists = &list, .n_list = 1, .n_threads = p->n_threads,
        .out = theirs + n, .work = p->work,
    };
    code = reattn__attend(&args, &h->err);
    reattn__rope_table_free(&table);
    if (code != REATTN_OK) return code;
    double diff = difference(theirs + n, theirs, n);
    if (!(diff < TOLERANCE))
        return reattn__fail(
            &h->err, REATTN_E_UNSUPPORTED,
            "layer %d attends in a way that reattn does not know (%.2g apart from plain attention): only "
            "--policy native",
            h->layer, diff);
    return REATTN_OK;
}

static int watch(reattn__hook *h, struct ggml_tensor *node)
{
    probe *p = h->user;
    reattn_model *m = p->model;
    float scale;
    if (h->layer != p->seen || h->layer >= m->n_layer)
        return reattn__fail(&h->err, REATTN_E_UNSUPPORTED,
                            "layer %d attends where layer %d was expected: only --policy native", h->layer, p->seen);
    const char *why = reattn__node_scale(node, &scale);
    if (why)
        return reattn__fail(&h->err, REATTN_E_UNSUPPORTED, "layer %d has %s: only --policy native", h->layer, why);
    int code = reattn__node_fused(node) ? check_query(h, node->src[0]) : REATTN_OK;
    if (code != REATTN_OK) return code;
    if (!p->checked)
        return reattn__fail(&h->err, REATTN_E_UNSUPPORTED, "layer %d attends without a kq node: only --policy native",
                            h->layer);
    p->checked = false;
    reattn__layer *l = &m->layers[h->layer];
    *l = (reattn__layer){h->H, h->Hk, h->D, h->Dv, scale * p->factor, h->rope};
    m->places[h->layer] = h->place;
    if (h->rope.freq_factors) {
        memcpy(m->factors[h->layer], h->factors, sizeof h->factors);
        l->rope.freq_factors = m->factors[h->layer];
    }
    p->seen++;
    return check_output(h, node, l);
}

static int refuse_early(const reattn_model *m, reattn_error *err)
{
    const char *why = NULL;
    if (llama_model_is_recurrent(m->llama)) why = "is recurrent";
    else if (llama_model_is_hybrid(m->llama)) why = "has recurrent layers";
    else if (llama_model_n_swa(m->llama) > 0) why = "has sliding-window layers";
    else if (llama_model_has_encoder(m->llama)) why = "has an encoder";
    else if (llama_model_rope_type(m->llama) == LLAMA_ROPE_TYPE_NONE) why = "has no RoPE";
    if (!why) return REATTN_OK;
    return reattn__fail(err, REATTN_E_UNSUPPORTED, "%s %s, from layer 0 to %d: only --policy native", m->arch, why,
                        llama_model_n_layer(m->llama) - 1);
}

static int decode_once(reattn_model *m, reattn__hook *hook, int n_threads, reattn_error *err)
{
    struct llama_context_params cp = llama_context_default_params();
    cp.n_ctx = cp.n_batch = cp.n_ubatch = 256;
    cp.n_threads = cp.n_threads_batch = n_threads;
    cp.flash_attn_type = m->flash;
    cp.cb_eval = reattn__hook_eval;
    cp.cb_eval_user_data = hook;
    struct llama_context *ctx = llama_init_from_model(m->llama, cp);
    if (!ctx)
        return reattn__fail(err, REATTN_E_MODEL, "libllama cannot run %s: %s", m->path, reattn__llama_complaint());
    llama_token tokens[TOKENS];
    llama_pos pos[TOKENS];
    int32_t n_seq[TOKENS];
    llama_seq_id zero = 0, *seq[TOKENS];
    int8_t logits[TOKENS] = {0};
    int32_t n_vocab = llama_vocab_n_tokens(m->vocab);
    for (int i = 0; i < TOKENS; i++) {
        tokens[i] = (llama_token)((int64_t)n_vocab * (2 * i + 1) / (2 * TOKENS));
        pos[i] = POSITION + i;
        n_seq[i] = 1;
        seq[i] = &zero;
    }
    logits[TOKENS - 1] = 1;
    /* The hook must be wanted before the warm-up that a context may run by itself. */
    struct llama_batch batch = {
        .n_tokens = TOKENS, .token = tokens, .pos = pos, .n_seq_id = n_seq, .seq_id = seq, .logits = logits};
    reattn__hook_start(hook, TOKENS, POSITION, false);
    int rc = llama_decode(ctx, batch);
    llama_free(ctx);
    if (hook->code != REATTN_OK) return reattn__fail(err, hook->code, "%s", hook->err.msg);
    if (rc != 0)
        return reattn__fail(err, REATTN_E_MODEL, "libllama cannot run %s: %s", m->path, reattn__llama_complaint());
    return REATTN_OK;
}

int reattn__model_probe(reattn_model *m, int n_threads, reattn_error *err)
{
    int code = refuse_early(m, err);
    if (code != REATTN_OK) return code;
    m->n_layer = llama_model_n_layer(m->llama);
    m->layers = calloc((size_t)m->n_layer, sizeof *m->layers);
    m->factors = calloc((size_t)m->n_layer, sizeof *m->factors);
    m->places = calloc((size_t)m->n_layer, sizeof *m->places);
    if (!m->layers || !m->factors || !m->places) return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    probe p = {.model = m, .n_threads = n_threads};
    reattn__hook *hook = calloc(1, sizeof *hook);
    if (!hook) return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    hook->attend = watch;
    hook->scores = watch_scores;
    hook->user = &p;
    code = decode_once(m, hook, n_threads, err);
    if (code == REATTN_OK && p.seen != m->n_layer)
        code = reattn__fail(err, REATTN_E_UNSUPPORTED,
                            "only %d of %d layers attend where libllama's nodes are known: only --policy native",
                            p.seen, m->n_layer);
    reattn__hook_free(hook);
    free(hook);
    reattn__buffer_free(&p.x);
    for (int i = 0; i < REATTN__ATTEND_BUFFERS; i++) reattn__buffer_free(&p.work[i]);
    return code;
}
