/* test_tiny_bench.c - depths made of copies: libllama's cache and ours must hold the same, so that their speeds can be
 * compared; and what was there before must be left alone. */
#include "test_util.h"

#include <bench/bench.h>

enum { FROM = 60, DEEP = 400, TOKEN = 77 };

typedef struct logits {
    float *before, *deep; /* after FROM and DEEP tokens and one more */
} logits;

static void decode(reattn_session *s, int64_t depth, float *out, int n_vocab)
{
    reattn_error err;
    if (reattn_session_decode(s, TOKEN, &err)) fail_msg("%s", err.msg);
    assert_int_equal(reattn_session_length(s), depth + 1);
    memcpy(out, reattn_session_logits(s), (size_t)n_vocab * sizeof *out);
    if (reattn_session_rewind(s, depth, &err)) fail_msg("%s", err.msg);
}

static logits run(reattn_model *model, const char *policy, float change, int n_vocab)
{
    reattn_error err;
    reattn_session *s;
    reattn_session_params p = reattn_session_params_default();
    int32_t tokens[FROM];
    logits l = {test_floats(n_vocab), test_floats(n_vocab)};
    float *again = test_floats(n_vocab);
    snprintf(p.policy, sizeof p.policy, "%s", policy);
    p.n_threads = 1;
    p.chunk = 64;
    p.ctx_limit = 512;
    for (int i = 0; i < FROM; i++) tokens[i] = 10 + (i * 37 + i * i) % 200;
    if (reattn_session_create(model, &p, &s, &err)) fail_msg("%s", err.msg);
    if (reattn_session_prompt(s, tokens, FROM, NULL, NULL, &err)) fail_msg("%s", err.msg);
    decode(s, FROM, l.before, n_vocab);
    /* In two pieces, neither a multiple of what is copied. */
    if (bench_stretch(s, FROM, 130, change, &err) || bench_stretch(s, FROM, DEEP, change, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(reattn_session_length(s), DEEP);
    assert_int_equal(reattn_session_tokens(s)[DEEP - 1], tokens[(DEEP - 130 - 1) % FROM]);
    decode(s, DEEP, l.deep, n_vocab);
    assert_int_equal(bench_stretch(s, DEEP + 1, DEEP + 2, change, &err), REATTN_E_ARG);
    assert_int_equal(bench_stretch(s, FROM, DEEP - 1, change, &err), REATTN_E_ARG);
    if (reattn_session_rewind(s, FROM, &err)) fail_msg("%s", err.msg);
    decode(s, FROM, again, n_vocab);
    assert_memory_equal(again, l.before, (size_t)n_vocab * sizeof *again);
    free(again);
    reattn_session_free(s);
    return l;
}

static void copies_are_alike(void **unused)
{
    (void)unused;
    char path[1024];
    reattn_error err;
    reattn_model *model;
    reattn_model_info info;
    snprintf(path, sizeof path, "%s/llama.gguf", getenv("REATTN_TINY_DIR"));
    if (reattn_model_load(path, NULL, &model, &err)) fail_msg("%s", err.msg);
    reattn_model_get_info(model, &info);
    int n = info.n_vocab;
    logits native = run(model, "native", 0, n), full = run(model, "full", 0, n), changed = run(model, "full", 0.01f, n);
    double before = test_difference(full.before, native.before, n), deep = test_difference(full.deep, native.deep, n);
    double moved = test_difference(full.deep, full.before, n), jitter = test_difference(changed.deep, full.deep, n);
    printf("full and native differ by %.1e, over copies by %.1e; the copies change the logits by %.1e, 1 %% by %.1e\n",
           before, deep, moved, jitter);
    /* libllama's keys were rounded once more, when they were turned. */
    assert_true(before > 0 && deep <= 3 * before);
    assert_true(moved > 10 * deep);
    assert_true(jitter > 0 && jitter < moved / 4);
    for (int i = 0; i < 3; i++) {
        free((logits[]){native, full, changed}[i].before);
        free((logits[]){native, full, changed}[i].deep);
    }
    reattn_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(copies_are_alike)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
