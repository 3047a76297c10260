/* test_mspoe.c - how Ms-PoE ranks heads and what it plans from that. */
#include "test_world.h"

#include "policy/mspoe.h"

/* The method's example: ranks are the inverse of the sorting permutation, which the published code takes instead. */
static void ranks_and_ratios(void **unused)
{
    (void)unused;
    static const double share[] = {.10, .40, .20, .30}, ratio[] = {1.8, 1.2, 1.6, 1.4};
    static const int want[] = {3, 0, 2, 1};
    int rank[4];
    reattn__mspoe_rank(share, 4, rank);
    for (int h = 0; h < 4; h++) {
        assert_int_equal(rank[h], want[h]);
        assert_true(fabs(reattn__mspoe_ratio(rank[h], 4) - ratio[h]) <= 1e-12);
    }
    assert_true(fabs(reattn__mspoe_ratio(0, 1) - 1.5) <= 1e-12);
}

/* A higher share never gets a higher ratio; equal shares go by the order of heads; ranks are a permutation. */
static void ratios_fall_with_the_share(void **unused)
{
    (void)unused;
    test_rng rng = {test_seed()};
    for (int round = 0; round < 500; round++) {
        double share[40];
        int rank[40], n = (int)test_int(&rng, 1, 40), times[40] = {0};
        for (int h = 0; h < n; h++) share[h] = (double)test_int(&rng, 0, 9) / 10;
        reattn__mspoe_rank(share, n, rank);
        for (int a = 0; a < n; a++) {
            assert_in_range(rank[a], 0, n - 1);
            times[rank[a]]++;
            for (int b = 0; b < n; b++) {
                if (share[a] > share[b]) assert_true(reattn__mspoe_ratio(rank[a], n) < reattn__mspoe_ratio(rank[b], n));
                if (share[a] == share[b] && a < b) assert_true(rank[a] < rank[b]);
            }
        }
        for (int r = 0; r < n; r++) assert_int_equal(times[r], 1);
    }
}

/* Weights e^3 : 1 : .. : 1: one of eight stands out; the order of keys does not matter. */
static void shares(void **unused)
{
    (void)unused;
    float score[8] = {0}, alike[5] = {2, 2, 2, 2, 2}, three[3] = {50, 0, 0};
    for (int at = 0; at < 8; at++) {
        memset(score, 0, sizeof score);
        score[at] = 3;
        assert_int_equal(reattn__mspoe_standouts(score, 8), 1);
    }
    assert_int_equal(reattn__mspoe_standouts(alike, 5), 0);
    assert_int_equal(reattn__mspoe_standouts(three, 3), 0); /* all the weight is three times the mean, not more */
}

/* What the policy must have found, from the history in float64. */
static void law_of_ranks(const world *w, int *rank)
{
    const reattn__layer *l = &w->layer;
    double share[8] = {0};
    int g = l->H / l->Hk;
    double *p = malloc((size_t)w->n * sizeof *p);
    for (int h = 0; h < l->H; h++) {
        const float *q = w->q + ((w->n - 1) * l->H + h) * l->D;
        double sum = 0;
        for (int64_t j = 0; j < w->n; j++) {
            double dot = 0;
            for (int d = 0; d < l->D; d++) dot += (double)q[d] * (double)w->k[(j * l->Hk + h / g) * l->D + d];
            p[j] = exp(dot * (double)l->kq_scale);
            sum += p[j];
        }
        for (int64_t j = 0; j < w->n; j++)
            if (p[j] / sum > 3.0 / (double)w->n) share[h / g]++;
    }
    reattn__mspoe_rank(share, l->Hk, rank);
    free(p);
}

static void check_plan(const world *w, int64_t T, const int *rank)
{
    assert_int_equal(w->plan.n_list, w->layer.Hk);
    for (int head = 0; head < w->layer.Hk; head++) {
        const reattn__run_list *list = &w->plan.lists[head];
        double ratio = reattn__mspoe_ratio(rank[head], w->layer.Hk);
        assert_non_null(list->rope);
        assert_true(fabs(list->rope->rope.freq_scale - 1 / ratio) <= 1e-7);
        for (int64_t t = 0; t < T; t++) {
            int64_t distance[700];
            assert_int_equal(reattn__plan_distances(list, w->n - T, t, distance, 700), w->n - T + t + 1);
            for (int64_t j = 0; j <= w->n - T + t; j++) assert_int_equal(distance[j], w->n - T + t - j);
        }
    }
}

/* Each chunk of a prompt is ranked by its last query; the answer keeps the last ranks; after a rewind they are gone. */
static void a_chunk_is_ranked_an_answer_is_not(void **unused)
{
    (void)unused;
    test_rng rng = {test_seed() + 1};
    for (int round = 0; round < 20; round++) {
        world w;
        int rank[8], now[8], changed = 0;
        int Hk = (int)test_int(&rng, 1, 8);
        world_open(&w, "mspoe", round % 2 ? REATTN_SPLIT : REATTN_F32, 2 * Hk, Hk, 16, 700);
        world_start(&w, 8192);
        for (int chunk = 0; chunk < 6; chunk++) {
            int64_t T = test_int(&rng, 1, 90);
            world_step(&w, &rng, T, false);
            law_of_ranks(&w, rank);
            check_plan(&w, T, rank);
        }
        for (int i = 0; i < 5; i++) {
            world_step(&w, &rng, 1, true);
            check_plan(&w, 1, rank);
        }
        w.policy->forget(w.state, w.n);
        world_step(&w, &rng, 1, true);
        law_of_ranks(&w, now);
        check_plan(&w, 1, now);
        for (int h = 0; h < Hk; h++) changed += now[h] != rank[h];
        if (Hk == 8) assert_true(changed > 0); /* the test would see a rank that is not renewed */
        world_close(&w);
    }
}

/* The first two layers stay as they are. */
static void first_layers_are_plain(void **unused)
{
    (void)unused;
    test_rng rng = {test_seed() + 2};
    world w;
    reattn_error err = {0};
    world_open(&w, "mspoe", REATTN_F32, 4, 2, 8, 50);
    world_start(&w, 8192);
    world_step(&w, &rng, 40, false);
    for (int layer = 0; layer < 2; layer++) {
        reattn__step step = {.params = &w.params, .shape = &w.layer, .store = w.store, .layer = layer, .T = 1, .n = 40};
        assert_int_equal(w.policy->plan(w.state, &step, &w.plan, &err), 0);
        assert_int_equal(w.plan.n_list, 1);
        assert_null(w.plan.lists[0].rope);
    }
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_and_ratios),
        cmocka_unit_test(ratios_fall_with_the_share),
        cmocka_unit_test(shares),
        cmocka_unit_test(a_chunk_is_ranked_an_answer_is_not),
        cmocka_unit_test(first_layers_are_plain),
    };
    return cmocka_run_group_tests_name("mspoe", tests, NULL, NULL);
}
