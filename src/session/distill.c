/* distill.c - sessions of a policy with a budget. Of each KV head at most `pot` tokens are held. When text and catalyst
 * no longer fit, the catalyst is run on top of what is held, so that its queries score it; then its own keys are
 * dropped, the policy chooses `pot_keep` tokens of each head, and reading goes on behind these, at positions counted
 * anew.
 *
 * That happens before a step, not after: a text that just fits is not touched. A prompt's tail is not cut by it: if the
 * tail does not fit, the pot is emptied before. The policy also learns of every token how new it was, -log p by the
 * logits before it; so all of a prompt's logits are computed. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "session.h"

void reattn__distill_free(reattn_session *s)
{
    reattn__pot *p = &s->pot;
    free(p->catalyst);
    free(p->kept);
    free(p->nats);
    for (int i = 0; i < REATTN__ROWS; i++) free(p->rows[i]);
    *p = (reattn__pot){0};
}

static int n_vocab(const reattn_session *s)
{
    reattn_model_info info;
    reattn_model_get_info(s->model, &info);
    return info.n_vocab;
}

int reattn_session_set_catalyst(reattn_session *s, const int32_t *tokens, int64_t n, reattn_error *err)
{
    if (!s || !tokens || n < 1) return reattn__fail(err, REATTN_E_ARG, "reattn_session_set_catalyst: no tokens");
    if (!s->policy->budget)
        return reattn__fail(err, REATTN_E_ARG, "--policy %s drops no keys, so it has no catalyst", s->params.policy);
    if (s->n) return reattn__fail(err, REATTN_E_ARG, "the catalyst can be set only while the session is empty");
    for (int64_t i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= n_vocab(s))
            return reattn__fail(err, REATTN_E_ARG, "token %lld of the catalyst is %d, the vocabulary has %d",
                                (long long)i, tokens[i], n_vocab(s));
    if (s->params.pot_keep + n >= s->params.pot)
        return reattn__fail(
            err, REATTN_E_ARG,
            "--pot %lld has no room for text beside the %lld tokens that stay (--pot-keep) and %lld of the "
            "catalyst",
            (long long)s->params.pot, (long long)s->params.pot_keep, (long long)n);
    int32_t *copy = malloc((size_t)n * sizeof *copy);
    if (!copy) return reattn__fail(err, REATTN_E_NOMEM, "out of memory for the catalyst");
    memcpy(copy, tokens, (size_t)n * sizeof *copy);
    free(s->pot.catalyst);
    s->pot.catalyst = copy;
    s->pot.n_catalyst = n;
    return REATTN_OK;
}

int reattn__distill_create(reattn_session *s, reattn_error *err)
{
    reattn__pot *p = &s->pot;
    const char *text = s->policy->catalyst;
    int64_t lists = 0, room = (int64_t)strlen(text) + 8; /* a token holds a byte at least */
    bool fine = true;
    for (int l = 0; l < s->n_layer; l++) lists += s->layers[l].Hk;
    p->kept = malloc((size_t)(lists * s->params.pot_keep) * sizeof *p->kept);
    p->nats = malloc((size_t)s->params.chunk * sizeof *p->nats);
    for (int i = 0; i < REATTN__ROWS; i++) {
        p->rows[i] = malloc((size_t)n_vocab(s) * sizeof *p->rows[i]);
        p->row_at[i] = -1;
        fine = fine && p->rows[i];
    }
    int32_t *tokens = malloc((size_t)room * sizeof *tokens);
    int code = REATTN_OK;
    int64_t n = 0;
    if (!p->kept || !p->nats || !fine || !tokens) code = reattn__fail(err, REATTN_E_NOMEM, "out of memory for the pot");
    if (code == REATTN_OK) n = reattn_tokenize(s->model, text, strlen(text), false, false, tokens, room, err);
    if (code == REATTN_OK && n < 0) code = (int)n;
    if (code == REATTN_OK && n > room)
        code = reattn__fail(err, REATTN_E_INTERNAL, "the catalyst has %lld tokens", (long long)n);
    if (code == REATTN_OK) code = reattn_session_set_catalyst(s, tokens, n, err);
    free(tokens);
    return code;
}

int64_t reattn__distill_room(const reattn_session *s)
{
    return REATTN__MAX(s->params.pot - s->pot.n_catalyst - reattn__session_held(s), (int64_t)0);
}

/* Runs the catalyst on top of what is held, and drops it. */
static int probe(reattn_session *s, int64_t held, reattn_error *err)
{
    reattn__pot *p = &s->pot;
    int code = reattn__store_reserve(s->store, held + p->n_catalyst, err);
    if (code != REATTN_OK) return code;
    s->decode = s->last = s->want_logits = false;
    for (int64_t at = 0; at < p->n_catalyst && code == REATTN_OK; at = p->probe) {
        p->probe = REATTN__MIN(p->n_catalyst, at + s->params.chunk);
        code = reattn__bridge_run(s->bridge, p->catalyst + at, p->probe - at, 0, err);
    }
    p->probe = 0;
    if (code == REATTN_OK && atomic_load(&s->cancel))
        code = reattn__fail(err, REATTN_E_CANCELLED, "cancelled after %lld tokens", (long long)s->n);
    reattn__store_truncate(s->store, held);
    for (int l = 0; s->turned && l < s->n_layer; l++) reattn__turned_forget(&s->turned[l]);
    return code;
}

static int distill(reattn_session *s, reattn_error *err)
{
    reattn__pot *p = &s->pot;
    const int64_t held = reattn__session_held(s), keep = s->params.pot_keep, full = reattn__distill_room(s);
    int64_t *kept = p->kept;
    s->logits_at = -1;
    int code = probe(s, held, err);
    for (int l = 0; l < s->n_layer && code == REATTN_OK; kept += s->layers[l++].Hk * keep)
        code = s->policy->choose(s->policy_state, l, held, keep, kept, err);
    if (code != REATTN_OK) return code;
    kept = p->kept;
    for (int l = 0; l < s->n_layer && code == REATTN_OK; kept += s->layers[l++].Hk * keep) {
        code = reattn__store_keep(s->store, l, kept, keep, err);
        if (code == REATTN_OK) s->policy->drop(s->policy_state, l, keep, kept);
    }
    reattn__store_truncate(s->store, keep);
    p->dropped += held - keep;
    p->floor = s->n;
    s->stats.distillations++;
    /* Before its time, for a tail: a longer text would not have been distilled here, so nothing can be gone on from. */
    if (full > 0) s->anchored = 0;
    return code;
}

int reattn__distill_make_room(reattn_session *s, int64_t whole, int64_t *T, reattn_error *err)
{
    int64_t most = s->params.pot - s->pot.n_catalyst - s->params.pot_keep; /* that the pot can have room for */
    int code = REATTN_OK;
    if (reattn__distill_room(s) < REATTN__MAX(REATTN__MIN(whole, most), (int64_t)1) &&
        reattn__session_held(s) > s->params.pot_keep)
        code = distill(s, err);
    *T = REATTN__MIN(*T, reattn__distill_room(s));
    return code;
}

typedef struct reading {
    const reattn_session *s;
    const int32_t *tokens;
    int n_vocab;
} reading;

/* -log p of token t of the step: of the first by the row that was kept, of the others by the logits before them. */
static int novelty_task(void *ctx, int64_t t, int worker)
{
    const reading *r = ctx;
    const reattn__pot *p = &r->s->pot;
    const float *row = t ? reattn__session_row(r->s, t - 1) : p->row_at[0] >= 0 ? p->rows[0] : NULL;
    float top = -INFINITY;
    double sum = 0;
    (void)worker;
    if (!row) return REATTN_OK;
    for (int i = 0; i < r->n_vocab; i++) top = row[i] > top ? row[i] : top;
    for (int i = 0; i < r->n_vocab; i++) sum += (double)expf(row[i] - top);
    p->nats[t] = (float)((double)top + log(sum) - (double)row[r->tokens[t]]);
    return p->nats[t] == p->nats[t] ? REATTN_OK : REATTN_E_NAN;
}

static void keep_row(reattn__pot *p, int i, const float *row, int n, int64_t at)
{
    memcpy(p->rows[i], row, (size_t)n * sizeof *row);
    p->row_at[i] = at;
}

int reattn__distill_read(reattn_session *s, const int32_t *tokens, int64_t T, bool decode, reattn_error *err)
{
    reattn__pot *p = &s->pot;
    const reading r = {s, tokens, n_vocab(s)};
    const int64_t C = s->params.chunk;
    /* Nothing predicts the first token of a text: it is kept, as models need it to be. Nor that which follows on a
     * rewind to where no row was kept: that one is like any other. */
    p->nats[0] = s->n == T ? INFINITY : 0;
    int code = reattn__parallel(T < 4 ? 1 : s->params.n_threads, T, novelty_task, (void *)&r);
    if (code != REATTN_OK)
        return reattn__fail(err, code, "the model gave logits that are not finite: the model or its file is damaged");
    s->policy->novelty(s->policy_state, reattn__session_held(s) - T, T, p->nats);
    const float *last = reattn__session_row(s, T - 1);
    keep_row(p, 0, last, r.n_vocab, s->n);
    if (!decode && s->n % C == 0) keep_row(p, (int)(1 + s->n / C % (REATTN__ROWS - 1)), last, r.n_vocab, s->n);
    return REATTN_OK;
}

void reattn__distill_cut(reattn_session *s, int64_t n)
{
    reattn__pot *p = &s->pot;
    if (n == 0) p->dropped = p->floor = 0;
    for (int i = 0; i < REATTN__ROWS; i++)
        if (p->row_at[i] > n || n == 0) p->row_at[i] = -1;
    if (p->row_at[0] == n) return;
    p->row_at[0] = -1;
    for (int i = 1; i < REATTN__ROWS; i++)
        if (p->row_at[i] == n) keep_row(p, 0, p->rows[i], n_vocab(s), n);
}

int64_t reattn__distill_anchor(const reattn_session *s, int64_t n)
{
    const reattn__pot *p = &s->pot;
    int64_t best = 0;
    for (int i = 1; i < REATTN__ROWS; i++)
        if (p->row_at[i] <= n && p->row_at[i] >= p->floor) best = REATTN__MAX(best, p->row_at[i]);
    return best;
}
