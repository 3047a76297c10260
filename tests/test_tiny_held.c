/* test_tiny_held.c - the mass callback of a session: when it is called, and what it says of scopes that are known. */
#include "tiny_model.h"

enum { LAYERS = 3, HEADS = 4, TRAINED = 512, TEXT = 700 };

static int32_t text[TEXT];

static int setup(void **unused)
{
    (void)unused;
    reattn_model_info info;
    tiny_load("qwen3", &info);
    assert_int_equal(info.n_layer, LAYERS);
    assert_int_equal(info.n_head, HEADS);
    assert_int_equal(info.n_ctx_train, TRAINED);
    for (int i = 0; i < TEXT; i++) text[i] = 10 + (i * 37 + i * i) % 200;
    return 0;
}

static reattn_session *open_session(const char *policy, int64_t recall_max)
{
    reattn_error err = {0};
    reattn_session *s;
    reattn_session_params p = reattn_session_params_default();
    snprintf(p.policy, sizeof p.policy, "%s", policy);
    p.chunk = 64;
    p.local = 128;
    p.keep = 8;
    p.recall_span = 8;
    p.recall_max = recall_max;
    p.n_threads = 1;
    if (reattn_session_create(model, &p, &s, &err)) fail_msg("%s", err.msg);
    return s;
}

typedef struct taken {
    int calls;
    int64_t token;
    bool rotated;
    double free[LAYERS][HEADS], turned[LAYERS][HEADS];
} taken;

static void take(const reattn_mass *mass, void *user)
{
    taken *t = user;
    assert_int_equal(mass->layer, t->calls % LAYERS);
    assert_int_equal(mass->n_head, HEADS);
    memcpy(t->free[mass->layer], mass->free, sizeof t->free[0]);
    if (mass->rotated) memcpy(t->turned[mass->layer], mass->rotated, sizeof t->turned[0]);
    t->rotated = mass->rotated != NULL;
    t->token = mass->token;
    t->calls++;
}

static void prompt(reattn_session *s, int64_t from, int64_t to)
{
    reattn_error err = {0};
    if (reattn_session_prompt(s, text + from, to - from, NULL, NULL, &err)) fail_msg("%s", err.msg);
}

/* Once a layer in steps with logits; beyond the trained length without rotations; never again once it is unset. */
static void when_it_is_called(void **unused)
{
    (void)unused;
    reattn_error err = {0};
    reattn_session *s = open_session("full", 0);
    taken t = {0};
    reattn_session_set_mass(s, take, &t);
    prompt(s, 0, 400);
    assert_int_equal(t.calls, LAYERS);
    assert_int_equal(t.token, 399);
    assert_true(t.rotated);
    assert_int_equal(reattn_session_decode(s, 20, &err), 0);
    assert_int_equal(t.calls, 2 * LAYERS);
    assert_int_equal(t.token, 400);
    prompt(s, 401, TRAINED);
    assert_int_equal(t.calls, 3 * LAYERS);
    assert_true(t.rotated);
    prompt(s, TRAINED, TRAINED + 1);
    assert_int_equal(t.calls, 4 * LAYERS);
    assert_true(!t.rotated);
    reattn_session_set_mass(s, NULL, NULL);
    assert_int_equal(reattn_session_decode(s, 20, &err), 0);
    assert_int_equal(t.calls, 4 * LAYERS);
    reattn_session_free(s);
}

/* full holds all; first and last tokens hold a part; what is recalled adds to it. */
static void what_scopes_hold(void **unused)
{
    (void)unused;
    static const char *const policies[] = {"full", "streaming", "reattention"};
    taken t[3] = {{0}};
    for (int i = 0; i < 3; i++) {
        reattn_session *s = open_session(policies[i], 30);
        reattn_session_set_mass(s, take, &t[i]);
        prompt(s, 0, 450);
        assert_int_equal(t[i].calls, LAYERS);
        reattn_session_free(s);
    }
    for (int l = 0; l < LAYERS; l++)
        for (int h = 0; h < HEADS; h++) {
            assert_true(t[0].free[l][h] == 1 && t[0].turned[l][h] == 1);
            assert_true(t[1].free[l][h] > 0 && t[1].free[l][h] < 1);
            assert_true(t[1].turned[l][h] > 0 && t[1].turned[l][h] < 1);
            if (l == 0) /* the same queries and keys in all three: only the scope differs */
                assert_true(t[2].free[l][h] > t[1].free[l][h] && t[2].free[l][h] < 1);
        }
}

/* To measure changes no bit of what is computed. */
static void it_only_looks(void **unused)
{
    (void)unused;
    reattn_model_info info;
    reattn_model_get_info(model, &info);
    reattn_session *a = open_session("reattention", 4), *b = open_session("reattention", 4);
    taken t = {0};
    reattn_session_set_mass(a, take, &t);
    prompt(a, 0, TEXT);
    prompt(b, 0, TEXT);
    assert_int_equal(t.calls, LAYERS);
    assert_memory_equal(reattn_session_logits(a), reattn_session_logits(b), (size_t)info.n_vocab * sizeof(float));
    reattn_session_free(a);
    reattn_session_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(when_it_is_called), cmocka_unit_test(what_scopes_hold),
                                       cmocka_unit_test(it_only_looks)};
    return cmocka_run_group_tests(tests, setup, tiny_free);
}
