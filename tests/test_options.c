/* test_options.c - the table of session options: setting, bounds, presets. */
#include "test_util.h"

#include "reattn/reattn.h"
#include "session/params.h"

static int64_t number(const reattn_session_params *p, const char *name)
{
    char text[32];
    assert_true(reattn_option_get(p, name, text, sizeof text) < (int)sizeof text);
    return strtoll(text, NULL, 10);
}

/* Every default is within its bounds and comes back when it is set. */
static void defaults(void **state)
{
    (void)state;
    for (const reattn_option *o = reattn_option_table(); o->name; o++) {
        reattn_session_params p = reattn_session_params_default(), before = p;
        reattn_error err = {0};
        char text[64];
        assert_true(reattn_option_get(&p, o->name, text, sizeof text) < (int)sizeof text);
        if (reattn_option_set(&p, o->name, text, &err)) fail_msg("--%s %s: %s", o->name, text, err.msg);
        assert_memory_equal(&p, &before, sizeof p);
        if (o->kind != REATTN_OPTION_INT) continue;
        snprintf(text, sizeof text, "%lld", (long long)o->min - 1);
        assert_int_equal(reattn_option_set(&p, o->name, text, &err), REATTN_E_ARG);
        assert_non_null(strstr(err.msg, o->name));
        assert_memory_equal(&p, &before, sizeof p);
    }
}

/* A preset sets what it names; what comes after it counts. */
static void presets(void **state)
{
    (void)state;
    reattn_session_params p = reattn_session_params_default(), plain = p;
    reattn_error err = {0};
    assert_int_equal(reattn_option_set(&p, "recall-k", "7", &err), 0);
    assert_int_equal(reattn_option_set(&p, "local", "2048", &err), 0);
    assert_int_equal(reattn_option_set(&p, "recall-max", "9", &err), 0);
    assert_int_equal(reattn_option_set(&p, "recall-when", "decode", &err), 0);
    assert_int_equal(reattn_option_set(&p, "positions", "original", &err), 0);
    assert_int_equal(reattn_option_set(&p, "preset", "paper", &err), 0);
    assert_int_equal(number(&p, "tail"), 0);
    assert_int_equal(number(&p, "recall-k"), 4);
    assert_int_equal(number(&p, "recall-span"), 32);
    assert_int_equal(number(&p, "recall-window"), 32);
    assert_int_equal(number(&p, "recall-from"), 1); /* at least G + L: the paper recalls from there on */
    assert_int_equal(number(&p, "local"), 0); /* half the trained length, whatever was asked for before */
    assert_int_equal(number(&p, "recall-max"), 0);
    assert_int_equal(p.recall_when, REATTN_WHEN_ALWAYS);
    assert_int_equal(p.positions, REATTN_POS_REASSIGNED);
    assert_int_equal(reattn_option_set(&p, "tail", "16", &err), 0);
    assert_int_equal(number(&p, "tail"), 16);
    assert_int_equal(reattn_option_set(&p, "preset", "default", &err), 0);
    assert_int_equal(number(&p, "tail"), plain.tail);
    assert_int_equal(number(&p, "recall-window"), plain.recall_window);
    assert_int_equal(reattn_option_set(&p, "preset", "best", &err), REATTN_E_ARG);
    assert_non_null(strstr(err.msg, "paper"));
}

/* What follows from the trained length: what fits it is valid for any, and a second time changes nothing. */
static void automatic(void **state)
{
    (void)state;
    for (int64_t N = 64; N <= 1 << 20; N *= 2)
        for (int preset = 0; preset < 2; preset++) {
            reattn_session_params p = reattn_session_params_default(), again;
            reattn_error err = {0};
            assert_int_equal(reattn_option_set(&p, "preset", preset ? "paper" : "default", &err), 0);
            if (reattn__params_resolve(&p, N, &err)) fail_msg("%lld tokens: %s", (long long)N, err.msg);
            assert_int_equal(p.local_per, preset ? REATTN_LOCAL_PER_STEP : REATTN_LOCAL_PER_QUERY);
            int64_t scope = p.keep + p.recall_max * p.recall_span + p.local + (preset ? 0 : p.chunk - 1);
            assert_true(scope <= N && p.local > 0 && p.chunk <= p.local && p.chunk > 0);
            assert_int_equal(p.recall_from, preset ? 1 : scope);
            if (N == 8192) assert_int_equal(scope, preset ? 8192 : 5119);
            if (N == 8192) assert_int_equal(p.chunk, 512);
            again = p;
            assert_int_equal(reattn__params_resolve(&again, N, &err), 0);
            assert_memory_equal(&again, &p, sizeof p);
        }
    reattn_session_params p = reattn_session_params_default();
    reattn_error err = {0};
    p.recall_from = 8193;
    assert_int_equal(reattn__params_resolve(&p, 8192, &err), REATTN_E_ARG);
    assert_non_null(strstr(err.msg, "recall-from"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(defaults), cmocka_unit_test(presets),
                                       cmocka_unit_test(automatic)};
    return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
