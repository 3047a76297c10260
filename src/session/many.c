/* many.c - one generated token of several sessions in one step.
 *
 * The bridge of the first of them runs the n tokens together, so that the model's weights are read once. What
 * libllama's own attention makes of n unrelated tokens does not matter: of every layer only the queries, keys and
 * values are taken, which are each row's own, and row i goes to session i as a step of one token. Nothing else in the
 * model mixes rows, so a row that failed, whatever is in it then, is nobody else's. */
#include <stdlib.h>
#include <string.h>

#include "place.h"

/* A session's part. */
typedef struct row {
    reattn_session *s;
    const int32_t *token;
    reattn__device_plan plan;
    bool begun, done; /* room was taken; it was stepped, or could not begin */
    int code;
    reattn_error err;
} row;

/* Those that take a step together. */
typedef struct group {
    row **rows;                 /* [n] */
    reattn__device_part *parts; /* [n] scratch */
    int n;
} group;

static int check_call(reattn_session *const *sessions, const int32_t *tokens, int n, reattn_error *err)
{
    if (!sessions || !tokens || n < 1)
        return reattn__fail(err, REATTN_E_ARG, "reattn_session_decode_many: no sessions");
    for (int i = 0; i < n; i++) {
        if (!sessions[i]) return reattn__fail(err, REATTN_E_ARG, "session %d is NULL", i);
        if (sessions[i]->model != sessions[0]->model)
            return reattn__fail(err, REATTN_E_ARG, "session %d is of another model than session 0", i);
        for (int j = 0; j < i; j++)
            if (sessions[j] == sessions[i])
                return reattn__fail(err, REATTN_E_ARG, "sessions %d and %d are the same", j, i);
    }
    return REATTN_OK;
}

/* All that can be known to fail before the model runs. */
static int prepare(reattn_session *s, const int32_t *token, reattn_error *err)
{
    int code = reattn__session_check(s, token, 1, err);
    if (code != REATTN_OK) return code;
    atomic_store(&s->cancel, false);
    if (!s->shared_row) {
        reattn_model_info info;
        reattn_model_get_info(s->model, &info);
        s->shared_row = malloc((size_t)info.n_vocab * sizeof *s->shared_row);
        if (!s->shared_row) return reattn__fail(err, REATTN_E_NOMEM, "out of memory for logits");
    }
    if (s->policy->budget) code = reattn__distill_make_room(s, 1, &(int64_t){1}, err);
    return code == REATTN_OK ? reattn__session_begin(s, token, 1, true, false, 1, err) : code;
}

static int any_left(const group *g, reattn_error *err)
{
    for (int i = 0; i < g->n; i++)
        if (g->rows[i]->code == REATTN_OK) return REATTN_OK;
    return reattn__fail(err, REATTN_E_CANCELLED, "no session is left of %d", g->n);
}

/* The layer function: row by row. */
static int layer_of_all(void *user, int layer, int64_t T, const float *q, const float *k, const float *v, float *out,
                        reattn_error *err)
{
    const group *g = user;
    const reattn__layer *l = &g->rows[0]->s->layers[layer];
    const int64_t nq = (int64_t)l->H * l->D, nk = (int64_t)l->Hk * l->D, nv = (int64_t)l->Hk * l->Dv,
                  no = (int64_t)l->H * l->Dv;
    for (int64_t i = 0; i < T; i++) {
        row *r = g->rows[i];
        if (r->code == REATTN_OK)
            r->code = reattn__session_layer(r->s, layer, 1, q + i * nq, k + i * nk, v + i * nv, out + i * no, &r->err);
        if (r->code != REATTN_OK) memset(out + i * no, 0, (size_t)no * sizeof *out);
    }
    return any_left(g, err);
}

static reattn__rows row_of(const reattn__rows *rows, int64_t i)
{
    reattn__rows one = *rows;
    one.data = (const char *)rows->data + i * rows->stride_token * (rows->half ? 2 : 4);
    return one;
}

/* The same on a device: all are queued, with their own engines, before the first is waited for. */
static int device_layer_of_all(void *user, int layer, int64_t T, const reattn__rows *q, const reattn__rows *k,
                               const reattn__rows *v, float *out, bool *has_out, reattn_error *err)
{
    const group *g = user;
    reattn_session *first = g->rows[0]->s;
    const int64_t no = (int64_t)first->layers[layer].H * first->layers[layer].Dv;
    const double t0 = reattn__now_ms();
    int code = out ? REATTN_OK : reattn__device_engine()->room(first->engine, layer, T, &out, err);
    if (code != REATTN_OK) return code;
    *has_out = true;
    int n = 0;
    for (int64_t i = 0; i < T; i++) {
        row *r = g->rows[i];
        bool has; /* logits are wanted, so there is an output */
        if (r->code == REATTN_OK) r->code = reattn__session_device_ready(r->s, layer, 1, &has, &r->plan, &r->err);
        if (r->code == REATTN_OK)
            g->parts[n++] = (reattn__device_part){.device = r->s->engine,
                                                  .q = row_of(q, i),
                                                  .k = row_of(k, i),
                                                  .v = row_of(v, i),
                                                  .plan = r->plan.n_list ? &r->plan : NULL,
                                                  .out = out + i * no,
                                                  .err = &r->err};
    }
    reattn__device_engine()->queue_many(g->parts, n, (int)T, layer);
    n = 0;
    for (int64_t i = 0; i < T; i++) {
        row *r = g->rows[i];
        if (r->code == REATTN_OK) r->code = g->parts[n++].code;
        /* What was queued before an error reads memory that the others' next layer writes. */
        if (r->code != REATTN_OK) reattn__device_engine()->wait(r->s->engine, layer, NULL);
    }
    for (int64_t i = 0; i < T; i++) {
        row *r = g->rows[i];
        if (r->code == REATTN_OK) r->code = reattn__session_device_wait(r->s, layer, 1, true, t0, &r->err);
    }
    return any_left(g, err);
}

static bool same_places(const reattn_session *a, const reattn_session *b)
{
    return a->n_layer == b->n_layer && !memcmp(a->device, b->device, (size_t)a->n_layer * sizeof *a->device);
}

/* The first session that is not done, and those that can share its step. */
static group gather(row *rows, int n, row **into, reattn__device_part *parts)
{
    group g = {into, parts, 0};
    for (row *r = rows; r < rows + n; r++) {
        if (r->done) continue;
        const reattn_session *first = g.n ? g.rows[0]->s : r->s;
        if (g.n && (first->native || r->s->native || g.n >= first->params.chunk || !same_places(first, r->s))) continue;
        r->done = true;
        g.rows[g.n++] = r;
    }
    return g;
}

static void run(const group *g, int32_t *tokens)
{
    reattn_session *first = g->rows[0]->s;
    if (g->n == 1) {
        row *r = g->rows[0];
        r->code = reattn__session_run(first, 1, 1, &r->err);
        r->code = reattn__session_end(first, 1, 1, r->code, &r->err);
        return;
    }
    const reattn__bridge_for who = {layer_of_all, device_layer_of_all, (void *)g};
    reattn_error err = {0};
    for (int i = 0; i < g->n; i++) tokens[i] = *g->rows[i]->token;
    const int code = reattn__bridge_run_for(first->bridge, &who, tokens, g->n, &err);
    reattn_model_info info;
    reattn_model_get_info(first->model, &info);
    for (int i = 0; i < g->n; i++) {
        row *r = g->rows[i];
        const float *logits = code == REATTN_OK ? reattn__bridge_logits(first->bridge, i) : NULL;
        r->s->shared = true;
        if (logits) memcpy(r->s->shared_row, logits, (size_t)info.n_vocab * sizeof *logits);
        else if (r->code == REATTN_OK)
            r->code = reattn__fail(&r->err, code == REATTN_OK ? REATTN_E_MODEL : code, "%s",
                                   code == REATTN_OK ? "libllama gave no logits" : err.msg);
        r->code = reattn__session_end(r->s, 1, 1, r->code, &r->err);
    }
}

int reattn_session_decode_many(reattn_session *const *sessions, const int32_t *tokens, int n, int *codes,
                               reattn_error *err)
{
    int code = check_call(sessions, tokens, n, err);
    if (code != REATTN_OK) return code;
    const double t0 = reattn__now_ms();
    row *rows = calloc((size_t)n, sizeof *rows);
    row **together = malloc((size_t)n * sizeof *together);
    reattn__device_part *parts = malloc((size_t)n * sizeof *parts);
    int32_t *of_step = malloc((size_t)n * sizeof *of_step);
    if (!rows || !together || !parts || !of_step) {
        code = reattn__fail(err, REATTN_E_NOMEM, "out of memory for %d sessions", n);
        for (int i = 0; codes && i < n; i++) codes[i] = code;
        goto end;
    }
    for (int i = 0; i < n; i++) {
        row *r = &rows[i];
        *r = (row){.s = sessions[i], .token = &tokens[i]};
        r->code = prepare(r->s, r->token, &r->err);
        r->begun = r->code == REATTN_OK;
        r->done = !r->begun;
    }
    for (group g = gather(rows, n, together, parts); g.n; g = gather(rows, n, together, parts)) run(&g, of_step);
    const double ms = reattn__now_ms() - t0;
    for (int i = 0; i < n; i++) {
        const row *r = &rows[i];
        r->s->stats.decode_ms += r->begun ? ms : 0;
        r->s->stats.decode_tokens += r->code == REATTN_OK;
        if (codes) codes[i] = r->code;
        if (r->code != REATTN_OK && code == REATTN_OK)
            code = reattn__fail(err, r->code, "session %d: %s", i, r->err.msg);
    }
end:
    free(rows);
    free(together);
    free(parts);
    free(of_step);
    return code;
}
