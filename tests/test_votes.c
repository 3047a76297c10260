/* reattn_votes against golden vectors and the scalar law. */
#include "test_util.h"

#include "cpu/ref.h"
#include "reattn/ops.h"

static void expect_kept(const int64_t *got, int64_t n_got, const int64_t *want, int64_t n_want)
{
    assert_int_equal(n_got, n_want);
    for (int64_t i = 0; i < n_want; i++)
        assert_int_equal(got[i], want[i]);
}

static void test_golden(void **state)
{
    (void)state;
    FILE *f = golden_open("votes", 1);
    char word[64];
    int n_case = 0;
    for (; golden_word(f, word); n_case++) {
        assert_string_equal(word, "case");
        assert_true(golden_word(f, word));
        const reattn_vote vote = strcmp(word, "mass") == 0 ? REATTN_VOTE_MASS : REATTN_VOTE_COUNT;
        const int64_t n_query = golden_int(f);
        const int top_k = (int)golden_int(f);
        const int64_t m = golden_int(f);
        const double scale = golden_num(f);
        int64_t n, n_want, n_got;
        int64_t *pos = golden_ints(f, "pos", &n);
        double *score = golden_array(f, "score", &n);
        int64_t *want = golden_ints(f, "kept", &n_want);
        reattn_hit *hits = malloc((size_t)(n + 1) * sizeof *hits);
        int64_t *got = malloc((size_t)(m + 1) * sizeof *got);
        assert_true(hits && got);
        for (int64_t i = 0; i < n; i++)
            hits[i] = (reattn_hit){pos[i], score[i]};
        assert_int_equal(reattn__ref_votes(hits, n_query, top_k, vote, scale, m, got, &n_got), REATTN_OK);
        expect_kept(got, n_got, want, n_want);
        assert_int_equal(reattn_votes(hits, n_query, top_k, vote, scale, m, got, &n_got, NULL), REATTN_OK);
        expect_kept(got, n_got, want, n_want);
        free(pos);
        free(score);
        free(want);
        free(hits);
        free(got);
    }
    assert_true(n_case > 10);
    fclose(f);
}

/* Random hits: sorted and distinct within a query, as top-k gives them, or in any order. */
static void fill_hits(test_rng *rng, reattn_hit *hits, int64_t n_query, int top_k, int64_t n_pos)
{
    const bool integers = test_one_in(rng, 2), far = test_one_in(rng, 3);
    for (int64_t i = 0; i < n_query * top_k; i++) {
        hits[i].score = integers ? (double)test_int(rng, -3, 3) : 10.0 * test_normal(rng);
        hits[i].pos = test_one_in(rng, 10) ? -1 : test_int(rng, 0, n_pos - 1);
        if (far && hits[i].pos >= 0)
            hits[i].pos += INT64_C(1) << 40;
    }
}

static void test_equals_law(void **state)
{
    (void)state;
    test_rng rng = {test_seed()};
    for (int i = 0; i < 3000; i++) {
        const int64_t n_query = test_int(&rng, 0, i % 50 == 0 ? 3000 : 60);
        const int top_k = (int)test_int(&rng, 1, 8);
        const int64_t n_pos = test_int(&rng, 1, i % 50 == 0 ? 20000 : 80), m = test_int(&rng, 0, 90);
        const reattn_vote vote = i % 2 ? REATTN_VOTE_MASS : REATTN_VOTE_COUNT;
        const double scale = test_one_in(&rng, 2) ? 0.125 : 1.0;
        const size_t bytes = (size_t)m * sizeof(int64_t);
        reattn_hit *hits = malloc((size_t)(n_query * top_k + 1) * sizeof *hits);
        int64_t *want = fenced_alloc(bytes), *got = fenced_alloc(bytes), n_want, n_got = -1;
        assert_non_null(hits);
        fill_hits(&rng, hits, n_query, top_k, n_pos);
        assert_int_equal(reattn__ref_votes(hits, n_query, top_k, vote, scale, m, want, &n_want), REATTN_OK);
        reattn_error err = {0};
        const int rc = reattn_votes(hits, n_query, top_k, vote, scale, m, got, &n_got, &err);
        if (rc != REATTN_OK)
            fail_msg("case %d: %s", i, err.msg);
        expect_kept(got, n_got, want, n_want);
        free(hits);
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
    return cmocka_run_group_tests_name("votes", tests, NULL, NULL);
}
