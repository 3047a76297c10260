/* Every error that ops.h can give: its code, a message, and no harm; memory that runs out at each allocation. */
#include "test_util.h"

#include "reattn/ops.h"

/* ---------------------------------------------------------------------------------- memory that runs out ---- */

/* The library takes its scratch from posix_memalign alone. This one stands in for libc's, and fails on demand. */
static long allocations_left = -1; /* -1: no limit */

int posix_memalign(void **ptr, size_t alignment, size_t bytes)
{
    if (allocations_left == 0)
        return ENOMEM;
    if (allocations_left > 0)
        allocations_left--;
    *ptr = aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    return *ptr ? 0 : ENOMEM;
}

/* ------------------------------------------------------------------------------------------- good calls ----- */

enum { T = 3, M = 200, H = 4, HK = 2, D = 8, K = 4 };

typedef struct inputs {
    float q[T * H * D], k[M * HK * D], v[M * HK * D], out[T * H * D], lse[T * H];
    reattn_hit hits[T * H * K];
    int64_t kept[8], n_kept, n_span, pos[T];
    reattn_span spans[8];
    reattn_rope rope;
    reattn_run run;
} inputs;

static inputs *good(void)
{
    static inputs in;
    test_rng rng = {1};
    memset(&in, 0, sizeof in);
    test_fill_normal(&rng, in.q, T * H * D, 1.0f);
    test_fill_normal(&rng, in.k, M * HK * D, 1.0f);
    test_fill_normal(&rng, in.v, M * HK * D, 1.0f);
    for (int i = 0; i < T * H * K; i++)
        in.hits[i] = (reattn_hit){i % 5, -i};
    in.rope = (reattn_rope){.kind = REATTN_ROPE_NEOX,
                            .n_rot = D,
                            .n_ctx_orig = 512,
                            .freq_base = 1e4f,
                            .freq_scale = 1.0f,
                            .attn_factor = 1.0f,
                            .beta_fast = 32.0f,
                            .beta_slow = 1.0f};
    in.run = (reattn_run){.count = M, .k_step = 1, .q_pos = M - T, .q_step = 1, .dist_max = INT64_MAX};
    return &in;
}

static int topk(inputs *in, reattn_error *err)
{
    return reattn_topk(in->q, in->k, T, M, H, HK, D, K, 1, in->hits, err);
}

static int votes(inputs *in, reattn_error *err)
{
    return reattn_votes(in->hits, T * H, K, REATTN_VOTE_MASS, 0.5, 8, in->kept, &in->n_kept, err);
}

static int attend(inputs *in, reattn_error *err)
{
    return reattn_attend(in->q, in->k, in->v, T, M - T, M, H, HK, D, D, 0.5f, &in->rope, &in->run, 1, 1, in->out,
                         in->lse, err);
}

static void test_no_memory(void **state)
{
    (void)state;
    static int (*const calls[])(inputs *, reattn_error *) = {topk, votes, attend};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        int rc = REATTN_E_NOMEM;
        for (long n = 0; rc != REATTN_OK; n++) {
            inputs *in = good();
            reattn_error err = {0};
            allocations_left = n;
            rc = calls[i](in, &err);
            allocations_left = -1;
            assert_true(rc == REATTN_OK ? n > 0 : rc == REATTN_E_NOMEM);
            assert_int_equal(err.code, rc);
            assert_true(rc == REATTN_OK || strlen(err.msg) > 0);
            assert_true(n < 1000);
        }
    }
}

/* ------------------------------------------------------------------------------------------------ codes ----- */

static void test_names(void **state)
{
    (void)state;
#define CHECK(name, value, text)                                                                                       \
    assert_string_equal(reattn_error_name(value), "REATTN_" #name);                                                    \
    assert_string_equal(reattn_error_text(value), text);                                                               \
    assert_int_equal(REATTN_##name, value);
    REATTN_ERROR_MAP(CHECK)
#undef CHECK
    static const int unknown[] = {1, -11, -1000, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        assert_true(strlen(reattn_error_name(unknown[i])) > 0);
        assert_true(strlen(reattn_error_text(unknown[i])) > 0);
    }
}

/* Runs a call that must fail, with and without an error to write to. `in` is as good() made it before each. */
#define EXPECT(want, change, call)                                                                                     \
    do {                                                                                                               \
        reattn_error error = {0}, *err = &error;                                                                       \
        inputs *in = good();                                                                                           \
        change;                                                                                                        \
        assert_int_equal(call, want);                                                                                  \
        assert_int_equal(error.code, want);                                                                            \
        assert_true(strlen(error.msg) > 0 && strlen(error.msg) < sizeof error.msg);                                    \
        assert_null(strchr(error.msg, '\n'));                                                                          \
        err = NULL;                                                                                                    \
        assert_int_equal(call, want);                                                                                  \
    } while (0)
#define BAD(call) EXPECT(REATTN_E_ARG, (void)in, call)

static void test_success(void **state)
{
    (void)state;
    const reattn_error before = {.code = 77, .msg = "left alone"};
    reattn_error err = before;
    inputs *in = good();
    assert_int_equal(topk(in, &err), REATTN_OK);
    assert_int_equal(votes(in, &err), REATTN_OK);
    assert_int_equal(reattn_spans(in->kept, in->n_kept, 4, 0, M, in->spans, &in->n_span, &err), REATTN_OK);
    assert_int_equal(attend(in, &err), REATTN_OK);
    assert_int_equal(reattn_rope_apply(&in->rope, in->q, T, H, D, in->pos, &err), REATTN_OK);
    assert_int_equal(reattn_merge(in->out, in->lse, in->out, in->lse, 0, D, &err), REATTN_OK);
    assert_memory_equal(&err, &before, sizeof err);
}

static void test_topk(void **state)
{
    (void)state;
    BAD(reattn_topk(in->q, in->k, -1, M, H, HK, D, K, 1, in->hits, err));
    BAD(reattn_topk(in->q, in->k, T, -1, H, HK, D, K, 1, in->hits, err));
    BAD(reattn_topk(in->q, in->k, T, M, 0, HK, D, K, 1, in->hits, err));
    BAD(reattn_topk(in->q, in->k, T, M, H, 0, D, K, 1, in->hits, err));
    BAD(reattn_topk(in->q, in->k, T, M, 3, HK, D, K, 1, in->hits, err));
    BAD(reattn_topk(in->q, in->k, T, M, H, HK, 0, K, 1, in->hits, err));
    BAD(reattn_topk(in->q, in->k, T, M, H, HK, 513, K, 1, in->hits, err));
    BAD(reattn_topk(in->q, in->k, T, M, H, HK, D, 0, 1, in->hits, err));
    BAD(reattn_topk(in->q, in->k, T, M, H, HK, D, 65, 1, in->hits, err));
    BAD(reattn_topk(in->q, in->k, T, M, H, HK, D, K, 0, in->hits, err));
    BAD(reattn_topk(NULL, in->k, T, M, H, HK, D, K, 1, in->hits, err));
    BAD(reattn_topk(in->q, NULL, T, M, H, HK, D, K, 1, in->hits, err));
    BAD(reattn_topk(in->q, in->k, T, M, H, HK, D, K, 1, NULL, err));
    EXPECT(REATTN_E_NAN, in->q[T * H * D - 1] = NAN, topk(in, err));
    EXPECT(REATTN_E_NAN, in->k[M * HK * D - 1] = INFINITY, topk(in, err));
}

static void test_votes(void **state)
{
    (void)state;
    BAD(reattn_votes(in->hits, -1, K, REATTN_VOTE_COUNT, 1, 8, in->kept, &in->n_kept, err));
    BAD(reattn_votes(in->hits, T, 0, REATTN_VOTE_COUNT, 1, 8, in->kept, &in->n_kept, err));
    BAD(reattn_votes(in->hits, T, K, (reattn_vote)9, 1, 8, in->kept, &in->n_kept, err));
    BAD(reattn_votes(in->hits, T, K, REATTN_VOTE_COUNT, 1, -1, in->kept, &in->n_kept, err));
    BAD(reattn_votes(NULL, T, K, REATTN_VOTE_COUNT, 1, 8, in->kept, &in->n_kept, err));
    BAD(reattn_votes(in->hits, T, K, REATTN_VOTE_COUNT, 1, 8, NULL, &in->n_kept, err));
    BAD(reattn_votes(in->hits, T, K, REATTN_VOTE_COUNT, 1, 8, in->kept, NULL, err));
}

static void test_spans(void **state)
{
    (void)state;
    static const int64_t sorted[] = {3, 5, 9}, unsorted[] = {5, 3, 9};
    BAD(reattn_spans(sorted, -1, 4, 0, 10, in->spans, &in->n_span, err));
    BAD(reattn_spans(sorted, 3, 0, 0, 10, in->spans, &in->n_span, err));
    BAD(reattn_spans(sorted, 3, 4, 4, 10, in->spans, &in->n_span, err)); /* 3 is below lo */
    BAD(reattn_spans(sorted, 3, 4, 0, 9, in->spans, &in->n_span, err));  /* 9 is not below hi */
    BAD(reattn_spans(sorted, 3, 4, 10, 0, in->spans, &in->n_span, err));
    BAD(reattn_spans(unsorted, 3, 4, 0, 10, in->spans, &in->n_span, err));
    BAD(reattn_spans(NULL, 3, 4, 0, 10, in->spans, &in->n_span, err));
    BAD(reattn_spans(sorted, 3, 4, 0, 10, NULL, &in->n_span, err));
    BAD(reattn_spans(sorted, 3, 4, 0, 10, in->spans, NULL, err));
}

static void test_rope(void **state)
{
    (void)state;
    BAD(reattn_rope_apply(NULL, in->q, T, H, D, in->pos, err));
    BAD(reattn_rope_apply(&in->rope, NULL, T, H, D, in->pos, err));
    BAD(reattn_rope_apply(&in->rope, in->q, -1, H, D, in->pos, err));
    BAD(reattn_rope_apply(&in->rope, in->q, T, 0, D, in->pos, err));
    BAD(reattn_rope_apply(&in->rope, in->q, T, H, 0, in->pos, err));
    BAD(reattn_rope_apply(&in->rope, in->q, T, H, D, NULL, err));
    EXPECT(REATTN_E_ARG, in->rope.n_rot = 7, reattn_rope_apply(&in->rope, in->q, T, H, D, in->pos, err));
    EXPECT(REATTN_E_ARG, in->rope.n_rot = D + 2, reattn_rope_apply(&in->rope, in->q, T, H, D, in->pos, err));
    EXPECT(REATTN_E_ARG, in->rope.n_rot = -2, reattn_rope_apply(&in->rope, in->q, T, H, D, in->pos, err));
    EXPECT(REATTN_E_ARG, in->rope.freq_base = 0, reattn_rope_apply(&in->rope, in->q, T, H, D, in->pos, err));
    EXPECT(REATTN_E_ARG, in->rope.kind = (reattn_rope_kind)5,
           reattn_rope_apply(&in->rope, in->q, T, H, D, in->pos, err));
}

static void test_attend(void **state)
{
    (void)state;
#define CALL(q, k, v, n_q, first, n, h, hk, d, dv, rope, runs, n_run, threads, out)                                    \
    BAD(reattn_attend(q, k, v, n_q, first, n, h, hk, d, dv, 0.5f, rope, runs, n_run, threads, out, in->lse, err))
    CALL(NULL, in->k, in->v, T, M - T, M, H, HK, D, D, &in->rope, &in->run, 1, 1, in->out);
    CALL(in->q, NULL, in->v, T, M - T, M, H, HK, D, D, &in->rope, &in->run, 1, 1, in->out);
    CALL(in->q, in->k, NULL, T, M - T, M, H, HK, D, D, &in->rope, &in->run, 1, 1, in->out);
    CALL(in->q, in->k, in->v, -1, M - T, M, H, HK, D, D, &in->rope, &in->run, 1, 1, in->out);
    CALL(in->q, in->k, in->v, T, -1, M, H, HK, D, D, &in->rope, &in->run, 1, 1, in->out);
    CALL(in->q, in->k, in->v, T, M - T, -1, H, HK, D, D, &in->rope, &in->run, 1, 1, in->out);
    CALL(in->q, in->k, in->v, T, M - T, M, 3, HK, D, D, &in->rope, &in->run, 1, 1, in->out);
    CALL(in->q, in->k, in->v, T, M - T, M, H, 0, D, D, &in->rope, &in->run, 1, 1, in->out);
    CALL(in->q, in->k, in->v, T, M - T, M, H, HK, 0, D, &in->rope, &in->run, 1, 1, in->out);
    CALL(in->q, in->k, in->v, T, M - T, M, H, HK, D, 0, &in->rope, &in->run, 1, 1, in->out);
    CALL(in->q, in->k, in->v, T, M - T, M, H, HK, D, D, NULL, &in->run, 1, 1, in->out);
    CALL(in->q, in->k, in->v, T, M - T, M, H, HK, D, D, &in->rope, NULL, 1, 1, in->out);
    CALL(in->q, in->k, in->v, T, M - T, M, H, HK, D, D, &in->rope, &in->run, -1, 1, in->out);
    CALL(in->q, in->k, in->v, T, M - T, M, H, HK, D, D, &in->rope, &in->run, 1, 0, in->out);
    CALL(in->q, in->k, in->v, T, M - T, M, H, HK, D, D, &in->rope, &in->run, 1, 1, NULL);
#undef CALL
    EXPECT(REATTN_E_ARG, in->run.first = 1, attend(in, err)); /* runs beyond the last token */
    EXPECT(REATTN_E_ARG, in->run.first = -1, attend(in, err));
    EXPECT(REATTN_E_ARG, in->run.count = INT64_MAX, attend(in, err));
    EXPECT(REATTN_E_ARG, in->rope.n_rot = D + 2, attend(in, err));
    EXPECT(REATTN_E_NAN, in->q[3] = NAN, attend(in, err));
    EXPECT(REATTN_E_NAN, in->k[3] = -INFINITY, attend(in, err));
    EXPECT(REATTN_E_NAN, in->v[M * HK * D - 1] = NAN, attend(in, err));
}

static void test_merge(void **state)
{
    (void)state;
    BAD(reattn_merge(NULL, in->lse, in->out, in->lse, T, D, err));
    BAD(reattn_merge(in->out, NULL, in->out, in->lse, T, D, err));
    BAD(reattn_merge(in->out, in->lse, NULL, in->lse, T, D, err));
    BAD(reattn_merge(in->out, in->lse, in->out, NULL, T, D, err));
    BAD(reattn_merge(in->out, in->lse, in->out, in->lse, -1, D, err));
    BAD(reattn_merge(in->out, in->lse, in->out, in->lse, T, 0, err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),  cmocka_unit_test(test_success), cmocka_unit_test(test_topk),
        cmocka_unit_test(test_votes),  cmocka_unit_test(test_spans),   cmocka_unit_test(test_rope),
        cmocka_unit_test(test_attend), cmocka_unit_test(test_merge),   cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests_name("errors", tests, NULL, NULL);
}
