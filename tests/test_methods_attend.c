/* test_methods_attend.c - every method's plans, executed at every CPU level on stores of every type, against the
 * law. */
#include "test_world.h"

#include "cpu/ref.h"

enum { KEPT = 12 }; /* tokens decoded */

/* The law's output for a step: rotations, divisors and ranges as the plan has them, queries scaled. out [T][H][Dv]. */
static void law(const world *w, int64_t T, double *out)
{
    const reattn__layer *l = &w->layer;
    int g = l->H / l->Hk;
    float *q = test_floats(T * l->H * l->D);
    double *all = malloc((size_t)(T * l->H * l->Dv) * sizeof *all);
    for (int64_t i = 0; i < T * l->H * l->D; i++)
        q[i] = w->q[(w->n - T) * l->H * l->D + i] * (w->plan.q_scale ? w->plan.q_scale[i / (l->H * l->D)] : 1);
    for (int head = 0; head < l->Hk; head++) {
        const reattn__run_list *list = &w->plan.lists[w->plan.n_list == 1 ? 0 : head];
        assert_int_equal(reattn__ref_attend(q, w->k, w->v, T, w->n - T, w->n, l->H, l->Hk, l->D, l->Dv, l->kq_scale,
                                            list->rope ? &list->rope->rope : &l->rope, list->runs, list->n, all,
                                            NULL), 0);
        for (int64_t t = 0; t < T; t++)
            memcpy(out + (t * l->H + head * g) * l->Dv, all + (t * l->H + head * g) * l->Dv,
                   (size_t)(g * l->Dv) * sizeof *out);
    }
    free(q);
    free(all);
}

static void run(world *w, int64_t T, int n_threads, float *out)
{
    const reattn__layer *l = &w->layer;
    reattn_error err = {0};
    reattn__rope_table rope = {.rope = l->rope};
    reattn__buffer work[REATTN__ATTEND_BUFFERS] = {{0}};
    reattn__attend_args args = {
        .q = w->q + (w->n - T) * l->H * l->D, .T = T, .q_first = w->n - T, .H = l->H,
        .src = {.store = w->store, .layer = WORLD_LAYER, .Hk = l->Hk, .D = l->D, .Dv = l->Dv}, .scale = l->kq_scale,
        .q_scale = w->plan.q_scale, .rope = &rope, .turned = &w->turned, .lists = w->plan.lists,
        .n_list = w->plan.n_list, .n_threads = n_threads, .out = out, .work = work,
    };
    if (reattn__attend(&args, &err)) fail_msg("%s: %s", w->policy->info.name, err.msg);
    for (int i = 0; i < REATTN__ATTEND_BUFFERS; i++) reattn__buffer_free(&work[i]);
    reattn__rope_table_free(&rope);
}

/* Sums of some hundred values of size 1. In f32; or, on split keys, in 16-bit integers, as in test_policy.c. */
static void check(world *w, int64_t T)
{
    int64_t n = T * w->layer.H * w->layer.Dv;
    double *want = malloc((size_t)n * sizeof *want), tol = w->params.type_k == REATTN_SPLIT ? 6e-3 : 2e-5;
    float *out = test_floats(n), *again = test_floats(n);
    law(w, T, want);
    for (int level = 0; level < TEST_N_LEVEL; level++) {
        if (!test_use_level(level)) continue;
        run(w, T, 1, out);
        run(w, T, 3, again);
        assert_memory_equal(out, again, (size_t)n * sizeof *out);
        for (int64_t i = 0; i < n; i++)
            if (!(fabs((double)out[i] - want[i]) <= tol))
                fail_msg("%s at level %s: n %d, T %d, output %d is %.9g, not %.9g", w->policy->info.name,
                         test_levels[level], (int)w->n, (int)T, (int)i, out[i], want[i]);
    }
    reattn__cpu_force_level(NULL);
    free(want);
    free(out);
    free(again);
}

static const char *const names[] = {"lm-infinite", "selfextend", "dca", "string", "mesa",
                                    "ntk",         "dynamic-ntk", "yarn", "mspoe", "full"};
enum { N_NAME = sizeof names / sizeof *names };

/* A text of several times the trained length, in chunks of all sizes, then its tail, then token by token. */
static void methods_equal_the_law(void **unused)
{
    (void)unused;
    test_rng rng = {test_seed()};
    for (int round = 0; round < 6 * N_NAME; round++) {
        world w;
        static const int types[] = {REATTN_SPLIT, REATTN_F32, REATTN_F16};
        int Hk = (int)test_int(&rng, 1, 3), g = (int)test_int(&rng, 1, 4);
        world_open(&w, names[round % N_NAME], types[round / N_NAME % 3], Hk * g, Hk, round % 2 ? 16 : 36, 1500);
        reattn_session_params *p = &w.params;
        p->keep = test_int(&rng, 0, 9);
        p->local = test_int(&rng, 20, 60);
        p->chunk = 20;
        p->tail = 8;
        p->group = test_int(&rng, 2, 6);
        p->shift = test_int(&rng, p->local, 90);
        p->scale = test_one_in(&rng, 2) ? 0 : test_int(&rng, 2, 6);
        if (strcmp(names[round % N_NAME], "dca") == 0) p->local = test_int(&rng, 1, 30);
        world_start(&w, test_int(&rng, 80, 300));
        if (round >= 3 * N_NAME) world_step(&w, &rng, 1000, false); /* near a page's end, and past it */
        for (int chunk = 0; chunk < 5; chunk++) {
            int64_t T = test_int(&rng, 1, 20);
            world_step(&w, &rng, T, false);
            check(&w, T);
        }
        if (round % 3 == 0) { /* many queries at once */
            world_step(&w, &rng, 150, false);
            check(&w, 150);
        }
        w.last = true;
        world_step(&w, &rng, 8, false);
        check(&w, 8);
        w.last = false;
        for (int i = 0; i < KEPT; i++) {
            world_step(&w, &rng, 1, true);
            check(&w, 1);
        }
        world_close(&w);
    }
}

/* Reading in chunks and token by token give the same outputs, up to rounding, where the rule does not know of steps. */
static void decoding_equals_reading(void **unused)
{
    (void)unused;
    static const char *const alike[] = {"lm-infinite", "selfextend", "dca", "string"};
    uint64_t seed = test_seed() + 1;
    for (size_t m = 0; m < sizeof alike / sizeof *alike; m++) {
        enum { N = 200, H = 4, D = 16 };
        float *outs[2] = {test_floats((int64_t)N * H * D), test_floats((int64_t)N * H * D)};
        for (int way = 0; way < 2; way++) {
            world w;
            test_rng rng = {seed};
            world_open(&w, alike[m], REATTN_F32, H, 2, D, N);
            w.params.keep = 3;
            w.params.local = 12;
            w.params.shift = 30;
            world_start(&w, 64);
            for (int64_t T; w.n < N;) {
                T = way ? 1 : 40;
                for (int64_t t = 0; t < T; t++) { /* the same tokens, whatever the step */
                    test_fill_normal(&rng, w.q + (w.n + t) * H * D, H * D, 1);
                    test_fill_normal(&rng, w.k + (w.n + t) * 2 * D, 2 * D, 1);
                    test_fill_normal(&rng, w.v + (w.n + t) * 2 * D, 2 * D, 1);
                }
                world_feed(&w, T, way == 1);
                run(&w, T, 1, outs[way] + (w.n - T) * H * D);
            }
            world_close(&w);
        }
        for (int i = 0; i < N * H * D; i++) assert_true(fabs((double)outs[0][i] - (double)outs[1][i]) <= 2e-5);
        free(outs[0]);
        free(outs[1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(methods_equal_the_law),
        cmocka_unit_test(decoding_equals_reading),
    };
    return cmocka_run_group_tests_name("methods_attend", tests, NULL, NULL);
}
