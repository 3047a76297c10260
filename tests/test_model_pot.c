/* test_model_pot.c - policies that learn from what they read, on the real small model: a text longer than the pot, and
 * than the window. */
#include "small_model.h"

#include "session/session.h"

enum { HAY = 620 };

static reattn_model *model;
static int32_t tokens[4096], question[64];
static int64_t n, n_question, needle, needle_end;

static int setup(void **unused)
{
    (void)unused;
    reattn_error err = {0};
    static const char *const names[] = {"avg.txt"};
    size_t len;
    char *essay = small_essays(names, 1, 6000, &len);
    static const char said[] = " The special magic Berlin number is: 7391524.",
                      ask[] = "\n\nWhat is the special magic Berlin number?";
    if (reattn_model_load(getenv("REATTN_TEST_MODEL"), NULL, &model, &err)) fail_msg("%s", err.msg);
    int32_t *text = calloc(len, sizeof *text);
    assert_true(reattn_tokenize(model, essay, len, true, false, text, (int64_t)len, &err) >= HAY);
    needle = 150;
    memcpy(tokens, text, (size_t)needle * sizeof *text);
    needle_end = needle + reattn_tokenize(model, said, strlen(said), false, false, tokens + needle, 100, &err);
    memcpy(tokens + needle_end, text + needle, (size_t)(HAY - needle) * sizeof *text);
    n = needle_end + HAY - needle;
    n_question = reattn_tokenize(model, ask, strlen(ask), false, false, question, 64, &err);
    assert_true(n_question > 0 && n_question <= 64);
    free(text);
    free(essay);
    return 0;
}

static int teardown(void **unused)
{
    (void)unused;
    reattn_model_free(model);
    return 0;
}

/* The question as the catalyst: of the needle that it asks for more stays than of the text, in the pot of every layer
 * and head. And the text goes on through a pot that is no longer than it may be. */
static void the_pot(void **unused)
{
    (void)unused;
    reattn_error err = {0};
    reattn_session *s;
    reattn_stats stats;
    reattn_session_params p = reattn_session_params_default();
    snprintf(p.policy, sizeof p.policy, "infinipot");
    p.n_threads = 1;
    p.pot = 480;
    p.pot_keep = 160;
    p.pot_novelty = 0;
    p.tail = 32;
    if (reattn_session_create(model, &p, &s, &err)) fail_msg("%s", err.msg);
    assert_in_range(s->pot.n_catalyst, 8, 40); /* the policy's own text, in this model's tokens */
    if (reattn_session_set_catalyst(s, question, n_question, &err)) fail_msg("%s", err.msg);
    if (reattn_session_prompt(s, tokens, n, NULL, NULL, &err)) fail_msg("%s", err.msg);
    for (int i = 0; i < 4; i++)
        if (reattn_session_decode(s, 1000 + i, &err)) fail_msg("%s", err.msg);
    reattn_session_get_stats(s, &stats);
    assert_int_equal(stats.distillations, 1);
    assert_int_equal(reattn_session_length(s), n + 4);
    assert_true(reattn__session_held(s) < 480 && stats.scope_max <= 480);
    assert_true(reattn__all_finite(reattn_session_logits(s), 1000));
    double held = 0, of_needle = 0, lists = 0;
    const int64_t *kept = s->pot.kept;
    for (int l = 0; l < s->n_layer; l++) {
        for (int h = 0; h < s->layers[l].Hk; h++, lists++)
            for (int i = 0; i < 160; i++, kept++, held++) of_needle += *kept >= needle && *kept < needle_end;
    }
    double share = of_needle / lists / (double)(needle_end - needle), all = held / lists / (480 - (double)n_question);
    printf("stays: %.0f %% of the needle, %.0f %% of the text\n", 100 * share, 100 * all);
    assert_true(share > 1.2 * all);
    reattn_session_free(s);
}

/* A window of 128 tokens and some blocks: the text is read, going back to the last chunk gives the same bits. */
static void the_blocks(void **unused)
{
    (void)unused;
    reattn_error err = {0};
    reattn_session *s;
    reattn_model_info info;
    reattn_session_params p = reattn_session_params_default();
    snprintf(p.policy, sizeof p.policy, "infllm");
    p.n_threads = 1;
    p.chunk = 128;
    p.tail = 32;
    p.local = 128;
    p.keep = 16;
    p.recall_span = 32;
    p.recall_max = 4;
    reattn_model_get_info(model, &info);
    size_t bytes = (size_t)info.n_vocab * sizeof(float);
    float *want = malloc(bytes);
    if (reattn_session_create(model, &p, &s, &err)) fail_msg("%s", err.msg);
    for (int round = 0; round < 2; round++) {
        int64_t from = round ? reattn_session_anchor(s, n) : 0;
        assert_int_equal(from, round ? 512 : 0);
        assert_int_equal(reattn_session_rewind(s, from, &err), 0);
        if (reattn_session_prompt(s, tokens + from, n - from, NULL, NULL, &err)) fail_msg("%s", err.msg);
        for (int i = 0; i < 3; i++)
            if (reattn_session_decode(s, 1000 + i, &err)) fail_msg("%s", err.msg);
        assert_true(reattn__all_finite(reattn_session_logits(s), info.n_vocab));
        if (round == 0) memcpy(want, reattn_session_logits(s), bytes);
        else assert_memory_equal(want, reattn_session_logits(s), bytes);
    }
    reattn_stats stats;
    reattn_session_get_stats(s, &stats);
    assert_true(stats.scope_max >= 16 + 4 * 32 + 128 && stats.scope_max < 16 + 4 * 32 + 128 + 32 + 128);
    free(want);
    reattn_session_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_pot), cmocka_unit_test(the_blocks)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
