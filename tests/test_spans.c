/* reattn_spans against golden vectors and the scalar law. */
#include "test_util.h"

#include "cpu/ref.h"
#include "reattn/ops.h"

static void expect_spans(const reattn_span *got, int64_t n_got, const reattn_span *want, int64_t n_want)
{
    assert_int_equal(n_got, n_want);
    for (int64_t i = 0; i < n_want; i++) {
        assert_int_equal(got[i].first, want[i].first);
        assert_int_equal(got[i].count, want[i].count);
    }
}

static void test_golden(void **state)
{
    (void)state;
    FILE *f = golden_open("spans", 1);
    char word[64];
    int n_case = 0;
    for (; golden_word(f, word); n_case++) {
        assert_string_equal(word, "case");
        const int64_t s = golden_int(f), lo = golden_int(f), hi = golden_int(f);
        int64_t n_kept, n_want, n_got;
        int64_t *kept = golden_ints(f, "kept", &n_kept), *first = golden_ints(f, "first", &n_want);
        int64_t *count = golden_ints(f, "count", &n_want);
        reattn_span *want = malloc((size_t)(n_want + 1) * sizeof *want);
        reattn_span *got = malloc((size_t)(n_kept + 1) * sizeof *got);
        assert_true(want && got);
        for (int64_t i = 0; i < n_want; i++)
            want[i] = (reattn_span){first[i], count[i]};
        assert_int_equal(reattn__ref_spans(kept, n_kept, s, lo, hi, got, &n_got), REATTN_OK);
        expect_spans(got, n_got, want, n_want);
        assert_int_equal(reattn_spans(kept, n_kept, s, lo, hi, got, &n_got, NULL), REATTN_OK);
        expect_spans(got, n_got, want, n_want);
        free(kept);
        free(first);
        free(count);
        free(want);
        free(got);
    }
    assert_true(n_case > 50);
    fclose(f);
}

static void test_equals_law(void **state)
{
    (void)state;
    test_rng rng = {test_seed()};
    for (int i = 0; i < 5000; i++) {
        const int64_t base = test_one_in(&rng, 4) ? INT64_C(1) << 40 : 0;
        const int64_t lo = base + test_int(&rng, 0, 100), hi = lo + test_int(&rng, 1, 2000);
        const int64_t s = test_one_in(&rng, 8) ? test_int(&rng, 1, 5000) : test_int(&rng, 1, 40);
        int64_t kept[128], n_kept = 0, n_want, n_got = -1;
        for (int64_t p = lo; p < hi && n_kept < 128; p += test_int(&rng, 1, 60))
            if (!test_one_in(&rng, 4))
                kept[n_kept++] = p;
        const size_t bytes = (size_t)n_kept * sizeof(reattn_span);
        reattn_span *want = fenced_alloc(bytes), *got = fenced_alloc(bytes);
        assert_int_equal(reattn__ref_spans(kept, n_kept, s, lo, hi, want, &n_want), REATTN_OK);
        assert_int_equal(reattn_spans(kept, n_kept, s, lo, hi, got, &n_got, NULL), REATTN_OK);
        expect_spans(got, n_got, want, n_want);
        fenced_free(want, bytes);
        fenced_free(got, bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_equals_law),
    };
    return cmocka_run_group_tests_name("spans", tests, NULL, NULL);
}
