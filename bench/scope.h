/* scope.h - the scope of the benches of attention: that of a session, with spans anywhere. */
#ifndef BENCH_SCOPE_H
#define BENCH_SCOPE_H

#include "bench.h"

enum { BENCH_SPANS = 127 }; /* at most */

/* Cuts r->scope as a session would, but half of a small one is left to the last tokens: keep, recall_span, recall_max,
 * local of *scope. E_ARG if keys or queries do not fit it. */
int bench_scope_cut(const bench_request *r, reattn_session_params *scope, reattn_error *err);
/* Spans anywhere in the middle of so many keys, one in each of as many equal parts of it: [recall_max]. */
void bench_scope_spans(const reattn_session_params *scope, int64_t keys, uint64_t seed, reattn_span *spans);

#endif
