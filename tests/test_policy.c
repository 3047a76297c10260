/* test_policy.c - a layer's step on a store, without a model: plans against the law, coverage, distance rows. */
#include "test_world.h"

#include "cpu/half.h"
#include "cpu/ref.h"
#include "policy/local.h"

/* Every query sees each key at most once, never a later one, and distances count down to 0 at itself. */
static void check_sane(const world *w, int64_t T)
{
    int *count = calloc((size_t)w->n, sizeof *count);
    int64_t *distance = calloc((size_t)w->n, sizeof *distance);
    for (int i = 0; i < w->plan.n_list; i++) {
        for (int64_t t = 0; t < T; t++) {
            memset(count, 0, (size_t)w->n * sizeof *count);
            reattn__plan_coverage(&w->plan.lists[i], w->n - T, t, w->n, count);
            int64_t seen = 0;
            for (int64_t j = 0; j < w->n; j++) {
                assert_in_range(count[j], 0, j <= w->n - T + t ? 1 : 0);
                seen += count[j];
            }
            assert_int_equal(count[w->n - T + t], 1);
            for (int64_t j = 0;
                 j < w->params.local && j <= w->n - T + t && w->params.local_per == REATTN_LOCAL_PER_QUERY; j++)
                assert_int_equal(count[w->n - T + t - j], 1); /* its own last tokens */
            assert_int_equal(reattn__plan_distances(&w->plan.lists[i], w->n - T, t, distance, w->n), seen);
            assert_int_equal(distance[seen - 1], 0);
            for (int64_t j = 1; j < seen; j++) {
                if (w->params.positions == REATTN_POS_REASSIGNED) assert_int_equal(distance[j - 1], distance[j] + 1);
                else assert_true(distance[j - 1] > distance[j]);
            }
        }
    }
    free(count);
    free(distance);
}

static void check_law(const world *w, int64_t T, int64_t n_query)
{
    const reattn_session_params *p = &w->params;
    const reattn__layer *l = &w->layer;
    reattn__ref_rule rule = {p->keep,
                             reattn__last_tokens(p, T),
                             (int)p->recall_k,
                             p->recall_span,
                             p->recall_max,
                             p->recall_per_head,
                             (reattn_vote)p->recall_vote,
                             (reattn_recall_type)p->recall_type,
                             (reattn_positions)p->positions,
                             p->recall_from};
    reattn__ref_layer layer = {w->n, T, n_query, l->H, l->Hk, l->D, l->Dv, w->q + (w->n - n_query) * l->H * l->D,
                               w->k, w->v, l->kq_scale};
    reattn__ref_plan law;
    assert_int_equal(reattn__ref_plan_make(&rule, &layer, &law), 0);
    for (int i = 0; i < law.n_set; i++) {
        const reattn__run_list *mine = &w->plan.lists[w->plan.n_list == 1 ? 0 : i];
        assert_int_equal(mine->n, law.set[i].n_run);
        for (int64_t r = 0; r < mine->n; r++)
            assert_memory_equal(&mine->runs[r], &law.set[i].runs[r], sizeof(reattn_run));
    }
    reattn__ref_plan_free(&law);
}

static float to_half(double x) { return reattn__half_to_float(reattn__float_to_half((float)x)); }

/* The sum of squares by which attention in halves (rotated rows, weights, values) misses the law, for one KV head. */
static double naive_error(const world *w, int64_t T, int head, const reattn__run_list *list, const double *law)
{
    const reattn__layer *l = &w->layer;
    int g = l->H / l->Hk, D = l->D;
    double error = 0, q[64], k[64], p[2048], o[64];
    for (int64_t i = 0; i < T * g; i++) {
        int64_t t = i / g, at = w->n - T + t, row = t * l->H + head * g + i % g, n = 0;
        double top = -INFINITY, sum = 0;
        memset(o, 0, sizeof o);
        for (int pass = 0; pass < 2; pass++, n = 0) {
            for (int64_t r = 0; r < list->n; r++) {
                const reattn_run *run = &list->runs[r];
                reattn__ref_rope(&l->rope, w->q + ((w->n - T) * l->H + row) * D, D, run->q_pos + t * run->q_step, q);
                for (int64_t c = 0; c < run->count && run->first + c <= at; c++, n++) {
                    const int64_t key = (run->first + c) * l->Hk + head;
                    if (pass == 0) {
                        reattn__ref_rope(&l->rope, w->k + key * D, D, run->k_pos + c * run->k_step, k);
                        p[n] = 0;
                        for (int d = 0; d < D; d++) p[n] += (double)to_half(q[d]) * (double)to_half(k[d]);
                        p[n] *= (double)l->kq_scale;
                        top = fmax(top, p[n]);
                        continue;
                    }
                    double weight = (double)to_half(exp(p[n] - top));
                    sum += weight;
                    for (int d = 0; d < l->Dv; d++) o[d] += weight * (double)to_half((double)w->v[key * l->Dv + d]);
                }
            }
        }
        for (int d = 0; d < l->Dv; d++) error += pow(o[d] / sum - law[row * l->Dv + d], 2);
    }
    return error;
}

/* What a step attends to, read from the store, against the law's output: at every level, for many queries and few. From
 * f32 and f16 keys the sums are f32's; from split keys they are 16-bit integers', which may miss the law by twice as
 * much as halves do (root mean square over all outputs so far). */
static void check_attention(world *w, int64_t T, double errors[2])
{
    const reattn__layer *l = &w->layer;
    int64_t n_out = T * l->H * l->Dv;
    float *out = test_floats(n_out);
    double *law = calloc((size_t)n_out, sizeof *law);
    const float *q = w->q + (w->n - T) * l->H * l->D;
    int g = l->H / l->Hk;
    for (int level = 0; level < TEST_N_LEVEL; level++) {
        if (!test_use_level(level)) continue;
        reattn_error err = {0};
        reattn__rope_table rope = {.rope = l->rope};
        reattn__buffer work[REATTN__ATTEND_BUFFERS] = {{0}};
        reattn__attend_args args = {
            .q = q,
            .T = T,
            .q_first = w->n - T,
            .H = l->H,
            .src = {.store = w->store, .layer = WORLD_LAYER, .Hk = l->Hk, .D = l->D, .Dv = l->Dv},
            .scale = l->kq_scale,
            .rope = &rope,
            .turned = &w->turned,
            .lists = w->plan.lists,
            .n_list = w->plan.n_list,
            .n_threads = 2,
            .out = out,
            .work = work,
        };
        assert_int_equal(reattn__attend(&args, &err), 0);
        for (int head = 0; head < l->Hk; head++) {
            const reattn__run_list *list = &w->plan.lists[w->plan.n_list == 1 ? 0 : head];
            assert_int_equal(reattn__ref_attend(q, w->k, w->v, T, w->n - T, w->n, l->H, l->Hk, l->D, l->Dv, l->kq_scale,
                                                &l->rope, list->runs, list->n, law, NULL), 0);
            for (int64_t t = 0; t < T; t++) {
                for (int64_t i = (t * l->H + head * g) * l->Dv; i < (t * l->H + (head + 1) * g) * l->Dv; i++) {
                    double miss = (double)out[i] - law[i];
                    errors[0] += miss * miss;
                    /* sums of some hundred values of size 1: in f32; in integers, no single one far off either */
                    assert_true(fabs(miss) <= (w->params.type_k == REATTN_SPLIT ? 4e-3 : 1e-5));
                }
            }
            if (w->params.type_k == REATTN_SPLIT) errors[1] += naive_error(w, T, head, list, law);
        }
        for (int i = 0; i < REATTN__ATTEND_BUFFERS; i++) reattn__buffer_free(&work[i]);
        reattn__rope_table_free(&rope);
    }
    reattn__cpu_force_level(NULL);
    free(out);
    free(law);
}

static void set_random(world *w, test_rng *rng)
{
    reattn_session_params *p = &w->params;
    p->keep = test_int(rng, 0, 9);
    p->local_per = (int)test_int(rng, 0, 1);
    p->local = test_int(rng, p->local_per == REATTN_LOCAL_PER_QUERY ? 1 : 16, 40);
    p->chunk = 16;
    p->tail = 8;
    p->recall_k = test_int(rng, 1, 6);
    p->recall_span = test_int(rng, 1, 9);
    p->recall_max = test_int(rng, 1, 12);
    p->recall_window = test_int(rng, 1, 7);
    p->recall_per_head = (int)test_int(rng, 0, 1);
    p->recall_vote = (int)test_int(rng, 0, 1);
    p->recall_type = (int)test_int(rng, 0, 4);
    p->positions = (int)test_int(rng, 0, 1);
    p->recall_from = test_int(rng, 0, 1) ? 0 : test_int(rng, 1, 80);
}

/* A text read in chunks and then token by token: at every step the plan is the law's, for every switch of the paper. */
static void plans_equal_the_law(void **unused)
{
    (void)unused;
    test_rng rng = {test_seed()};
    double errors[2] = {0};
    for (int round = 0; round < 60; round++) {
        world w;
        static const int types[] = {REATTN_F32, REATTN_SPLIT, REATTN_F16, REATTN_SPLIT};
        int Hk = (int)test_int(&rng, 1, 3), g = (int)test_int(&rng, 1, 3);
        world_open(&w, "reattention", types[round % 4], Hk * g, Hk,
                   round % 3 == 0   ? 64
                   : round % 3 == 1 ? 8
                                    : 36,
                   1000);
        set_random(&w, &rng);
        world_start(&w, 8192);
        /* Some reach page 2. */
        for (int chunk = 0; chunk < (round % 5 ? 0 : 45); chunk++) world_step(&w, &rng, 16, false);
        for (int chunk = 0; chunk < 9; chunk++) {
            int64_t T = test_int(&rng, 1, 16);
            world_step(&w, &rng, T, false);
            check_law(&w, T, T);
            check_sane(&w, T);
            check_attention(&w, T, errors);
        }
        for (int i = 0; i < 12; i++) {
            world_step(&w, &rng, 1, true);
            check_sane(&w, 1);
            check_attention(&w, 1, errors);
        }
        world_close(&w);
    }
    printf("16-bit integers: error %.1e, halves %.1e\n", sqrt(errors[0]), sqrt(errors[1]));
    assert_true(errors[0] <= 4 * errors[1]);
}

/* In decode the last queries vote with the one at hand, the prompt's last ones included. */
static void decode_votes_over_the_window(void **unused)
{
    (void)unused;
    test_rng rng = {test_seed() + 1};
    for (int round = 0; round < 40; round++) {
        world w;
        world_open(&w, "reattention", REATTN_F16, 4, 2, 8, 400);
        set_random(&w, &rng);
        world_start(&w, 8192);
        for (int chunk = 0; chunk < 6; chunk++) world_step(&w, &rng, 16, false);
        for (int64_t i = 1; i < 20; i++) {
            world_step(&w, &rng, 1, true);
            check_law(&w, 1, REATTN__MIN(w.params.recall_window, 16 + i));
        }
        world_close(&w);
    }
}

static void when_to_recall(void **unused)
{
    (void)unused;
    test_rng rng = {test_seed() + 2};
    for (int when = 0; when < 3; when++) {
        world w;
        world_open(&w, "reattention", REATTN_F16, 4, 2, 8, 400);
        set_random(&w, &rng);
        w.params.recall_when = when;
        world_start(&w, 8192);
        for (int chunk = 0; chunk < 6; chunk++) world_step(&w, &rng, 16, false);
        assert_int_equal(w.plan.n_spans[0] > 0, when != REATTN_WHEN_DECODE);
        check_sane(&w, 16);
        world_step(&w, &rng, 1, true);
        assert_int_equal(w.plan.n_spans[0] > 0, when != REATTN_WHEN_PROMPT);
        if (when != REATTN_WHEN_PROMPT) check_law(&w, 1, REATTN__MIN(w.params.recall_window, 17));
        world_close(&w);
    }
}

/* After a rewind the window is empty: the next decode votes alone. */
static void forgetting(void **unused)
{
    (void)unused;
    test_rng rng = {test_seed() + 3};
    world w;
    world_open(&w, "reattention", REATTN_F16, 4, 2, 8, 400);
    set_random(&w, &rng);
    world_start(&w, 8192);
    for (int chunk = 0; chunk < 8; chunk++) world_step(&w, &rng, 16, false);
    reattn__store_truncate(w.store, 100);
    w.n = 100;
    w.policy->forget(w.state, 100);
    world_step(&w, &rng, 1, true);
    check_law(&w, 1, 1);
    world_close(&w);
}

static void streaming_is_global_and_local(void **unused)
{
    (void)unused;
    test_rng rng = {test_seed() + 4};
    int64_t distance[64];
    world w;
    world_open(&w, "streaming", REATTN_F32, 2, 1, 8, 100);
    w.params.keep = 2;
    w.params.local = 5;
    w.params.chunk = 5;
    w.params.tail = 1;
    world_start(&w, 8192);
    world_step(&w, &rng, 5, false);
    world_step(&w, &rng, 2, false); /* n = 7 = G + L: still everything */
    assert_int_equal(reattn__plan_distances(&w.plan.lists[0], w.n - 2, 1, distance, 64), 7);
    world_step(&w, &rng, 5, false);
    check_sane(&w, 5);
    world_step(&w, &rng, 1, true); /* n = 13: tokens 0 1 | 8 .. 12 at positions 0 .. 6 */
    assert_int_equal(reattn__plan_distances(&w.plan.lists[0], w.n - 1, 0, distance, 64), 7);
    for (int i = 0; i < 7; i++) assert_int_equal(distance[i], 6 - i);
    int count[13] = {0};
    reattn__plan_coverage(&w.plan.lists[0], w.n - 1, 0, 13, count);
    for (int j = 0; j < 13; j++) assert_int_equal(count[j], j < 2 || j >= 8);
    world_close(&w);
}

static void full_sees_all(void **unused)
{
    (void)unused;
    test_rng rng = {test_seed() + 5};
    int64_t distance[64];
    world w;
    world_open(&w, "full", REATTN_F32, 2, 1, 8, 100);
    world_start(&w, 8192);
    world_step(&w, &rng, 20, false);
    world_step(&w, &rng, 3, false);
    check_sane(&w, 3);
    assert_int_equal(reattn__plan_distances(&w.plan.lists[0], w.n - 3, 1, distance, 64), 22);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_equal_the_law),         cmocka_unit_test(decode_votes_over_the_window),
        cmocka_unit_test(when_to_recall),              cmocka_unit_test(forgetting),
        cmocka_unit_test(streaming_is_global_and_local), cmocka_unit_test(full_sees_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
