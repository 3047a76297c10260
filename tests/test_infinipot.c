/* test_infinipot.c - the policy infinipot on a store, without a model: what stays, against brute force, and where it is
 * met afterwards. Its sessions: test_tiny_pot.c. */
#include "test_util.h"

#include "attend/attend.h"
#include "cpu/ref.h"
#include "policy/policy.h"
#include "session/params.h"

enum { LAYERS = 2, H = 4, HK = 2, D = 8 };
static const reattn__layer LAYER = {H, HK, D, D, 0.35f, {REATTN_ROPE_NEOX, D, 0, 10000, 1, 0, 1, 32, 1, NULL}};

typedef struct world {
    reattn_session_params params;
    const reattn__policy *policy;
    void *state;
    reattn__plan plan;
} world;

static void world_open(world *w, int64_t pot, int64_t keep, int64_t percent)
{
    reattn_error err = {0};
    const reattn__layer layers[LAYERS] = {LAYER, LAYER};
    *w = (world){.params = reattn_session_params_default(), .policy = reattn__policy_find("infinipot")};
    snprintf(w->params.policy, sizeof w->params.policy, "infinipot");
    w->params.pot = pot;
    w->params.pot_keep = keep;
    w->params.pot_novelty = percent;
    if (reattn__params_resolve(&w->params, 8192, &err)) fail_msg("%s", err.msg);
    assert_int_equal(w->policy->create(&w->params, layers, LAYERS, &w->state, &err), 0);
}

static void world_close(world *w)
{
    w->policy->destroy(w->state);
    reattn__plan_free(&w->plan);
}

/* Few values, so that there are ties. */
static void fill(test_rng *rng, float *x, int64_t n, bool ties)
{
    for (int64_t i = 0; i < n; i++) x[i] = ties ? (float)test_int(rng, 0, 5) : (float)test_unit(rng);
}

static void probe(const world *w, int layer, int64_t held, int64_t T, const float *mass)
{
    reattn_error err = {0};
    reattn__step s = {.params = &w->params, .shape = &LAYER, .layer = layer, .probe = T, .T = T, .n = held + T};
    assert_int_equal(w->policy->learn(w->state, &s, mass, &err), 0);
}

/* Whether token i is kept by the rule, seen from itself: how many go before it. */
static bool stays(const float *novelty, const float *attention, int64_t held, int64_t keep, int64_t novel, int64_t i)
{
    bool *first = calloc((size_t)held, sizeof *first);
    int64_t before = 0;
    for (int64_t j = 0; j < held; j++) {
        int64_t better = 0;
        for (int64_t k = 0; k < held; k++) better += novelty[k] > novelty[j] || (novelty[k] == novelty[j] && k < j);
        first[j] = better < novel;
    }
    for (int64_t k = 0; k < held; k++)
        before += !first[k] && (attention[k] > attention[i] || (attention[k] == attention[i] && k < i));
    bool in = first[i] || before < keep - novel;
    free(first);
    return in;
}

static void what_stays(void **unused)
{
    (void)unused;
    test_rng rng = {test_seed()};
    for (int round = 0; round < 60; round++) {
        static const int64_t percents[] = {50, 0, 100, 25};
        int64_t pot = test_int(&rng, 20, 90), keep = test_int(&rng, 1, pot - 1), percent = percents[round % 4];
        int64_t novel = keep * percent / 100, at = 0;
        world w;
        world_open(&w, pot, keep, percent);
        float novelty[HK][90], mass[H * 90], attention[HK][90];
        for (int cycle = 0; cycle < 3; cycle++) {
            int64_t held = test_int(&rng, keep, pot), kept[HK * 90];
            fill(&rng, novelty[0] + at, held - at, round % 3 == 0);
            if (cycle == 0) novelty[0][test_int(&rng, at, held - 1)] = INFINITY;
            w.policy->novelty(w.state, at, held - at, novelty[0] + at);
            for (int h = 1; h < HK; h++) memcpy(novelty[h] + at, novelty[0] + at, (size_t)(held - at) * sizeof(float));
            fill(&rng, mass, H * held, round % 3 == 0);
            for (int h = 0; h < HK; h++)
                for (int64_t i = 0; i < held; i++)
                    attention[h][i] = mass[2 * h * held + i] + mass[(2 * h + 1) * held + i];
            for (int l = 0; l < LAYERS; l++) probe(&w, l, held, 3, mass);
            for (int l = 0; l < LAYERS; l++) {
                assert_int_equal(w.policy->choose(w.state, l, held, keep, kept, NULL), 0);
                for (int h = 0; h < HK; h++) {
                    int64_t j = 0;
                    for (int64_t i = 0; i < held; i++)
                        if (stays(novelty[h], attention[h], held, keep, novel, i)) {
                            assert_true(j < keep);
                            assert_int_equal(kept[h * keep + j++], i); /* in the order of the text */
                        }
                    assert_int_equal(j, keep);
                }
                /* By novelty alone every head keeps the same. */
                if (percent == 100) assert_memory_equal(kept, kept + keep, (size_t)keep * sizeof *kept);
                w.policy->drop(w.state, l, keep, kept);
            }
            for (int h = 0; h < HK; h++) {
                bool endless = false;
                for (int64_t j = 0; j < keep; j++) {
                    novelty[h][j] = novelty[h][kept[h * keep + j]]; /* taken along */
                    endless = endless || isinf(novelty[h][j]);
                }
                if (novel >= 1) assert_true(endless); /* what was infinitely new survives every cycle */
            }
            at = keep;
        }
        world_close(&w);
    }
}

static void append(reattn__store *store, test_rng *rng, int64_t T, float *q)
{
    float k[64 * HK * D], v[64 * HK * D];
    reattn_error err = {0};
    test_fill_normal(rng, q, T * H * D, 1);
    test_fill_normal(rng, k, T * HK * D, 1);
    test_fill_normal(rng, v, T * HK * D, 1);
    assert_int_equal(reattn__store_reserve(store, reattn__store_length(store, 0) + T, &err), 0);
    assert_int_equal(reattn__store_append(store, 0, T, k, v, &err), 0);
}

/* After a cycle of 40 tokens to 10 each head meets its own at positions 0 .. 9: a key that was kept is its raw self,
 * turned at its new place. The next tokens go on from 10. */
static void positions_after_a_cycle(void **unused)
{
    (void)unused;
    test_rng rng = {test_seed() + 1};
    reattn_error err = {0};
    world w;
    reattn__store *store;
    float q[64 * H * D], raw[HK][40][D], value[HK][40][D], k[14 * HK * D], v[14 * HK * D], novelty[40], mass[H * 40],
        out[4 * H * D];
    int64_t kept[HK * 10], distance[64];
    double law[4 * H * D];
    world_open(&w, 50, 10, 0);
    assert_int_equal(reattn__store_create(&LAYER, 1, REATTN_F32, REATTN_F32, 0, &store, &err), 0);
    append(store, &rng, 40, q);
    for (int h = 0; h < HK; h++) {
        reattn__store_read_v(store, 0, h, 0, 40, value[h][0]);
        for (int64_t i = 0; i < 40; i++) reattn__store_read_k(store, 0, h, i, 1, raw[h][i], 1);
    }
    fill(&rng, novelty, 40, false);
    fill(&rng, mass, H * 40, false);
    w.policy->novelty(w.state, 0, 40, novelty);
    probe(&w, 0, 40, 5, mass);
    assert_int_equal(w.policy->choose(w.state, 0, 40, 10, kept, &err), 0);
    assert_true(memcmp(kept, kept + 10, 10 * sizeof *kept) != 0);
    assert_int_equal(reattn__store_keep(store, 0, kept, 10, &err), 0);
    reattn__store_truncate(store, 10);
    w.policy->drop(w.state, 0, 10, kept);

    append(store, &rng, 4, q);
    reattn__step s = {.params = &w.params, .shape = &LAYER, .store = store, .T = 4, .n = 14, .q = q};
    assert_int_equal(w.policy->plan(w.state, &s, &w.plan, &err), 0);
    assert_int_equal(reattn__plan_distances(&w.plan.lists[0], 10, 3, distance, 64), 14);
    for (int i = 0; i < 14; i++) assert_int_equal(distance[i], 13 - i);
    assert_int_equal(w.plan.mass_run, -1);

    for (int h = 0; h < HK; h++) {
        for (int64_t i = 0; i < 14; i++) {
            float *to_k = k + (i * HK + h) * D, *to_v = v + (i * HK + h) * D;
            if (i < 10) {
                memcpy(to_k, raw[h][kept[h * 10 + i]], D * sizeof(float));
                memcpy(to_v, value[h][kept[h * 10 + i]], D * sizeof(float));
            } else {
                reattn__store_read_k(store, 0, h, i, 1, to_k, 1);
                reattn__store_read_v(store, 0, h, i, 1, to_v);
            }
        }
    }
    const reattn_run all = {.count = 14, .k_step = 1, .q_pos = 10, .q_step = 1, .dist_max = INT64_MAX};
    assert_int_equal(
        reattn__ref_attend(q, k, v, 4, 10, 14, H, HK, D, D, LAYER.kq_scale, &LAYER.rope, &all, 1, law, NULL), 0);
    reattn__rope_table rope = {.rope = LAYER.rope};
    reattn__buffer work[REATTN__ATTEND_BUFFERS] = {{0}};
    reattn__attend_args a = {.q = q,
                             .T = 4,
                             .q_first = 10,
                             .H = H,
                             .src = {.store = store, .Hk = HK, .D = D, .Dv = D},
                             .scale = LAYER.kq_scale,
                             .rope = &rope,
                             .lists = w.plan.lists,
                             .n_list = 1,
                             .n_threads = 1,
                             .out = out,
                             .work = work};
    assert_int_equal(reattn__attend(&a, &err), 0);
    for (int i = 0; i < 4 * H * D; i++) assert_true(fabs((double)out[i] - law[i]) <= 1e-5);
    for (int i = 0; i < REATTN__ATTEND_BUFFERS; i++) reattn__buffer_free(&work[i]);
    reattn__rope_table_free(&rope);
    reattn__store_free(store);
    world_close(&w);
}

/* The catalyst's own tokens are in the softmax, behind what is held; only what is held is asked for. */
static void the_probe(void **unused)
{
    (void)unused;
    reattn_error err = {0};
    int64_t distance[64];
    world w;
    world_open(&w, 50, 10, 50);
    reattn__step s = {.params = &w.params, .shape = &LAYER, .probe = 3, .T = 3, .n = 20};
    assert_int_equal(w.policy->plan(w.state, &s, &w.plan, &err), 0);
    assert_int_equal(w.plan.mass_run, 0);
    assert_int_equal(w.plan.lists[0].runs[0].count, 17);
    assert_int_equal(reattn__plan_distances(&w.plan.lists[0], 17, 1, distance, 64), 19);
    for (int i = 0; i < 19; i++) assert_int_equal(distance[i], 18 - i);
    s = (reattn__step){.params = &w.params, .shape = &LAYER, .probe = 5, .T = 2, .n = 22}; /* the second piece of one */
    assert_int_equal(w.policy->plan(w.state, &s, &w.plan, &err), 0);
    assert_int_equal(w.plan.lists[0].runs[0].count, 17);
    assert_int_equal(reattn__plan_distances(&w.plan.lists[0], 20, 1, distance, 64), 22);
    for (int i = 0; i < 22; i++) assert_int_equal(distance[i], 21 - i);
    world_close(&w);
}

static void defaults(void **unused)
{
    (void)unused;
    reattn_error err = {0};
    reattn_session_params p = reattn_session_params_default();
    snprintf(p.policy, sizeof p.policy, "infinipot");
    assert_int_equal(reattn__params_resolve(&p, 8192, &err), 0);
    assert_int_equal(p.pot, 4096);
    assert_int_equal(p.pot_keep, 2048);
    assert_int_equal(p.pot_novelty, 50);
    p.pot = 8193;
    assert_int_equal(reattn__params_resolve(&p, 8192, &err), REATTN_E_ARG);
    assert_non_null(strstr(err.msg, "8192"));
    p.pot = p.pot_keep;
    assert_int_equal(reattn__params_resolve(&p, 8192, &err), REATTN_E_ARG);
    assert_true(reattn_policy_drops("infinipot"));
    assert_false(reattn_policy_drops("infllm"));
    assert_false(reattn_policy_drops("none"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_stays), cmocka_unit_test(positions_after_a_cycle),
                                       cmocka_unit_test(the_probe), cmocka_unit_test(defaults)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
