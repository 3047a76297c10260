/* ops.c - the public operations on caller memory: checks the arguments, then calls the engine. */
#include "reattn/ops.h"

#include "attend/attend.h"
#include "select/topk.h"

enum { HEADS_MAX = 4096, HEAD_DIM_MAX = 512, TOP_K_MAX = 64, THREADS_MAX = 1024 };

static int check_shape(const char *what, int64_t T, int64_t M, int H, int Hk, int D, int Dv, int n_threads,
                       reattn_error *err)
{
    if (T < 0 || M < 0)
        return reattn__fail(err, REATTN_E_ARG, "%s: T %lld and the number of keys %lld must not be negative", what,
                            (long long)T, (long long)M);
    if (H < 1 || H > HEADS_MAX || Hk < 1 || H % Hk)
        return reattn__fail(err, REATTN_E_ARG, "%s: H %d must be 1 .. %d and a multiple of Hk %d", what, H, HEADS_MAX,
                            Hk);
    if (D < 1 || D > HEAD_DIM_MAX || Dv < 1 || Dv > HEAD_DIM_MAX)
        return reattn__fail(err, REATTN_E_ARG, "%s: head sizes %d and %d must be 1 .. %d", what, D, Dv, HEAD_DIM_MAX);
    if (n_threads < 1 || n_threads > THREADS_MAX)
        return reattn__fail(err, REATTN_E_ARG, "%s: n_threads %d must be 1 .. %d", what, n_threads, THREADS_MAX);
    return REATTN_OK;
}

static int check_finite(const char *what, const char *name, const float *x, int64_t n, reattn_error *err)
{
    if (n > 0 && !x) return reattn__fail(err, REATTN_E_ARG, "%s: %s is NULL", what, name);
    if (!reattn__all_finite(x, n))
        return reattn__fail(err, REATTN_E_NAN, "%s: %s holds a NaN or an infinity", what, name);
    return REATTN_OK;
}

int reattn_topk(const float *q, const float *k, int64_t T, int64_t M, int H, int Hk, int D, int top_k, int n_threads,
                reattn_hit *hits, reattn_error *err)
{
    int code = check_shape("reattn_topk", T, M, H, Hk, D, D, n_threads, err);
    if (code != REATTN_OK) return code;
    if (top_k < 1 || top_k > TOP_K_MAX || (T > 0 && !hits))
        return reattn__fail(err, REATTN_E_ARG, "reattn_topk: top_k %d must be 1 .. %d, hits must not be NULL", top_k,
                            TOP_K_MAX);
    if ((code = check_finite("reattn_topk", "q", q, T * H * D, err)) != REATTN_OK) return code;
    if ((code = check_finite("reattn_topk", "k", k, M * Hk * D, err)) != REATTN_OK) return code;
    reattn__buffer work = {0};
    reattn__topk_args args = {
        .q = q, .T = T, .H = H, .src = {.k = k, .Hk = Hk, .D = D, .Dv = D}, .against = REATTN__KEYS, .lo = 0, .hi = M,
        .top_k = top_k, .n_threads = n_threads, .hits = hits, .work = &work,
    };
    code = reattn__topk(&args, err);
    reattn__buffer_free(&work);
    return code;
}

int reattn_attend(const float *q, const float *k, const float *v, int64_t T, int64_t q_first, int64_t n, int H, int Hk,
                  int D, int Dv, float scale, const reattn_rope *rope, const reattn_run *runs, int64_t n_run,
                  int n_threads, float *out, float *lse, reattn_error *err)
{
    int code = check_shape("reattn_attend", T, n, H, Hk, D, Dv, n_threads, err);
    if (code != REATTN_OK || (code = reattn__rope_check(rope, D, err)) != REATTN_OK) return code;
    if (n_run < 0 || (n_run > 0 && !runs) || (T > 0 && !out) || q_first < 0 || !(scale - scale == 0))
        return reattn__fail(err, REATTN_E_ARG, "reattn_attend: n_run %lld, q_first %lld, or a NULL array",
                            (long long)n_run, (long long)q_first);
    for (int64_t i = 0; i < n_run; i++)
        if (runs[i].count > 0 && (runs[i].first < 0 || runs[i].first > n - runs[i].count))
            return reattn__fail(err, REATTN_E_ARG, "reattn_attend: run %lld holds tokens %lld .. %lld of %lld",
                                (long long)i, (long long)runs[i].first,
                                (long long)(runs[i].first + runs[i].count - 1), (long long)n);
    if ((code = check_finite("reattn_attend", "q", q, T * H * D, err)) != REATTN_OK) return code;
    if ((code = check_finite("reattn_attend", "k", k, n * Hk * D, err)) != REATTN_OK) return code;
    if ((code = check_finite("reattn_attend", "v", v, n * Hk * Dv, err)) != REATTN_OK) return code;
    reattn__rope_table table = {.rope = *rope};
    reattn__buffer work[REATTN__ATTEND_BUFFERS] = {{0}};
    reattn__run_list list = {.runs = runs, .n = n_run};
    reattn__attend_args args = {
        .q = q, .T = T, .q_first = q_first, .H = H, .src = {.k = k, .v = v, .Hk = Hk, .D = D, .Dv = Dv}, .scale = scale,
        .rope = &table, .lists = &list, .n_list = 1, .n_threads = n_threads, .out = out, .lse = lse, .work = work,
    };
    code = reattn__attend(&args, err);
    for (int i = 0; i < REATTN__ATTEND_BUFFERS; i++) reattn__buffer_free(&work[i]);
    reattn__rope_table_free(&table);
    return code;
}
