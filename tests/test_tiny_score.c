/* test_tiny_score.c - reattn_session_score on a tiny model: the logits of every token of a text are those of reading it
 * token by token, and cutting the text at chunk boundaries changes no bit. */
#include "tiny_model.h"

enum { TEXT = 300, CHUNK = 64 };

static int n_vocab;
static int32_t text[TEXT];

static int setup(void **unused)
{
    (void)unused;
    reattn_model_info info;
    tiny_load("llama", &info);
    n_vocab = info.n_vocab;
    for (int i = 0; i < TEXT; i++) text[i] = 10 + (i * 37 + i * i) % 200;
    return 0;
}

static reattn_session *open_session(const char *policy, int64_t local)
{
    reattn_error err = {0};
    reattn_session *s;
    reattn_session_params p = reattn_session_params_default();
    snprintf(p.policy, sizeof p.policy, "%s", policy);
    p.chunk = CHUNK;
    p.local = local;
    p.keep = 8;
    p.recall_span = 8;
    p.recall_max = 4;
    p.n_threads = 1;
    p.type_k = p.type_v = REATTN_F32;
    if (reattn_session_create(model, &p, &s, &err)) fail_msg("%s", err.msg);
    return s;
}

typedef struct taken {
    float *logits; /* [TEXT][n_vocab] */
    int64_t next, stop;
} taken;

static bool take(int64_t position, const float *logits, void *user)
{
    taken *t = user;
    assert_int_equal(position, t->next);
    memcpy(t->logits + position * n_vocab, logits, (size_t)n_vocab * sizeof *logits);
    return ++t->next != t->stop;
}

static taken taken_new(int64_t stop)
{
    return (taken){test_floats((int64_t)TEXT * n_vocab), 0, stop};
}

static void score(reattn_session *s, int64_t from, int64_t to, taken *t)
{
    reattn_error err = {0};
    if (reattn_session_score(s, text + from, to - from, take, t, &err)) fail_msg("%s", err.msg);
    assert_int_equal(t->next, to);
    assert_int_equal(reattn_session_length(s), to);
}

/* Every token as a step of its own. */
static float *one_by_one(reattn_session *s)
{
    reattn_error err = {0};
    float *out = test_floats((int64_t)TEXT * n_vocab);
    for (int i = 0; i < TEXT; i++) {
        if (reattn_session_decode(s, text[i], &err)) fail_msg("%s", err.msg);
        memcpy(out + (int64_t)i * n_vocab, reattn_session_logits(s), (size_t)n_vocab * sizeof *out);
    }
    return out;
}

static void equals_reading_token_by_token(void **unused)
{
    (void)unused;
    static const char *const policies[] = {"full", "native"};
    for (int i = 0; i < 2; i++) {
        reattn_session *s = open_session(policies[i], 256);
        float *steps = one_by_one(s);
        assert_int_equal(reattn_session_rewind(s, 0, NULL), 0);
        taken t = taken_new(0);
        score(s, 0, TEXT, &t);
        for (int64_t k = 0; k < TEXT; k++) /* f32 sums in another order */
            assert_true(test_difference(t.logits + k * n_vocab, steps + k * n_vocab, n_vocab) < 1e-4);
        /* The last token's logits are there to go on from. */
        assert_memory_equal(reattn_session_logits(s), t.logits + (int64_t)(TEXT - 1) * n_vocab,
                            (size_t)n_vocab * sizeof(float));
        free(t.logits);
        free(steps);
        reattn_session_free(s);
    }
}

static void pieces_at_chunk_boundaries_give_the_same_bits(void **unused)
{
    (void)unused;
    reattn_session *s = open_session("reattention", 96); /* from token 104 on something is recalled */
    taken whole = taken_new(0), pieces = taken_new(0);
    score(s, 0, TEXT, &whole);
    reattn_stats stats;
    reattn_session_get_stats(s, &stats);
    assert_true(stats.scope_max < TEXT && stats.prompt_tokens == TEXT);
    assert_int_equal(reattn_session_rewind(s, 0, NULL), 0);
    score(s, 0, 3 * CHUNK, &pieces);
    assert_int_equal(reattn_session_anchor(s, TEXT), 3 * CHUNK);
    score(s, 3 * CHUNK, TEXT, &pieces);
    assert_memory_equal(pieces.logits, whole.logits, (size_t)TEXT * (size_t)n_vocab * sizeof(float));
    free(pieces.logits);
    free(whole.logits);
    reattn_session_free(s);
}

static void stops_when_told(void **unused)
{
    (void)unused;
    reattn_error err = {0};
    reattn_session *s = open_session("full", 256);
    taken t = taken_new(70);
    assert_int_equal(reattn_session_score(s, text, TEXT, take, &t, &err), REATTN_E_CANCELLED);
    assert_int_equal(t.next, 70);
    assert_int_equal(reattn_session_length(s), 2 * CHUNK); /* whole chunks stay */
    assert_int_equal(reattn_session_score(s, text, 0, take, &t, &err), REATTN_E_ARG);
    assert_int_equal(reattn_session_score(s, text, 1, NULL, NULL, &err), REATTN_E_ARG);
    assert_int_equal(reattn_session_score(s, &(int32_t){n_vocab}, 1, take, &t, &err), REATTN_E_ARG);
    free(t.logits);
    reattn_session_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_reading_token_by_token),
        cmocka_unit_test(pieces_at_chunk_boundaries_give_the_same_bits),
        cmocka_unit_test(stops_when_told),
    };
    return cmocka_run_group_tests(tests, setup, tiny_free);
}
