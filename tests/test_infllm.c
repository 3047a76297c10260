/* test_infllm.c - the policy infllm on a store, without a model: which keys at which distances, and the choice of
 * blocks against the rule written down once more, in float64. */
#include "test_util.h"

#include "attend/attend.h"
#include "cpu/ref.h"
#include "policy/policy.h"
#include "session/params.h"

typedef struct world {
    reattn__layer layer;
    reattn__store *store;
    reattn_session_params params;
    const reattn__policy *policy;
    void *state;
    reattn__plan plan;
    reattn__buffer work[REATTN__ATTEND_BUFFERS];
    reattn__rope_table rope;
    float *q, *k, *v; /* [n][H][D], [n][Hk][D], [n][Hk][D] of all tokens */
    float *out;       /* of the last step */
    int64_t n, cap;
    int at;           /* the layer that is read */
    int64_t scored, rescored;
} world;

static void world_open(world *w, const char *policy, int H, int Hk, int D, int64_t cap)
{
    reattn_error err = {0};
    *w = (world){.layer = {H, Hk, D, D, 1 / sqrtf((float)D), {REATTN_ROPE_NEOX, D, 0, 10000, 1, 0, 1, 32, 1, NULL}}};
    w->params = reattn_session_params_default();
    snprintf(w->params.policy, sizeof w->params.policy, "%s", policy);
    w->params.n_threads = 2;
    w->cap = cap;
    w->policy = reattn__policy_find(policy);
    w->rope.rope = w->layer.rope;
    w->q = test_floats(cap * H * D);
    w->k = test_floats(cap * Hk * D);
    w->v = test_floats(cap * Hk * D);
    w->out = test_floats(cap * H * D);
    assert_int_equal(reattn__store_create(&w->layer, 1, REATTN_F32, REATTN_F32, 0, &w->store, &err), 0);
}

static void world_start(world *w)
{
    reattn_error err = {0};
    if (reattn__params_resolve(&w->params, 8192, &err)) fail_msg("%s", err.msg);
    if (w->policy->create) assert_int_equal(w->policy->create(&w->params, &w->layer, 1, &w->state, &err), 0);
}

static void world_close(world *w)
{
    if (w->policy->destroy) w->policy->destroy(w->state);
    reattn__plan_free(&w->plan);
    reattn__store_free(w->store);
    for (int i = 0; i < REATTN__ATTEND_BUFFERS; i++) reattn__buffer_free(&w->work[i]);
    reattn__rope_table_free(&w->rope);
    free(w->q);
    free(w->k);
    free(w->v);
    free(w->out);
}

static reattn__step step_of(world *w, int64_t T, bool decode)
{
    const reattn__layer *l = &w->layer;
    int64_t at = w->n - T;
    return (reattn__step){.params = &w->params,
                          .shape = l,
                          .store = w->store,
                          .layer = w->at,
                          .decode = decode,
                          .T = T,
                          .n = w->n,
                          .q = w->q + at * l->H * l->D,
                          .k = w->k + at * l->Hk * l->D,
                          .v = w->v + at * l->Hk * l->D,
                          .scored = &w->scored,
                          .rescored = &w->rescored};
}

static void attend(world *w, const reattn__step *s, float *mass, float *out)
{
    const reattn__layer *l = &w->layer;
    reattn_error err = {0};
    float *lse = test_floats(s->T * l->H);
    reattn__attend_args a = {
        .q = s->q,
        .T = s->T,
        .q_first = s->n - s->T,
        .H = l->H,
        .src = {.store = w->store, .layer = w->at, .Hk = l->Hk, .D = l->D, .Dv = l->Dv},
        .scale = l->kq_scale,
        .rope = &w->rope,
        .lists = w->plan.lists,
        .n_list = w->plan.n_list,
        .n_threads = 2,
        .out = out,
        .lse = lse,
        .mass = mass,
        .mass_run = w->plan.mass_run,
        .work = w->work,
    };
    if (reattn__attend(&a, &err)) fail_msg("%s", err.msg);
    free(lse);
}

/* Appends T tokens (random ones, unless they are there already), plans and attends. */
static void world_read(world *w, test_rng *rng, int64_t T, bool decode)
{
    const reattn__layer *l = &w->layer;
    reattn_error err = {0};
    float *q = w->q + w->n * l->H * l->D, *k = w->k + w->n * l->Hk * l->D, *v = w->v + w->n * l->Hk * l->D;
    assert_true(w->n + T <= w->cap);
    if (rng) {
        test_fill_normal(rng, q, T * l->H * l->D, 1);
        test_fill_normal(rng, k, T * l->Hk * l->D, 1);
        test_fill_normal(rng, v, T * l->Hk * l->D, 1);
    }
    assert_int_equal(reattn__store_reserve(w->store, w->n + T, &err), 0);
    assert_int_equal(reattn__store_append(w->store, w->at, T, k, v, &err), 0);
    w->n += T;
    reattn__step s = step_of(w, T, decode);
    assert_int_equal(w->policy->plan(w->state, &s, &w->plan, &err), 0);
    bool learns = w->plan.mass_run >= 0;
    float *mass = learns ? test_floats(l->H * w->plan.lists[0].runs[w->plan.mass_run].count) : NULL;
    attend(w, &s, mass, w->out);
    if (w->policy->learn) assert_int_equal(w->policy->learn(w->state, &s, mass, &err), 0);
    free(mass);
}

static void world_rewind(world *w, int64_t n)
{
    reattn__store_truncate(w->store, n);
    w->n = n;
    w->policy->forget(w->state, n);
}

static void set_small(world *w, int64_t keep, int64_t local, int64_t span, int64_t max, int64_t chunk)
{
    w->params.keep = keep;
    w->params.local = local;
    w->params.recall_span = span;
    w->params.recall_max = max;
    w->params.chunk = chunk;
    w->params.tail = 1;
}

/* With room for all blocks every query meets each token up to itself once: nearer than `local` at its distance, others
 * at local - 1. */
static void check_all_once(const world *w, int64_t T)
{
    for (int64_t t = 0; t < T; t++) {
        int *count = calloc((size_t)w->n, sizeof *count);
        int64_t at = w->n - T + t, n = 0, distance[512], local = w->params.local;
        reattn__plan_coverage(&w->plan.lists[0], w->n - T, t, w->n, count);
        for (int64_t j = 0; j < w->n; j++) assert_int_equal(count[j], j <= at);
        n = reattn__plan_distances(&w->plan.lists[0], w->n - T, t, distance, 512);
        assert_int_equal(n, at + 1);
        int64_t near = REATTN__MIN(at + 1, local);
        for (int64_t j = 0; j < n; j++) assert_int_equal(distance[j], j < near ? near - 1 - j : local - 1);
        free(count);
    }
}

/* n = 20, 2 first tokens, a window of 4, blocks of 2, 2 queries a step. */
static void the_example(void **unused)
{
    (void)unused;
    test_rng rng = {test_seed()};
    world w;
    world_open(&w, "infllm", 2, 1, 8, 64);
    set_small(&w, 2, 4, 2, 100, 2);
    world_start(&w);
    while (w.n < 20) {
        world_read(&w, &rng, 2, false);
        check_all_once(&w, 2);
    }
    world_read(&w, &rng, 1, true);
    check_all_once(&w, 1);
    /* Blocks {2, 3} .. {14, 15} are one span, 16 is what the window has left of the remainder 16 .. 19. */
    assert_int_equal(w.plan.n_spans[0], 2);
    assert_int_equal(w.plan.spans[0][0].first, 2);
    assert_int_equal(w.plan.spans[0][0].count, 14);
    assert_int_equal(w.plan.spans[0][1].first, 16);
    assert_int_equal(w.plan.spans[0][1].count, 1);
    world_close(&w);
}

static void all_blocks_are_met_once(void **unused)
{
    (void)unused;
    test_rng rng = {test_seed() + 1};
    for (int round = 0; round < 40; round++) {
        world w;
        world_open(&w, "infllm", 4, 2, 8, 400);
        int64_t local = test_int(&rng, 8, 40);
        set_small(&w, test_int(&rng, 0, 30), local, test_int(&rng, 1, 12), 500, test_int(&rng, 1, local));
        world_start(&w);
        while (w.n < 300) {
            int64_t T = test_int(&rng, 1, w.params.chunk);
            world_read(&w, &rng, T, T == 1);
            check_all_once(&w, T);
        }
        world_close(&w);
    }
}

static void short_texts_are_full_attention(void **unused)
{
    (void)unused;
    test_rng rng = {test_seed() + 2};
    world a, b;
    world_open(&a, "infllm", 4, 2, 8, 64);
    world_open(&b, "full", 4, 2, 8, 64);
    set_small(&a, 4, 40, 4, 3, 8);
    world_start(&a);
    world_start(&b);
    for (int i = 0; i < 5; i++) {
        world_read(&a, &rng, 8, false);
        memcpy(b.q, a.q, 64 * 4 * 8 * sizeof(float));
        memcpy(b.k, a.k, 64 * 2 * 8 * sizeof(float));
        memcpy(b.v, a.v, 64 * 2 * 8 * sizeof(float));
        world_read(&b, NULL, 8, false);
        assert_memory_equal(a.out, b.out, 8 * 4 * 8 * sizeof(float));
    }
    world_close(&a);
    world_close(&b);
}

/* A far score is R(local - 1) q . k, whatever block the key is in; the order of the blocks does not matter. */
static void far_scores(void **unused)
{
    (void)unused;
    test_rng rng = {test_seed() + 3};
    enum { H = 2, D = 8 };
    world w;
    world_open(&w, "infllm", H, 1, D, 200);
    set_small(&w, 3, 10, 4, 6, 5);
    world_start(&w);
    while (w.n < 100) world_read(&w, &rng, 5, false);
    reattn__step s = step_of(&w, 5, false);
    const reattn__run_list *list = &w.plan.lists[0];
    assert_true(list->n >= 4);
    double turned[D];
    for (int64_t r = 1; r < list->n; r++) {
        float lse, out[H * D];
        reattn_run one = list->runs[r];
        one.count = 1; /* with a single key the lse is its score */
        reattn__run_list single = {.runs = &one, .n = 1};
        reattn__attend_args a = {.q = s.q,
                                 .T = 1,
                                 .q_first = w.n - 5,
                                 .H = 1,
                                 .src = {.store = w.store, .Hk = 1, .D = D, .Dv = D},
                                 .scale = w.layer.kq_scale,
                                 .rope = &w.rope,
                                 .lists = &single,
                                 .n_list = 1,
                                 .n_threads = 1,
                                 .out = out,
                                 .lse = &lse,
                                 .work = w.work};
        assert_int_equal(reattn__attend(&a, NULL), 0);
        reattn__ref_rope(&w.layer.rope, s.q, D, 9, turned);
        double want = 0;
        for (int d = 0; d < D; d++) want += turned[d] * (double)w.k[one.first * D + d];
        assert_true(fabs((double)lse - want * (double)w.layer.kq_scale) <= 1e-5);
    }
    float *out = test_floats(5 * H * D);
    reattn_run *runs = (reattn_run *)list->runs;
    for (int64_t r = 1; r < list->n / 2 + 1; r++) {
        reattn_run x = runs[r];
        runs[r] = runs[list->n - r];
        runs[list->n - r] = x;
    }
    attend(&w, &s, NULL, out);
    for (int i = 0; i < 5 * H * D; i++) assert_true(fabsf(out[i] - w.out[i]) <= 1e-5f);
    free(out);
    world_close(&w);
}

/* ------------------------------------------------------------------------- the rule, once more ------------- */

typedef struct law {
    int64_t start;
    double *mass; /* [H][cap] of every token */
    double *reps; /* [blocks][H][D] */
} law;

static void law_attended(const world *w, law *law, int64_t T)
{
    const reattn__layer *l = &w->layer;
    const reattn_session_params *p = &w->params;
    int g = l->H / l->Hk;
    int64_t at = w->n - T;
    for (int i = 0; i < w->plan.n_list; i++) {
        const reattn__run_list *list = &w->plan.lists[i];
        const reattn_run *near = &list->runs[w->plan.mass_run];
        double *got = malloc((size_t)(l->H * near->count) * sizeof *got);
        assert_int_equal(reattn__ref_mass(w->q + at * l->H * l->D, w->k, T, at, l->H, l->Hk, l->D, l->kq_scale,
                                          &l->rope, list->runs, list->n, w->plan.mass_run, got),
                         0);
        for (int h = 0; h < l->H; h++)
            for (int64_t c = 0; c < near->count && (w->plan.n_list == 1 || h / g == i); c++)
                law->mass[h * w->cap + near->first + c] += got[h * near->count + c];
        free(got);
    }
    while (law->start < p->keep && w->n - law->start > p->local) law->start++;
    while (law->start >= p->keep && w->n - law->start - p->recall_span >= p->local) {
        int64_t block = (law->start - p->keep) / p->recall_span;
        for (int h = 0; h < l->H; h++) {
            bool taken[64] = {false};
            double *rep = law->reps + (block * l->H + h) * l->D;
            int64_t take = REATTN__MIN(p->recall_k, p->recall_span);
            for (int64_t r = 0; r < take; r++) {
                int64_t best = -1;
                for (int64_t j = 0; j < p->recall_span; j++)
                    if (!taken[j] && (best < 0 || law->mass[h * w->cap + law->start + j] >
                                                      law->mass[h * w->cap + law->start + best]))
                        best = j;
                taken[best] = true;
                for (int d = 0; d < l->D; d++)
                    rep[d] += (double)w->k[((law->start + best) * l->Hk + h / g) * l->D + d] / (double)take;
            }
        }
        law->start += p->recall_span;
    }
}

/* Marks the blocks of the plan and compares them with the best by the rule. How many were not simply all. */
static int law_check(const world *w, const law *law, int64_t T)
{
    const reattn__layer *l = &w->layer;
    const reattn_session_params *p = &w->params;
    int64_t n = REATTN__MAX(law->start - p->keep, (int64_t)0) / p->recall_span;
    int checked = 0;
    for (int i = 0; i < w->plan.n_list && n > p->recall_max; i++) {
        double *score = calloc((size_t)n, sizeof *score);
        bool *mine = calloc((size_t)n, sizeof *mine);
        for (int h = 0; h < l->H; h++) {
            if (w->plan.n_list > 1 && h / (l->H / l->Hk) != i) continue;
            double mean[64] = {0}, turned[64];
            for (int64_t t = 0; t < T; t++) {
                reattn__ref_rope(&l->rope, w->q + ((w->n - T + t) * l->H + h) * l->D, l->D, p->local - 1, turned);
                for (int d = 0; d < l->D; d++) mean[d] += turned[d] / (double)T;
            }
            for (int64_t b = 0; b < n; b++)
                for (int d = 0; d < l->D; d++) score[b] += mean[d] * law->reps[(b * l->H + h) * l->D + d];
        }
        int64_t found = 0;
        for (int64_t j = 0; j < w->plan.n_spans[i]; j++)
            for (int64_t c = 0; c < w->plan.spans[i][j].count; c++) {
                int64_t token = w->plan.spans[i][j].first + c;
                if (token >= law->start || (token - p->keep) % p->recall_span) continue;
                mine[(token - p->keep) / p->recall_span] = true;
                found++;
            }
        assert_int_equal(found, p->recall_max);
        for (int64_t a = 0; a < n; a++)
            for (int64_t b = 0; b < n; b++)
                if (mine[a] && !mine[b] && !(score[a] >= score[b] - 1e-5 * (1 + fabs(score[b]))))
                    fail_msg("n %d: block %d (%g) before block %d (%g)", (int)w->n, (int)a, score[a], (int)b, score[b]);
        checked++;
        free(score);
        free(mine);
    }
    return checked;
}

static void blocks_are_chosen_by_the_rule(void **unused)
{
    (void)unused;
    test_rng rng = {test_seed() + 4};
    int checked = 0;
    for (int round = 0; round < 30; round++) {
        world w;
        world_open(&w, "infllm", 4, 2, 16, 400);
        set_small(&w, test_int(&rng, 0, 9), test_int(&rng, 16, 40), test_int(&rng, 2, 12), test_int(&rng, 1, 6), 16);
        w.params.recall_k = test_int(&rng, 1, 5);
        w.params.recall_per_head = round % 2;
        world_start(&w);
        law law = {.mass = calloc((size_t)(4 * 400), sizeof(double)),
                   .reps = calloc((size_t)(400 * 4 * 16), sizeof(double))};
        while (w.n < 320) {
            int64_t T = w.n < 200 ? 16 : test_int(&rng, 1, 16);
            world_read(&w, &rng, T, T == 1);
            checked += law_check(&w, &law, T);
            law_attended(&w, &law, T);
        }
        free(law.mass);
        free(law.reps);
        world_close(&w);
    }
    assert_true(checked > 300);
}

/* Back at a chunk boundary that is remembered, and on with the same text: the same bits. One that is not: plans are
 * sane. */
static void going_back(void **unused)
{
    (void)unused;
    test_rng rng = {test_seed() + 5};
    world w;
    world_open(&w, "infllm", 4, 2, 8, 400);
    set_small(&w, 5, 20, 6, 3, 16);
    world_start(&w);
    while (w.n < 160) world_read(&w, &rng, 16, false);
    float *out = test_floats(16 * 4 * 8), *one = test_floats(4 * 8);
    memcpy(out, w.out, 16 * 4 * 8 * sizeof *out);
    for (int i = 0; i < 9; i++) world_read(&w, &rng, 1, true);
    memcpy(one, w.out, 4 * 8 * sizeof *one);
    assert_int_equal(w.policy->anchor(w.state, 1000), 160);
    assert_int_equal(w.policy->anchor(w.state, 159), 144);
    assert_int_equal(w.policy->anchor(w.state, 143), 0);
    world_rewind(&w, 144);
    assert_int_equal(w.policy->anchor(w.state, 1000), 144);
    world_read(&w, NULL, 16, false);
    assert_memory_equal(w.out, out, 16 * 4 * 8 * sizeof *out);
    for (int i = 0; i < 9; i++) world_read(&w, NULL, 1, true);
    assert_memory_equal(w.out, one, 4 * 8 * sizeof *one);
    free(out);
    free(one);
    static const int64_t to[] = {165, 100, 37, 3, 0};
    w.params.recall_max = 100;
    for (int i = 0; i < 5; i++) {
        world_rewind(&w, to[i]);
        for (int j = 0; j < 4; j++) {
            int64_t T = test_int(&rng, 1, 16);
            world_read(&w, &rng, T, false);
            check_all_once(&w, T);
        }
    }
    world_close(&w);
}

/* A chunk through the first n_layer layers. */
static void read_layers(world *w, test_rng *rng, int n_layer)
{
    for (w->at = 0; w->at < n_layer; w->at++) {
        if (w->at > 0) w->n -= w->params.chunk;
        world_read(w, w->at ? NULL : rng, w->params.chunk, false);
    }
}

/* A step that fails after the first layer has cost that layer a state: the session cannot go back to that. */
static void half_a_step(void **unused)
{
    (void)unused;
    test_rng rng = {test_seed() + 6};
    reattn_error err = {0};
    world w;
    world_open(&w, "infllm", 4, 2, 8, 400);
    set_small(&w, 5, 20, 6, 3, 16);
    world_start(&w);
    const reattn__layer two[] = {w.layer, w.layer};
    reattn__store_free(w.store);
    w.policy->destroy(w.state);
    assert_int_equal(reattn__store_create(two, 2, REATTN_F32, REATTN_F32, 0, &w.store, &err), 0);
    assert_int_equal(w.policy->create(&w.params, two, 2, &w.state, &err), 0);
    while (w.n < 160) read_layers(&w, &rng, 2);
    assert_int_equal(w.policy->anchor(w.state, 1000), 160);
    assert_int_equal(w.policy->anchor(w.state, 159), 144);
    read_layers(&w, &rng, 1);
    world_rewind(&w, 160);
    assert_int_equal(w.policy->anchor(w.state, 1000), 160);
    assert_int_equal(w.policy->anchor(w.state, 159), 0);
    world_close(&w);
}

/* Its own defaults, scaled to the trained length; what is given counts. */
static void defaults(void **unused)
{
    (void)unused;
    reattn_error err = {0};
    reattn_session_params p = reattn_session_params_default();
    snprintf(p.policy, sizeof p.policy, "infllm");
    assert_int_equal(reattn__params_resolve(&p, 8192, &err), 0);
    assert_int_equal(p.keep, 128);
    assert_int_equal(p.local, 4096);
    assert_int_equal(p.recall_span, 128);
    assert_int_equal(p.recall_max, 16);
    assert_int_equal(p.recall_k, 4);
    p = reattn_session_params_default();
    snprintf(p.policy, sizeof p.policy, "infllm");
    assert_int_equal(reattn__params_resolve(&p, 2048, &err), 0);
    assert_int_equal(p.local, 1024);
    assert_int_equal(p.recall_max, 7); /* 128 + 7 * 128 + 1024 = 2048 */
    p = reattn_session_params_default();
    snprintf(p.policy, sizeof p.policy, "infllm");
    assert_int_equal(reattn_option_set(&p, "keep", "32", &err), 0);
    assert_int_equal(reattn_option_set(&p, "recall-span", "32", &err), 0);
    assert_int_equal(reattn__params_resolve(&p, 8192, &err), 0);
    assert_int_equal(p.keep, 32);
    assert_int_equal(p.recall_span, 32);
    p = reattn_session_params_default();
    assert_int_equal(reattn__params_resolve(&p, 8192, &err), 0);
    assert_int_equal(p.keep, 32);
    assert_int_equal(p.recall_span, 32);
    assert_int_equal(p.recall_max, 127);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_example),
        cmocka_unit_test(all_blocks_are_met_once),
        cmocka_unit_test(short_texts_are_full_attention),
        cmocka_unit_test(far_scores),
        cmocka_unit_test(blocks_are_chosen_by_the_rule),
        cmocka_unit_test(going_back),
        cmocka_unit_test(half_a_step),
        cmocka_unit_test(defaults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
