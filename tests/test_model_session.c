/* test_model_session.c - sessions on the real small model: restore, threads, limits, cancel, recall. */
#include "base/base.h"
#include "small_model.h"

static small_model m;

static int setup(void **unused)
{
    static const char *const names[] = {"addiction.txt", "aord.txt", "avg.txt"};
    (void)unused;
    m = small_open(names, 3);
    assert_true(m.n_text > 4000);
    return 0;
}

static int teardown(void **unused)
{
    (void)unused;
    small_close(&m);
    return 0;
}

static reattn_session *open_session(int n_threads)
{
    reattn_error err = {0};
    reattn_session *s;
    const reattn_session_params p = small_scope(n_threads);
    if (reattn_session_create(m.model, &p, &s, &err)) fail_msg("%s", err.msg);
    return s;
}

static void prompt(reattn_session *s, const int32_t *tokens, int64_t n)
{
    reattn_error err = {0};
    if (reattn_session_prompt(s, tokens, n, NULL, NULL, &err)) fail_msg("%s", err.msg);
}

/* Logits now and after three forced tokens. */
static float *run_on(reattn_session *s)
{
    reattn_error err = {0};
    float *out = test_floats(4 * (int64_t)m.n_vocab);
    for (int i = 0;; i++) {
        memcpy(out + (int64_t)i * m.n_vocab, reattn_session_logits(s), (size_t)m.n_vocab * sizeof *out);
        if (i == 3) return out;
        if (reattn_session_decode(s, 1000 + i, &err)) fail_msg("%s", err.msg);
    }
}

static void expect_same(const float *a, const float *b)
{
    assert_memory_equal(a, b, 4 * (size_t)m.n_vocab * sizeof *a);
}

static void restore_gives_the_same_bits(void **unused)
{
    (void)unused;
    reattn_error err = {0};
    reattn_session *s = open_session(1);
    prompt(s, m.text, 500);
    float *whole = run_on(s);
    /* 500 tokens: 7 chunks of 64, a piece up to 484, the tail. */
    assert_int_equal(reattn_session_anchor(s, INT64_MAX), 448);
    assert_int_equal(reattn_session_anchor(s, 400), 384);
    static const int64_t from[] = {448, 192, 0};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(reattn_session_rewind(s, from[i], &err), 0);
        assert_null(reattn_session_logits(s));
        prompt(s, m.text + from[i], 500 - from[i]);
        float *again = run_on(s);
        expect_same(again, whole);
        free(again);
    }
    /* A saved prefix of another text that shares its first chunks. */
    assert_int_equal(reattn_session_rewind(s, 0, &err), 0);
    prompt(s, m.text, 300);
    prompt(s, m.text + 2000, 150);
    int64_t anchor = reattn_session_anchor(s, 300);
    assert_int_equal(anchor, 256);
    assert_int_equal(reattn_session_rewind(s, anchor, &err), 0);
    prompt(s, m.text + anchor, 500 - anchor);
    float *other = run_on(s);
    expect_same(other, whole);
    free(other);
    free(whole);
    reattn_session_free(s);
}

static void threads_give_the_same_bits(void **unused)
{
    (void)unused;
    float *out[2];
    for (int i = 0; i < 2; i++) {
        reattn_session *s = open_session(i + 1);
        prompt(s, m.text, 400);
        out[i] = run_on(s);
        reattn_session_free(s);
    }
    expect_same(out[0], out[1]);
    free(out[0]);
    free(out[1]);
}

static void memory_limit_in_mid_prefill(void **unused)
{
    (void)unused;
    reattn_error err = {0};
    reattn_memory memory;
    reattn_session *s;
    reattn_session_params p = reattn_session_params_default();
    p.n_threads = 1;
    p.chunk = 128;
    p.local = 256;
    assert_int_equal(reattn_session_memory(m.model, &p, 1024, &memory, &err), 0); /* one page */
    p.mem_limit = (int64_t)memory.store_bytes;
    if (reattn_session_create(m.model, &p, &s, &err)) fail_msg("%s", err.msg);
    assert_int_equal(reattn_session_prompt(s, m.text, 1300, NULL, NULL, &err), REATTN_E_LIMIT);
    assert_non_null(strstr(err.msg, "MiB"));
    assert_int_equal(reattn_session_length(s), 1024);
    /* Nothing is lost: what fits goes on. */
    assert_int_equal(reattn_session_rewind(s, 896, &err), 0);
    prompt(s, m.text + 896, 100);
    assert_non_null(reattn_session_logits(s));
    assert_int_equal(reattn_session_decode(s, 5, &err), 0);
    assert_int_equal(reattn_session_length(s), 997);
    reattn_session_free(s);

    p.mem_limit = 0;
    p.ctx_limit = 200;
    if (reattn_session_create(m.model, &p, &s, &err)) fail_msg("%s", err.msg);
    assert_int_equal(reattn_session_prompt(s, m.text, 201, NULL, NULL, &err), REATTN_E_LIMIT);
    assert_int_equal(reattn_session_length(s), 0);
    reattn_session_free(s);
}

static bool stop_at_192(int64_t done, int64_t total, void *user)
{
    (void)total;
    (*(int *)user)++;
    return done < 192;
}

static void cancel_keeps_whole_chunks(void **unused)
{
    (void)unused;
    reattn_error err = {0};
    int calls = 0;
    reattn_session *s = open_session(1);
    assert_int_equal(reattn_session_prompt(s, m.text, 500, stop_at_192, &calls, &err), REATTN_E_CANCELLED);
    assert_int_equal(calls, 3);
    assert_int_equal(reattn_session_length(s), 192);
    prompt(s, m.text + 192, 308);
    float *resumed = run_on(s);
    assert_int_equal(reattn_session_rewind(s, 0, &err), 0);
    prompt(s, m.text, 500);
    float *whole = run_on(s);
    expect_same(resumed, whole);
    free(resumed);
    free(whole);
    reattn_session_free(s);
}

static void bad_calls(void **unused)
{
    (void)unused;
    reattn_error err = {0};
    reattn_session *s = open_session(1);
    const int32_t bad = -1, beyond = m.n_vocab;
    assert_null(reattn_session_logits(s));
    assert_int_equal(reattn_session_prompt(s, m.text, 0, NULL, NULL, &err), REATTN_E_ARG);
    assert_int_equal(reattn_session_prompt(s, &bad, 1, NULL, NULL, &err), REATTN_E_ARG);
    assert_int_equal(reattn_session_decode(s, beyond, &err), REATTN_E_ARG);
    assert_int_equal(reattn_session_rewind(s, 1, &err), REATTN_E_ARG);
    assert_int_equal(reattn_session_rewind(s, -1, &err), REATTN_E_ARG);
    reattn_session_free(s);
    reattn_session_params p = reattn_session_params_default();
    p.local = 100;
    p.local_per = REATTN_LOCAL_PER_STEP; /* a chunk must see itself */
    assert_int_equal(reattn_session_create(m.model, &p, &s, &err), REATTN_E_ARG);
    assert_non_null(strstr(err.msg, "100"));
    assert_non_null(strstr(err.msg, "512"));
    p = reattn_session_params_default();
    p.recall_max = 300;
    assert_int_equal(reattn_session_create(m.model, &p, &s, &err), REATTN_E_ARG);
    assert_non_null(strstr(err.msg, "8192"));
}

/* A needle far outside a short scope: with recall the number comes out, with the same scope and no recall it does
 * not. */
static bool finds_needle(const char *policy, double depth)
{
    reattn_error err = {0};
    reattn_session *s;
    reattn_session_params p = reattn_session_params_default();
    enum { HAY = 2600 };
    static const char needle[] = " The special magic Berlin number is: 7391524.";
    static const char ask[] =
        "\n\nQuestion: What is the special magic Berlin number?\nAnswer: The special magic Berlin number is:";
    int32_t *tokens = calloc(HAY + 200, sizeof *tokens);
    int64_t at = (int64_t)(HAY * depth), n = at;
    char piece[64], answer[512] = "";
    memcpy(tokens, m.text, (size_t)at * sizeof *tokens);
    n += reattn_tokenize(m.model, needle, strlen(needle), false, false, tokens + n, 100, &err);
    memcpy(tokens + n, m.text + at, (size_t)(HAY - at) * sizeof *tokens);
    n += HAY - at;
    n += reattn_tokenize(m.model, ask, strlen(ask), false, false, tokens + n, 100, &err);
    snprintf(p.policy, sizeof p.policy, "%s", policy);
    p.local = 512; /* the scope: 32 + 20 * 32 + 512 = 1184 of 2650 tokens */
    p.chunk = 256;
    p.recall_max = 20;
    p.n_threads = 2;
    if (reattn_session_create(m.model, &p, &s, &err)) fail_msg("%s", err.msg);
    prompt(s, tokens, n);
    for (int i = 0; i < 9; i++) {
        const float *logits = reattn_session_logits(s);
        const int32_t best = small_likeliest(logits, m.n_vocab);
        int len = reattn_token_bytes(m.model, best, false, piece, sizeof piece - 1);
        piece[len] = 0;
        strcat(answer, piece);
        if (reattn_session_decode(s, best, &err)) fail_msg("%s", err.msg);
    }
    printf("%s, needle at %.0f %%: \"%s\"\n", policy, 100 * depth, answer);
    reattn_session_free(s);
    free(tokens);
    return strstr(answer, "7391524") != NULL;
}

/* With 4-bit weights a difference in the last bit can change an answer, so one needle more or less is found on another
 * CPU or build: most must be. Without recall none can be. */
static void needles_are_recalled(void **unused)
{
    (void)unused;
    static const double depths[] = {0.1, 0.2, 0.3, 0.5, 0.7};
    int found = 0;
    for (int i = 0; i < 5; i++) found += finds_needle("reattention", depths[i]);
    assert_true(found >= 3);
}

static void needles_are_lost_without_recall(void **unused)
{
    (void)unused;
    assert_false(finds_needle("streaming", 0.3));
    assert_false(finds_needle("streaming", 0.7));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(restore_gives_the_same_bits), cmocka_unit_test(threads_give_the_same_bits),
        cmocka_unit_test(memory_limit_in_mid_prefill), cmocka_unit_test(cancel_keeps_whole_chunks),
        cmocka_unit_test(bad_calls),                   cmocka_unit_test(needles_are_recalled),
        cmocka_unit_test(needles_are_lost_without_recall),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
