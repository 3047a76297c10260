/* The scalar law itself, against golden vectors of whole steps and of attention. */
#include "test_util.h"

#include "cpu/ref.h"

/* Both sides sum in float64; only the angles differ, by float32 rounding: positions below 64 times a few eps. */
#define TOLERANCE 5e-5

static const reattn_rope *neox(int n_rot)
{
    static reattn_rope rope;
    rope = (reattn_rope){.kind = REATTN_ROPE_NEOX,
                         .n_rot = n_rot,
                         .n_ctx_orig = 8192,
                         .freq_base = 1e4f,
                         .freq_scale = 1.0f,
                         .attn_factor = 1.0f,
                         .beta_fast = 32.0f,
                         .beta_slow = 1.0f};
    return &rope;
}

static void expect_close(const double *got, const double *want, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!(got[i] == want[i] || fabs(got[i] - want[i]) <= TOLERANCE))
            fail_msg("value %d is %.12g, not %.12g", (int)i, got[i], want[i]);
}

static int named(const char *word, const char *const *names, int n)
{
    for (int i = 0; i < n; i++)
        if (strcmp(word, names[i]) == 0)
            return i;
    fail_msg("golden file: unknown name \"%s\"", word);
    return -1;
}

static int golden_name(FILE *f, const char *const *names, int n)
{
    char word[64];
    assert_true(golden_word(f, word));
    return named(word, names, n);
}

/* Compares a plan's set with the golden kept positions, scope, key positions and query position. */
static void expect_set(FILE *f, const reattn__ref_set *set, int64_t T)
{
    int64_t n_kept, n_scope, i = 0;
    int64_t *kept = golden_ints(f, "kept", &n_kept), *scope = golden_ints(f, "scope", &n_scope);
    int64_t *k_pos = golden_ints(f, "k_pos", &n_scope);
    golden_expect(f, "q_pos");
    const int64_t q_pos = golden_int(f);
    assert_int_equal(set->n_kept, n_kept);
    for (int64_t j = 0; j < n_kept; j++)
        assert_int_equal(set->kept[j], kept[j]);
    for (int64_t r = 0; r < set->n_run; r++) {
        const reattn_run *run = &set->runs[r];
        assert_int_equal(run->q_pos, q_pos);
        assert_int_equal(run->q_step, 1);
        assert_int_equal(run->dist_min, 0);
        assert_true(run->dist_max >= run->first + run->count + T);
        for (int64_t c = 0; c < run->count; c++, i++) {
            assert_true(i < n_scope);
            assert_int_equal(run->first + c, scope[i]);
            assert_int_equal(run->k_pos + c * run->k_step, k_pos[i]);
        }
    }
    assert_int_equal(i, n_scope);
    free(kept);
    free(scope);
    free(k_pos);
}

static void test_step(void **state)
{
    (void)state;
    static const char *const types[] = {"qk", "k", "v", "qkv", "qkv2"}, *const votes[] = {"count", "mass"};
    FILE *f = golden_open("step", 1);
    golden_expect(f, "history");
    const int64_t N = golden_int(f);
    reattn__ref_layer l = {0};
    l.H = (int)golden_int(f);
    l.Hk = (int)golden_int(f);
    l.D = (int)golden_int(f);
    l.Dv = (int)golden_int(f);
    l.scale = (float)golden_num(f);
    int64_t n;
    float *q = golden_floats(f, "q", &n);
    assert_int_equal(n, N * l.H * l.D);
    float *k = golden_floats(f, "k", &n), *v = golden_floats(f, "v", &n);
    l.k = k;
    l.v = v;

    char word[64];
    int n_case = 0;
    for (; golden_word(f, word); n_case++) {
        assert_string_equal(word, "case");
        l.n = golden_int(f);
        l.T = golden_int(f);
        l.n_query = golden_int(f);
        l.q = q + (l.n - l.n_query) * l.H * l.D;
        reattn__ref_rule rule = {0};
        rule.keep = golden_int(f);
        rule.local = golden_int(f);
        rule.top_k = (int)golden_int(f);
        rule.span = golden_int(f);
        rule.max = golden_int(f);
        rule.type = (reattn_recall_type)golden_name(f, types, 5);
        rule.per_head = golden_int(f) != 0;
        rule.vote = (reattn_vote)golden_name(f, votes, 2);
        rule.positions = golden_int(f) ? REATTN_POS_ORIGINAL : REATTN_POS_REASSIGNED;

        reattn__ref_plan plan;
        assert_int_equal(reattn__ref_plan_make(&rule, &l, &plan), REATTN_OK);
        assert_int_equal(plan.n_set, rule.per_head ? l.Hk : 1);
        for (int i = 0; i < plan.n_set; i++)
            expect_set(f, &plan.set[i], l.T);
        reattn__ref_plan_free(&plan);

        double *want = golden_array(f, "out", &n), *got = malloc((size_t)n * sizeof *got);
        assert_non_null(got);
        assert_int_equal(n, l.T * l.H * l.Dv);
        assert_int_equal(reattn__ref_step(&rule, &l, neox(l.D), got), REATTN_OK);
        expect_close(got, want, n);
        free(want);
        free(got);
    }
    assert_int_equal(n_case, 13);
    free(q);
    free(k);
    free(v);
    fclose(f);
}

static void test_attend(void **state)
{
    (void)state;
    FILE *f = golden_open("attend", 2);
    char word[64];
    int n_case = 0;
    for (; golden_word(f, word); n_case++) {
        assert_string_equal(word, "case");
        const int64_t T = golden_int(f), n = golden_int(f), q_first = golden_int(f);
        const int H = (int)golden_int(f), Hk = (int)golden_int(f), D = (int)golden_int(f), Dv = (int)golden_int(f);
        reattn_rope rope = *neox(0);
        rope.kind = golden_int(f) ? REATTN_ROPE_NEOX : REATTN_ROPE_NORMAL;
        rope.n_rot = (int)golden_int(f);
        rope.freq_base = (float)golden_num(f);
        const float scale = (float)golden_num(f);
        int64_t n_field, unused;
        int64_t *field = golden_ints(f, "runs", &n_field);
        reattn_run runs[8];
        const int64_t n_run = n_field / 12;
        assert_true(n_run <= 8);
        for (int64_t i = 0; i < n_run; i++) {
            const int64_t *x = field + 12 * i;
            runs[i] = (reattn_run){x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7], x[8], x[9], x[10], x[11]};
        }
        float *q = golden_floats(f, "q", &unused), *k = golden_floats(f, "k", &unused);
        float *v = golden_floats(f, "v", &unused);
        double *out = golden_array(f, "out", &unused), *lse = golden_array(f, "lse", &unused);
        double *got = malloc((size_t)(T * H * (Dv + 1)) * sizeof *got), *got_lse = got + T * H * Dv;
        assert_non_null(got);
        assert_int_equal(
            reattn__ref_attend(q, k, v, T, q_first, n, H, Hk, D, Dv, scale, &rope, runs, n_run, got, got_lse),
            REATTN_OK);
        expect_close(got, out, T * H * Dv);
        expect_close(got_lse, lse, T * H);
        free(field);
        free(q);
        free(k);
        free(v);
        free(out);
        free(lse);
        free(got);
    }
    assert_int_equal(n_case, 6);
    fclose(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_step),
        cmocka_unit_test(test_attend),
    };
    return cmocka_run_group_tests_name("ref", tests, NULL, NULL);
}
