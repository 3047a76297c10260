/* scope.c - see scope.h. */
#include "scope.h"

#include "base/base.h"
#include "data.h"

int bench_scope_cut(const bench_request *r, reattn_session_params *p, reattn_error *err)
{
    const int64_t scope = r->scope, most = r->queries[r->n_queries - 1];
    *p = reattn_session_params_default();
    p->keep = p->recall_span = 32; /* what they are by default once a policy is chosen */
    p->recall_max = REATTN__MIN((int64_t)BENCH_SPANS, (scope - p->keep) / 2 / p->recall_span);
    p->local_per = REATTN_LOCAL_PER_STEP;
    p->local = scope - p->keep - p->recall_max * p->recall_span;
    if (r->keys[0] < scope)
        return reattn__fail(err, REATTN_E_ARG, "--keys %lld are fewer than --scope %lld", (long long)r->keys[0],
                            (long long)scope);
    if (most > p->local)
        return reattn__fail(err, REATTN_E_ARG, "--queries %lld are more than the last %lld tokens of --scope %lld",
                            (long long)most, (long long)p->local, (long long)scope);
    return REATTN_OK;
}

void bench_scope_spans(const reattn_session_params *p, int64_t keys, uint64_t seed, reattn_span *spans)
{
    const int64_t middle = keys - p->keep - p->local;
    uint64_t state = seed;
    for (int64_t i = 0; i < p->recall_max; i++) {
        const int64_t part = middle / p->recall_max, slack = part - p->recall_span;
        spans[i].first = p->keep + i * part + (int64_t)(bench_random(&state) % (uint64_t)(slack + 1));
        spans[i].count = p->recall_span;
    }
}
