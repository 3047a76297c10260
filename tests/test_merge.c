/* reattn_merge: two partial softmax states joined are the softmax over the union. */
#include "test_util.h"

#include <float.h>

#include "reattn/ops.h"

enum { ROWS = 7, DV = 33, N_KEY = 24 };

typedef struct partial {
    float o[ROWS * DV], lse[ROWS];
} partial;

/* Softmax of one row over keys [from, to), in float64, rounded to float32 at the end. */
static void soften(const double *score, const float *v, int from, int to, float *o, float *lse)
{
    double max = -INFINITY, sum = 0.0, acc[DV] = {0};
    for (int j = from; j < to; j++)
        max = fmax(max, score[j]);
    for (int j = from; j < to; j++) {
        sum += exp(score[j] - max);
        for (int d = 0; d < DV; d++)
            acc[d] += exp(score[j] - max) * v[j * DV + d];
    }
    *lse = from < to ? (float)(max + log(sum)) : -INFINITY;
    for (int d = 0; d < DV; d++)
        o[d] = from < to ? (float)(acc[d] / sum) : 0.0f;
}

static void test_union(void **state)
{
    (void)state;
    test_rng rng = {test_seed()};
    for (int i = 0; i < 500; i++) {
        partial a, b, whole;
        float v[ROWS][N_KEY * DV];
        const double size = i % 3 == 0 ? 60.0 : 1.0;
        for (int r = 0; r < ROWS; r++) {
            double score[N_KEY];
            for (int j = 0; j < N_KEY; j++)
                score[j] = size * test_normal(&rng);
            test_fill_normal(&rng, v[r], N_KEY * DV, 1.0f);
            const int cut = (int)test_int(&rng, 0, N_KEY);
            soften(score, v[r], 0, cut, a.o + r * DV, &a.lse[r]);
            soften(score, v[r], cut, N_KEY, b.o + r * DV, &b.lse[r]);
            soften(score, v[r], 0, N_KEY, whole.o + r * DV, &whole.lse[r]);
        }
        partial ab = a, ba = b;
        assert_int_equal(reattn_merge(ab.o, ab.lse, b.o, b.lse, ROWS, DV, NULL), REATTN_OK);
        assert_int_equal(reattn_merge(ba.o, ba.lse, a.o, a.lse, ROWS, DV, NULL), REATTN_OK);
        /* Commutative to the bit. */
        assert_memory_equal(ab.o, ba.o, sizeof ab.o);
        assert_memory_equal(ab.lse, ba.lse, sizeof ab.lse);
        for (int r = 0; r < ROWS; r++) {
            /* An lse rounded to float32 moves its weight by eps/2 |lse|; weights, products and sum add a few more. */
            const double tol = FLT_EPSILON * (4.0 + fabs(whole.lse[r]));
            assert_true(fabs((double)ab.lse[r] - whole.lse[r]) <= tol);
            for (int d = 0; d < DV; d++)
                assert_true(fabs((double)ab.o[r * DV + d] - whole.o[r * DV + d]) <= 3.5 * tol);
        }
    }
}

/* Three pieces in either order agree, up to rounding. */
static void test_associative(void **state)
{
    (void)state;
    test_rng rng = {test_seed()};
    for (int i = 0; i < 200; i++) {
        partial p[3];
        for (int j = 0; j < 3; j++) {
            test_fill_normal(&rng, p[j].o, ROWS * DV, 1.0f);
            test_fill_normal(&rng, p[j].lse, ROWS, 5.0f);
        }
        partial left = p[0], right = p[1];
        reattn_merge(left.o, left.lse, p[1].o, p[1].lse, ROWS, DV, NULL);
        reattn_merge(left.o, left.lse, p[2].o, p[2].lse, ROWS, DV, NULL);
        reattn_merge(right.o, right.lse, p[2].o, p[2].lse, ROWS, DV, NULL);
        reattn_merge(right.o, right.lse, p[0].o, p[0].lse, ROWS, DV, NULL);
        for (int r = 0; r < ROWS; r++) {
            const double tol = FLT_EPSILON * (8.0 + 2.0 * fabs(left.lse[r]));
            assert_true(fabs((double)left.lse[r] - right.lse[r]) <= tol);
            for (int d = 0; d < DV; d++)
                assert_true(fabs((double)left.o[r * DV + d] - right.o[r * DV + d]) <= 3.5 * tol);
        }
    }
}

/* An empty state changes nothing, and what its o holds does not matter. */
static void test_empty(void **state)
{
    (void)state;
    test_rng rng = {test_seed()};
    partial full, empty;
    test_fill_normal(&rng, full.o, ROWS * DV, 1.0f);
    test_fill_normal(&rng, full.lse, ROWS, 3.0f);
    for (int i = 0; i < ROWS * DV; i++)
        empty.o[i] = i % 2 ? 3e38f : -3e38f;
    for (int r = 0; r < ROWS; r++)
        empty.lse[r] = -INFINITY;

    partial got = full;
    assert_int_equal(reattn_merge(got.o, got.lse, empty.o, empty.lse, ROWS, DV, NULL), REATTN_OK);
    assert_memory_equal(&got, &full, sizeof got);
    got = empty;
    assert_int_equal(reattn_merge(got.o, got.lse, full.o, full.lse, ROWS, DV, NULL), REATTN_OK);
    assert_memory_equal(&got, &full, sizeof got);

    partial other = empty;
    got = empty;
    for (int i = 0; i < ROWS * DV; i++)
        other.o[i] = 1.0f;
    assert_int_equal(reattn_merge(got.o, got.lse, other.o, other.lse, ROWS, DV, NULL), REATTN_OK);
    for (int r = 0; r < ROWS; r++)
        assert_true(isinf(got.lse[r]) && got.lse[r] < 0);
    for (int i = 0; i < ROWS * DV; i++)
        assert_true(isfinite(got.o[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_union),
        cmocka_unit_test(test_associative),
        cmocka_unit_test(test_empty),
    };
    return cmocka_run_group_tests_name("merge", tests, NULL, NULL);
}
