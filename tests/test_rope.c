/* reattn_rope_apply and the scalar law against exact rotations, and against each other. */
#include "test_util.h"

#include <float.h>

#include "cpu/ref.h"
#include "reattn/ops.h"

/* How far pair i may be off a float64 rotation, as a share of |a| + |b|. The angle is a product of i + 2 factors of the
 * step, each rounded, and the step itself is rounded: 2i + 4 roundings of half an eps, plus YaRN's mix. */
static double golden_tolerance(const reattn_rope *rope, int64_t pos, int i)
{
    const double angle = (double)pos * pow(rope->freq_base, -2.0 * i / rope->n_rot);
    const double size = rope->attn_factor * (1.0 + 0.1 * log(1.0 / rope->freq_scale));
    return size * FLT_EPSILON * (4.0 + angle * (i + 4.0));
}

static void expect_row(const char *name, const char *who, const reattn_rope *rope, int D, int64_t pos, const float *x,
                       const double *want, const double *got)
{
    const int half = rope->n_rot / 2;
    for (int d = 0; d < D; d++) {
        double tol = 0.0;
        if (d < rope->n_rot) {
            const int i = rope->kind == REATTN_ROPE_NEOX ? d % half : d / 2;
            const int a = rope->kind == REATTN_ROPE_NEOX ? i : 2 * i;
            const int b = rope->kind == REATTN_ROPE_NEOX ? i + half : 2 * i + 1;
            tol = golden_tolerance(rope, pos, i) * ((double)fabsf(x[a]) + fabsf(x[b]));
        }
        if (!(fabs(got[d] - want[d]) <= tol))
            fail_msg("%s, %s, position %d: value %d is %.9g, not %.9g (tolerance %.3g)", name, who, (int)pos, d, got[d],
                     want[d], tol);
    }
}

static void test_golden(void **state)
{
    (void)state;
    FILE *f = golden_open("rope", 1);
    char word[64], name[64];
    int n_case = 0;
    for (; golden_word(f, word); n_case++) {
        assert_string_equal(word, "case");
        assert_true(golden_word(f, name));
        reattn_rope rope = {.kind = golden_int(f) ? REATTN_ROPE_NEOX : REATTN_ROPE_NORMAL};
        const int D = (int)golden_int(f);
        rope.n_rot = (int)golden_int(f);
        rope.n_ctx_orig = (int)golden_int(f);
        rope.freq_base = (float)golden_num(f);
        rope.freq_scale = (float)golden_num(f);
        rope.ext_factor = (float)golden_num(f);
        rope.attn_factor = (float)golden_num(f);
        rope.beta_fast = (float)golden_num(f);
        rope.beta_slow = (float)golden_num(f);
        int64_t n_factor, n, n_value;
        float *factors = golden_floats(f, "factors", &n_factor);
        rope.freq_factors = n_factor ? factors : NULL;
        int64_t *pos = golden_ints(f, "pos", &n);
        float *x = golden_floats(f, "x", &n_value), *fast = test_floats(n_value);
        double *want = golden_array(f, "y", &n_value), got[512];
        assert_int_equal(n_value, n * D);

        memcpy(fast, x, (size_t)n_value * sizeof *x);
        assert_int_equal(reattn_rope_apply(&rope, fast, n, 1, D, pos, NULL), REATTN_OK);
        for (int64_t i = 0; i < n; i++) {
            reattn__ref_rope(&rope, x + i * D, D, pos[i], got);
            expect_row(name, "ref", &rope, D, pos[i], x + i * D, want + i * D, got);
            for (int d = 0; d < D; d++)
                got[d] = fast[i * D + d];
            expect_row(name, "fast", &rope, D, pos[i], x + i * D, want + i * D, got);
        }
        free(factors);
        free(pos);
        free(x);
        free(fast);
        free(want);
    }
    assert_int_equal(n_case, 12);
    fclose(f);
}

/* The same cosines and sines as the law: what is left is the rounding of two products and a sum. */
static void test_equals_law(void **state)
{
    (void)state;
    test_rng rng = {test_seed()};
    for (int i = 0; i < 2000; i++) {
        const int D = (int)test_int(&rng, 1, 200), heads = (int)test_int(&rng, 1, 4);
        const int64_t n = test_int(&rng, 0, 5);
        float factors[128];
        for (int j = 0; j < 128; j++)
            factors[j] = 1.0f + 7.0f * (float)test_unit(&rng);
        const reattn_rope rope = {
            .kind = test_one_in(&rng, 2) ? REATTN_ROPE_NEOX : REATTN_ROPE_NORMAL,
            .n_rot = test_one_in(&rng, 2) ? D & ~1 : 2 * (int)test_int(&rng, 0, D / 2),
            .n_ctx_orig = (int)test_int(&rng, 512, 8192),
            .freq_base = test_one_in(&rng, 2) ? 10000.0f : 500000.0f,
            .freq_scale = test_one_in(&rng, 3) ? 0.125f : 1.0f,
            .ext_factor = test_one_in(&rng, 3) ? 1.0f : 0.0f,
            .attn_factor = test_one_in(&rng, 4) ? 0.75f : 1.0f,
            .beta_fast = 32.0f,
            .beta_slow = 1.0f,
            .freq_factors = test_one_in(&rng, 3) ? factors : NULL,
        };
        const int64_t row = (int64_t)heads * D;
        const size_t bytes = (size_t)(n * row) * sizeof(float);
        float *x = test_floats(n * row), *got = fenced_alloc(bytes);
        int64_t pos[5];
        test_fill_normal(&rng, x, n * row, 1.0f);
        memcpy(got, x, bytes);
        for (int64_t j = 0; j < n; j++)
            pos[j] = test_int(&rng, 0, test_one_in(&rng, 4) ? 1000000 : 8191);
        reattn_error err = {0};
        const int rc = reattn_rope_apply(&rope, got, n, heads, D, pos, &err);
        if (rc != REATTN_OK)
            fail_msg("case %d: %s", i, err.msg);
        for (int64_t j = 0; j < n * heads; j++) {
            double want[256];
            reattn__ref_rope(&rope, x + j * D, D, pos[j / heads], want);
            for (int d = 0; d < D; d++) {
                /* A pair is no longer than three values that a normal draw can give. */
                const double tol = d < rope.n_rot ? FLT_EPSILON * 1.5 * 3.5 * 2.0 : 0.0;
                if (!(fabs((double)got[j * D + d] - want[d]) <= tol))
                    fail_msg("case %d: row %d value %d is %.9g, not %.9g", i, (int)j, d, got[j * D + d], want[d]);
            }
        }
        free(x);
        fenced_free(got, bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_equals_law),
    };
    return cmocka_run_group_tests_name("rope", tests, NULL, NULL);
}
