/* test_options.c - the table of session options: setting, bounds, presets. */
#include "test_util.h"

#include "reattn/reattn.h"

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
    assert_int_equal(reattn_option_set(&p, "preset", "paper", &err), 0);
    assert_int_equal(number(&p, "tail"), 0);
    assert_int_equal(number(&p, "recall-k"), 4);
    assert_int_equal(number(&p, "recall-span"), 32);
    assert_int_equal(number(&p, "recall-window"), 32);
    assert_int_equal(number(&p, "local"), 2048); /* follows from the model, not from a preset */
    assert_int_equal(reattn_option_set(&p, "tail", "16", &err), 0);
    assert_int_equal(number(&p, "tail"), 16);
    assert_int_equal(reattn_option_set(&p, "preset", "default", &err), 0);
    assert_int_equal(number(&p, "tail"), plain.tail);
    assert_int_equal(number(&p, "recall-window"), plain.recall_window);
    assert_int_equal(reattn_option_set(&p, "preset", "best", &err), REATTN_E_ARG);
    assert_non_null(strstr(err.msg, "paper"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(defaults), cmocka_unit_test(presets)};
    return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
