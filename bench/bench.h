/* bench.h - the benches of the engine's parts, as the program calls them. */
#ifndef BENCH_H
#define BENCH_H

#include <reattn/reattn.h>

/* What is measured: every combination of the lists. */
typedef struct bench_request {
    reattn_model *model; /* its shape; or NULL, and these: */
    int heads, kv_heads, dim;
    const int32_t *tokens; /* [n_tokens] keys and queries are those that the model has for this text; NULL: synthetic */
    int64_t n_tokens;
    const char *text; /* what the tokens are */
    uint64_t seed;    /* of synthetic keys */

    const int64_t *keys, *queries; /* [n_keys], [n_queries] ascending */
    int n_keys, n_queries;
    const int *types_k, *types_v; /* [n_types] reattn_dtype of keys and values */
    int n_types;
    int64_t scope; /* attend: keys that a query sees, at most */
    int top_k;
    bool seeded; /* select: seeds, as decode has them */
    const char *check; /* select: every query of every layer against the law at these CPU levels, "all" or "avx2,...";
                          NULL: no */
    const char *dump;  /* select: a file for keys and queries (bench/dump.h), those of the last line; NULL: none */
    bool cuda; /* on the CUDA device */
    int repeats, n_threads;
    bool json;
} bench_request;

/* Each prints a table, or one JSON object, on standard output. Errors: E_INTERNAL if a result differs from the law,
 * E_ARG (a text shorter than the keys asked for, a shape that cannot be), E_NOMEM, and those of running the model. */
int bench_select(const bench_request *request, reattn_error *err);
int bench_attend(const bench_request *request, reattn_error *err);

/* Makes a session hold n tokens by appending the keys and values of its first `from` tokens again and again. Under
 * every policy but native each copied value is changed at random by up to `change` of it (0 .. 1), so that keys do not
 * tie. What is measured there is speed; what the model says means nothing.
 * Errors: E_ARG, E_LIMIT, E_NOMEM, E_UNSUPPORTED. */
int bench_stretch(reattn_session *session, int64_t from, int64_t n, float change, reattn_error *err);

#endif
