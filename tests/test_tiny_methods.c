/* test_tiny_methods.c - every method on a tiny model. Past its trained length going on from an anchor gives the bits of
 * reading everything at once; a short text gives those of full attention. */
#include "test_util.h"

#include "reattn/reattn.h"

enum { FIRST = 640, ALL = 840, CHUNK = 64, SHORT = 120 };

static reattn_session *session_of(reattn_model *model, const char *policy)
{
    reattn_error err = {0};
    reattn_session *s;
    reattn_session_params p = reattn_session_params_default();
    snprintf(p.policy, sizeof p.policy, "%s", policy);
    p.n_threads = 1;
    p.chunk = p.tail = CHUNK; /* a prompt of whole chunks ends with a tail that looks like one of them */
    if (reattn_session_create(model, &p, &s, &err)) fail_msg("%s: %s", policy, err.msg);
    return s;
}

/* Returns whether the session could go back to where its last step began, or further; a method that drops keys need not
 * be able to. */
static bool same_bits_from_an_anchor(reattn_model *model, const char *policy)
{
    reattn_error err = {0};
    reattn_model_info info;
    int32_t tokens[ALL];
    reattn_model_get_info(model, &info);
    assert_true(info.n_ctx_train < FIRST);
    for (int i = 0; i < ALL; i++) tokens[i] = 10 + (i * 37 + i * i) % 200;
    reattn_session *a = session_of(model, policy), *b = session_of(model, policy);

    if (reattn_session_prompt(a, tokens, FIRST, NULL, NULL, &err)) fail_msg("%s: %s", policy, err.msg);
    for (int i = 0; i < 4; i++) assert_int_equal(reattn_session_decode(a, 30 + i, &err), 0);
    int64_t anchor = reattn_session_anchor(a, FIRST);
    assert_true(anchor >= 0 && anchor <= FIRST && anchor % CHUNK == 0);
    assert_int_equal(reattn_session_rewind(a, anchor, &err), 0);
    assert_int_equal(reattn_session_prompt(a, tokens + anchor, ALL - anchor, NULL, NULL, &err), 0);
    assert_int_equal(reattn_session_prompt(b, tokens, ALL, NULL, NULL, &err), 0);

    for (int i = 0;; i++) {
        const float *x = reattn_session_logits(a), *y = reattn_session_logits(b);
        assert_non_null(x);
        for (int v = 0; v < info.n_vocab; v++) assert_true(isfinite(x[v]));
        if (memcmp(x, y, (size_t)info.n_vocab * sizeof *x) != 0)
            fail_msg("%s: other bits after anchor %d, token %d", policy, (int)anchor, i);
        if (i == 4) break;
        assert_int_equal(reattn_session_decode(a, 50 + i, &err), 0);
        assert_int_equal(reattn_session_decode(b, 50 + i, &err), 0);
    }
    reattn_session_free(a);
    reattn_session_free(b);
    return anchor >= FIRST - CHUNK;
}

static reattn_model *load(void)
{
    char path[1024];
    reattn_error err = {0};
    reattn_model *model;
    const char *dir = getenv("REATTN_TINY_DIR");
    assert_non_null(dir);
    snprintf(path, sizeof path, "%s/llama.gguf", dir);
    if (reattn_model_load(path, NULL, &model, &err)) fail_msg("%s", err.msg);
    return model;
}

/* Methods that change nothing while the text is short: the logits of a prompt and four tokens. */
static void short_texts_have_the_bits_of_full(void **unused)
{
    (void)unused;
    static const char *const names[] = {"full", "lm-infinite", "selfextend", "dca", "string", "mesa", "ntk",
                                        "dynamic-ntk", "yarn"};
    reattn_model *model = load();
    reattn_model_info info;
    reattn_error err = {0};
    int32_t tokens[SHORT];
    reattn_model_get_info(model, &info);
    const size_t row = (size_t)info.n_vocab;
    float *full = test_floats((int64_t)row * 5);
    for (int i = 0; i < SHORT; i++) tokens[i] = 10 + (i * 37 + i * i) % 200;
    for (size_t m = 0; m < sizeof names / sizeof *names; m++) {
        reattn_session *s = session_of(model, names[m]);
        assert_int_equal(reattn_session_prompt(s, tokens, SHORT, NULL, NULL, &err), 0);
        for (int i = 0;; i++) {
            const float *logits = reattn_session_logits(s);
            if (m == 0) memcpy(full + (size_t)i * row, logits, row * sizeof *full);
            else if (memcmp(full + (size_t)i * row, logits, row * sizeof *full) != 0)
                fail_msg("%s: not full attention at token %d", names[m], SHORT + i);
            if (i == 4) break;
            assert_int_equal(reattn_session_decode(s, 40 + i, &err), 0);
        }
        reattn_session_free(s);
    }
    free(full);
    reattn_model_free(model);
}

static void every_method(void **unused)
{
    (void)unused;
    reattn_model *model = load();
    int n = 0;
    for (const reattn_policy_info *p = reattn_policy_list(); p->name; p++) {
        if (strcmp(p->name, "native") == 0) continue; /* libllama's cache is not this engine's */
        if (strcmp(p->name, "clex") == 0) continue;   /* needs what was trained */
        printf("%s\n", p->name);
        n += same_bits_from_an_anchor(model, p->name);
    }
    assert_true(n >= 12);
    reattn_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_method),
                                       cmocka_unit_test(short_texts_have_the_bits_of_full)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
