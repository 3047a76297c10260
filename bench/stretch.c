/* stretch.c - a deep session without reading a long text. See bench.h. */
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "data.h"
#include "session/session.h"

static void jitter(uint64_t *state, float change, float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] *= 1 + change * ((float)(bench_random(state) >> 40) * 0x1p-23f - 1);
}

/* Appends tokens of a layer until it holds n. */
static int stretch_layer(reattn_session *s, int layer, int64_t from, int64_t n, float change, reattn_error *err)
{
    const reattn__layer *shape = &s->layers[layer];
    int64_t nk = (int64_t)shape->Hk * shape->D, nv = (int64_t)shape->Hk * shape->Dv;
    uint64_t state = (uint64_t)layer;
    float *rows = malloc((size_t)(REATTN__PAGE * (nk + nv)) * sizeof *rows), *v = rows + REATTN__PAGE * nk;
    int code = rows ? REATTN_OK : reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    for (int64_t at = s->n, count; at < n && code == REATTN_OK; at += count) {
        int64_t source = (at - s->n) % from;
        count = REATTN__MIN(REATTN__MIN((int64_t)REATTN__PAGE, n - at), from - source);
        bench_data_dense(s->store, shape, layer, source, count, rows, v);
        jitter(&state, change, rows, count * nk);
        jitter(&state, change, v, count * nv);
        code = reattn__store_append(s->store, layer, count, rows, v, err);
    }
    free(rows);
    return code;
}

int bench_stretch(reattn_session *s, int64_t from, int64_t n, float change, reattn_error *err)
{
    if (from < 1 || from > s->n || n < s->n)
        return reattn__fail(err, REATTN_E_ARG, "cannot make %lld tokens of %lld by copying %lld", (long long)n,
                            (long long)s->n, (long long)from);
    if (s->policy->budget)
        return reattn__fail(err, REATTN_E_ARG, "--policy %s holds no more than %lld tokens: none can be copied in",
                            s->params.policy, (long long)s->params.pot);
    if (s->engine)
        return reattn__fail(err, REATTN_E_UNSUPPORTED,
                            "--synthetic fills the CPU's store only: add --engine cpu, or "
                            "leave it off");
    int32_t *tokens = realloc(s->tokens, (size_t)n * sizeof *tokens);
    if (!tokens)
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory for %lld tokens", (long long)n);
    s->tokens = tokens;
    s->cap = n;
    int code = s->native ? reattn__native_stretch(s->native, from, n, err) : reattn__store_reserve(s->store, n, err);
    for (int l = 0; l < s->n_layer && !s->native && code == REATTN_OK; l++)
        code = stretch_layer(s, l, from, n, change, err);
    if (code != REATTN_OK) {
        if (s->store)
            reattn__store_truncate(s->store, s->n);
        return code;
    }
    for (int64_t i = s->n; i < n; i++)
        tokens[i] = tokens[(i - s->n) % from];
    s->n = n;
    s->logits_at = -1;
    if (s->policy->forget)
        s->policy->forget(s->policy_state, s->n);
    return REATTN_OK;
}
