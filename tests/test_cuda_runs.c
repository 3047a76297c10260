/* Attention over any plan's runs on a CUDA device against the scalar law: at most twice as far from it as a plain
 * version in 16 bits. Plans are those of the methods that plan from lengths, and random ones with everything that a run
 * can say. Skipped (77) without a CUDA build or without a device. REATTN_TEST_CASES sets how many plans. */
#include "test_util.h"

#ifndef REATTN_HAVE_CUDA
int main(void)
{
    puts("skipped: built without CUDA");
    return 77;
}
#else

#include "cpu/ref.h"
#include "cuda/runs.h"
#include "cuda/turns.h"
#include "policy/policy.h"
#include "session/params.h"
#include "test_cuda.h"
#include "test_runs.h"

enum { N_CASE = 120, CHECKED = 4 /* queries that are compared with the law */, RUNS = 12, HEADS_MOST = 4 };

/* One layer, a text, a plan. */
typedef struct world {
    reattn__layer layer;
    reattn_session_params params;
    int type;
    int64_t T, n;
    float factors[128], *q, *k, *v; /* [T][H][D], [n][Hk][D]: what the device holds, as f32 */
    const reattn__policy *policy;   /* NULL: the plan is random */
    void *state;
    reattn__plan plan; /* of the policy, or */
    reattn_run runs[HEADS_MOST][RUNS];
    reattn__rope_table ropes[HEADS_MOST];
    reattn__run_list lists[HEADS_MOST];
    float *q_scale;
    reattn__cuda_given given;
} world;

static const char *const names[] = {"lm-infinite", "selfextend",  "dca",  "string", "mesa",
                                    "ntk",         "dynamic-ntk", "yarn", "full",   "streaming"};
enum { N_NAME = sizeof names / sizeof *names };

static void random_plan(world *w, test_rng *rng)
{
    const bool own = test_one_in(rng, 2);
    w->given = (reattn__cuda_given){w->lists, test_one_in(rng, 3) ? w->layer.Hk : 1, NULL};
    for (int i = 0; i < w->given.n_list; i++) {
        const int64_t n_run = test_one_in(rng, 10) ? 0 : test_int(rng, 1, test_one_in(rng, 3) ? RUNS : 3);
        for (int64_t r = 0; r < n_run; r++)
            w->runs[i][r] = test_run(rng, w->T, w->n, false);
        w->lists[i] = (reattn__run_list){w->runs[i], n_run, own && !test_one_in(rng, 4) ? &w->ropes[i] : NULL};
        w->ropes[i].rope = w->layer.rope;
        w->ropes[i].rope.freq_base *= (float)test_int(rng, 1, 5);
    }
    if (!test_one_in(rng, 3))
        return;
    w->q_scale = test_floats(w->T);
    for (int64_t t = 0; t < w->T; t++)
        w->q_scale[t] = (float)(test_unit(rng) * 3 - 1); /* negative ones as well */
    w->given.q_scale = w->q_scale;
}

/* The plan that a method makes for the last T of n tokens. */
static void method_plan(world *w, test_rng *rng, const char *name)
{
    reattn_session_params *p = &w->params;
    reattn_error err = {0, ""};
    *p = reattn_session_params_default();
    snprintf(p->policy, sizeof p->policy, "%s", name);
    p->keep = test_int(rng, 0, 9);
    p->local = test_int(rng, 20, 60);
    p->chunk = 20;
    p->tail = 8;
    p->group = test_int(rng, 2, 6);
    p->shift = test_int(rng, p->local, 90);
    p->scale = test_one_in(rng, 2) ? 0 : test_int(rng, 2, 6);
    if (strcmp(name, "dca") == 0)
        p->local = test_int(rng, 1, 30);
    if (strcmp(name, "streaming") == 0)
        p->local = REATTN__MAX(p->local, w->T), p->chunk = p->local;
    const int64_t N = test_int(rng, 80, 300) + (strcmp(name, "streaming") == 0 ? w->T + 100 : 0);
    if (strcmp(name, "yarn") == 0)
        w->layer.rope.ext_factor = 0, w->layer.rope.freq_scale = 1;
    w->layer.rope.n_rot = REATTN__MAX(w->layer.rope.n_rot, 4);
    if (reattn__params_resolve(p, N, &err))
        fail_msg("%s: %s", name, err.msg);
    w->policy = reattn__policy_find(name);
    if (w->policy->create && w->policy->create(p, &w->layer, 1, &w->state, &err))
        fail_msg("%s: %s", name, err.msg);
    const reattn__step step = {.params = p,
                               .shape = &w->layer,
                               .decode = w->T == 1,
                               .last = w->T > 1 && test_one_in(rng, 2),
                               .T = w->T,
                               .n = w->n};
    assert_int_equal(w->policy->plan(w->state, &step, &w->plan, &err), 0);
    w->given = (reattn__cuda_given){w->plan.lists, w->plan.n_list, w->plan.q_scale};
}

static void world_open(world *w, test_rng *rng, int number)
{
    static const int dims[] = {64, 96, 128, 256}, groups[] = {1, 2, 3, 4, 5, 8};
    *w = (world){.type = (int)test_int(rng, 0, 1)};
    const int D = dims[test_int(rng, 0, 3)], Hk = (int)test_int(rng, 1, HEADS_MOST),
              H = Hk * groups[test_int(rng, 0, 5)];
    w->layer = (reattn__layer){H, Hk, D, D, 1 / sqrtf((float)D), {REATTN_ROPE_NEOX, D, 0, 10000, 1, 0, 1, 32, 1, NULL}};
    reattn_rope *rope = &w->layer.rope;
    if (test_one_in(rng, 2))
        rope->kind = REATTN_ROPE_NORMAL;
    if (test_one_in(rng, 3))
        rope->n_rot = 2 * (int)test_int(rng, 0, D / 2);
    if (test_one_in(rng, 4))
        rope->freq_scale = 0.25f;
    if (test_one_in(rng, 4)) {
        rope->ext_factor = 1;
        rope->n_ctx_orig = 256;
        rope->attn_factor = 1.1f;
    }
    if (test_one_in(rng, 4)) {
        for (int i = 0; i < 128; i++)
            w->factors[i] = 1 + (float)(i % 5);
        rope->freq_factors = w->factors;
    }
    w->T = test_one_in(rng, 3) ? 1 : test_int(rng, 2, test_one_in(rng, 3) ? 300 : 40);
    w->n = w->T + test_int(rng, 0, test_one_in(rng, 3) ? 1200 : 400);
    if (number % 3)
        random_plan(w, rng);
    else
        method_plan(w, rng, names[number / 3 % N_NAME]);
    const float size = test_one_in(rng, 5) ? 30.0f : 1.0f;
    w->q = test_floats(w->T * H * D), w->k = test_floats(w->n * Hk * D), w->v = test_floats(w->n * Hk * D);
    test_fill_normal(rng, w->q, w->T * H * D, size);
    for (int64_t i = 0; i < w->n * Hk * D; i++)
        w->k[i] = rounded((double)test_normal(rng), w->type), w->v[i] = rounded((double)test_normal(rng), w->type);
}

static void world_close(world *w)
{
    if (w->policy && w->policy->destroy)
        w->policy->destroy(w->state);
    reattn__plan_free(&w->plan);
    free(w->q), free(w->k), free(w->v), free(w->q_scale);
}

static const reattn_rope *rope_of(const world *w, int64_t head)
{
    const reattn__run_list *list = &w->given.lists[w->given.n_list > 1 ? head : 0];
    return list->rope ? &list->rope->rope : &w->layer.rope;
}

/* The device's tables of rotations, each reaching as far as the plan. */
static void turn_tables(const world *w, const reattn__cuda_runs *runs, reattn__cuda_turns *tables, const float **cs)
{
    reattn_error err = {0, ""};
    for (int i = 0; i < w->given.n_list; i++) {
        int code = reattn__cuda_turns_use(&tables[i], rope_of(w, i), w->layer.D, &err);
        if (code == REATTN_OK)
            code = reattn__cuda_turns_need(&tables[i], reattn__cuda_runs_positions(runs, i), NULL, &err);
        if (code)
            fail_msg("%s", err.msg);
        cs[i] = tables[i].cs;
    }
}

/* ------------------------------------------------------------------------------------------------- the law ------ */

/* What a task compares: some queries of one KV head. */
typedef struct law_ctx {
    const world *w;
    const float *out, *lse;                                        /* [T][H][D], [T][H] */
    int64_t t[CHECKED];                                            /* queries */
    double error[HEADS_MOST], naive[HEADS_MOST], size[HEADS_MOST]; /* sums of squares */
    double lse_error[HEADS_MOST], lse_naive[HEADS_MOST];
    int64_t seen[HEADS_MOST]; /* by the last of the queries */
} law_ctx;

/* A row's result in 16 bits: rotated queries and keys, and weights, are rounded. o [D]; returns its lse. */
static double naive_row(const world *w, const reattn_rope *rope, const float *q, const float *k, const float *v,
                        int64_t at, const reattn_run *runs, int64_t n_run, double *p, double *o)
{
    const int D = w->layer.D;
    double top = -INFINITY, sum = 0, qr[256], kr[256];
    int64_t key = 0;
    for (int64_t r = 0; r < n_run; r++) {
        reattn__ref_rope(rope, q, D, reattn__run_q_pos(&runs[r], 0), qr);
        for (int64_t c = 0; c < runs[r].count; c++, key++) {
            const int64_t distance = at - (runs[r].first + c);
            p[key] = -INFINITY;
            if (distance < runs[r].dist_min || distance > runs[r].dist_max)
                continue;
            reattn__ref_rope(rope, k + (runs[r].first + c) * D, D, reattn__run_k_pos(&runs[r], c), kr);
            p[key] = 0;
            for (int d = 0; d < D; d++)
                p[key] += (double)rounded(qr[d], w->type) * (double)rounded(kr[d], w->type);
            p[key] *= (double)w->layer.kq_scale;
            top = fmax(top, p[key]);
        }
    }
    memset(o, 0, sizeof *o * (size_t)D);
    key = 0;
    for (int64_t r = 0; r < n_run; r++)
        for (int64_t c = 0; c < runs[r].count; c++, key++) {
            if (p[key] == -INFINITY)
                continue;
            const double weight = (double)rounded(exp(p[key] - top), w->type);
            sum += weight;
            for (int d = 0; d < D; d++)
                o[d] += weight * (double)v[(runs[r].first + c) * D + d];
        }
    for (int d = 0; d < D && sum > 0; d++)
        o[d] /= sum;
    return sum > 0 ? top + log(sum) : -INFINITY;
}

static int law_task(void *ctx, int64_t head, int worker)
{
    (void)worker;
    law_ctx *c = ctx;
    const world *w = c->w;
    const int D = w->layer.D, H = w->layer.H, Hk = w->layer.Hk, g = H / Hk;
    const reattn__run_list *list = &w->given.lists[w->given.n_list > 1 ? head : 0];
    const reattn_rope *rope = rope_of(w, head);
    float *q = test_floats(g * D), *k = test_floats(w->n * D), *v = test_floats(w->n * D);
    reattn_run *runs = malloc(sizeof *runs * (size_t)(list->n + 1));
    int64_t keys = 1;
    for (int64_t r = 0; r < list->n; r++)
        keys += list->runs[r].count;
    double *p = malloc(sizeof *p * (size_t)keys), *law = malloc(sizeof *law * (size_t)(g * D)), lse[8], o[256];
    if (!runs || !p || !law)
        return REATTN_E_NOMEM;
    for (int64_t j = 0; j < w->n; j++) {
        memcpy(k + j * D, w->k + (j * Hk + head) * D, sizeof *k * (size_t)D);
        memcpy(v + j * D, w->v + (j * Hk + head) * D, sizeof *v * (size_t)D);
    }
    for (int i = 0; i < CHECKED; i++) {
        const int64_t t = c->t[i], at = w->n - w->T + t;
        int64_t n_run = 0;
        for (int64_t r = 0; r < list->n; r++) { /* of this query alone */
            if (t < list->runs[r].t_min || t >= reattn__run_end(&list->runs[r], w->T))
                continue;
            runs[n_run] = list->runs[r];
            runs[n_run].q_pos += t * runs[n_run].q_step;
            runs[n_run].t_min = runs[n_run].t_end = 0;
            n_run++;
        }
        for (int j = 0; j < g * D; j++)
            q[j] = w->q[(t * H + head * g) * D + j] * (w->given.q_scale ? w->given.q_scale[t] : 1);
        if (reattn__ref_attend(q, k, v, 1, at, w->n, g, 1, D, D, w->layer.kq_scale, rope, runs, n_run, law, lse))
            return REATTN_E_NOMEM;
        for (int h = 0; h < g; h++) {
            const float *got = c->out + (t * H + head * g + h) * D, got_lse = c->lse[t * H + head * g + h];
            const double plain = naive_row(w, rope, q + h * D, k, v, at, runs, n_run, p, o);
            if (lse[h] == -INFINITY) {
                c->lse_error[head] += got_lse == -INFINITY ? 0 : INFINITY;
            } else {
                c->lse_error[head] += ((double)got_lse - lse[h]) * ((double)got_lse - lse[h]);
                c->lse_naive[head] += (plain - lse[h]) * (plain - lse[h]) + 1e-10 * (1 + lse[h] * lse[h]);
            }
            for (int d = 0; d < D; d++) {
                const double want = law[h * D + d], miss = (double)got[d] - want;
                c->error[head] += miss * miss; /* a NaN stays one */
                c->naive[head] += (o[d] - want) * (o[d] - want);
                c->size[head] += want * want;
            }
        }
        c->seen[head] = 0;
        for (int64_t r = 0; r < n_run; r++)
            for (int64_t j = 0; j < runs[r].count; j++)
                c->seen[head] +=
                    at - runs[r].first - j >= runs[r].dist_min && at - runs[r].first - j <= runs[r].dist_max;
    }
    free(q), free(k), free(v), free(runs), free(p), free(law);
    return 0;
}

/* Returns how much of the error that is allowed there is. */
static double compare(const world *w, test_rng *rng, int number, const float *out, const float *lse, int64_t seen)
{
    law_ctx c = {.w = w, .out = out, .lse = lse};
    for (int i = 0; i < CHECKED; i++)
        c.t[i] = i == CHECKED - 1 ? w->T - 1 : test_int(rng, 0, w->T - 1);
    assert_int_equal(reattn__parallel(reattn__cores(), w->layer.Hk, law_task, &c), 0);
    double error = 0, naive = 0, size = 0, lse_error = 0, lse_naive = 0;
    int64_t want_seen = 0;
    for (int h = 0; h < w->layer.Hk; h++) {
        error += c.error[h], naive += c.naive[h], size += c.size[h];
        lse_error += c.lse_error[h], lse_naive += c.lse_naive[h];
        want_seen = REATTN__MAX(want_seen, c.seen[h]);
    }
    const double limit = 2 * sqrt(naive) + 1e-5 * sqrt(size); /* where weights are 0 and 1 the plain version is exact */
    if (!(sqrt(error) <= limit) || !(sqrt(lse_error) <= 2 * sqrt(lse_naive)) || seen != want_seen)
        fail_msg("case %d, %s: T %" PRId64 " n %" PRId64
                 " H %d Hk %d D %d type %d lists %d n_rot %d kind %d scales %d: "
                 "attention is off by %g, a plain 16-bit version by %g; lse by %g, %g; %" PRId64 " keys, not %" PRId64,
                 number, w->policy ? w->policy->info.name : "random", w->T, w->n, w->layer.H, w->layer.Hk, w->layer.D,
                 w->type, w->given.n_list, w->layer.rope.n_rot, (int)w->layer.rope.kind, w->given.q_scale != NULL,
                 sqrt(error / size), sqrt(naive / size), sqrt(lse_error), sqrt(lse_naive), seen, want_seen);
    return limit > 0 ? sqrt(error) / limit : 0;
}

/* -------------------------------------------------------------------------------------------------- cases ------- */

static void *narrowed(const float *x, int64_t n, int type)
{
    uint16_t *bits = malloc(sizeof *bits * (size_t)n);
    assert_non_null(bits);
    for (int64_t i = 0; i < n; i++)
        bits[i] = to_type(x[i], type);
    void *there = on_device(bits, sizeof *bits * (size_t)n);
    free(bits);
    return there;
}

/* The plan on the device; out [T][H][D] and lse [T][H] on the host. */
static void attend(const world *w, test_rng *rng, reattn__cuda_runs *runs, reattn__cuda_turns *tables, float *out,
                   float *lse)
{
    const int H = w->layer.H, Hk = w->layer.Hk, D = w->layer.D;
    const float *cs[HEADS_MOST];
    reattn_error err = {0, ""};
    void *k = narrowed(w->k, w->n * Hk * D, w->type), *v = narrowed(w->v, w->n * Hk * D, w->type);
    float *q = on_device(w->q, sizeof(float) * (size_t)(w->T * H * D));
    reattn__cuda_runs_args args = {.runs = runs, .q = q, .k = k, .v = v, .type = w->type, .scale = w->layer.kq_scale};
    args.neox = w->layer.rope.kind == REATTN_ROPE_NEOX, args.n_rot = w->layer.rope.n_rot, args.cs = cs;
    args.out_stride_head = D + test_int(rng, 0, 3);
    args.out_stride_token = args.out_stride_head * H + test_int(rng, 0, 3);
    const size_t bytes = sizeof(float) * (size_t)(args.out_stride_token * w->T), rows = (size_t)(w->T * H);
    args.out = on_device(NULL, bytes);
    args.lse = on_device(NULL, sizeof(float) * rows);
    if (reattn__cuda_runs_set(runs, &w->given, w->T, w->n, H, Hk, D, NULL, &err))
        fail_msg("%s", err.msg);
    turn_tables(w, runs, tables, cs);
    args.work_bytes = reattn__cuda_runs_scratch(&args);
    args.work = on_device(NULL, args.work_bytes);
    float *raw = malloc(bytes), *again = malloc(bytes);
    for (int i = 0; i < 2; i++) {
        if (reattn__cuda_runs_attend(&args, NULL, &err))
            fail_msg("%s", err.msg);
        assert_int_equal(cudaMemcpy(i ? again : raw, args.out, bytes, cudaMemcpyDeviceToHost), cudaSuccess);
    }
    assert_memory_equal(raw, again, bytes); /* gaps are NaN in both */
    assert_int_equal(cudaMemcpy(lse, args.lse, sizeof(float) * rows, cudaMemcpyDeviceToHost), cudaSuccess);
    for (int64_t i = 0; i < (int64_t)(bytes / sizeof(float)); i++) {
        const int64_t t = i / args.out_stride_token, h = i % args.out_stride_token / args.out_stride_head,
                      d = i % args.out_stride_token % args.out_stride_head;
        uint32_t word;
        memcpy(&word, raw + i, sizeof word);
        if (h < H && d < D)
            out[(t * H + h) * D + d] = raw[i];
        else
            assert_int_equal(word, UINT32_MAX); /* nothing is written between rows */
    }
    free(raw), free(again);
    cudaFree(k), cudaFree(v), cudaFree(q), cudaFree(args.out), cudaFree(args.lse), cudaFree(args.work);
}

static void test_plans(void **state)
{
    (void)state;
    test_rng rng = {test_seed()};
    const char *cases = getenv("REATTN_TEST_CASES");
    const int n = cases ? atoi(cases) : N_CASE;
    reattn__cuda_turns tables[HEADS_MOST] = {{.D = 0}};
    reattn__cuda_runs *runs;
    reattn_error err = {0, ""};
    int64_t rows = 0;
    double worst[2] = {0, 0};
    if (reattn__cuda_runs_create(&runs, &err))
        fail_msg("%s", err.msg);
    for (int i = 0; i < n; i++) {
        world w;
        world_open(&w, &rng, i);
        float *out = test_floats(w.T * w.layer.H * w.layer.D), *lse = test_floats(w.T * w.layer.H);
        attend(&w, &rng, runs, tables, out, lse);
        const double part = compare(&w, &rng, i, out, lse, reattn__cuda_runs_seen(runs));
        worst[w.T > 1] = fmax(worst[w.T > 1], part);
        rows += CHECKED * w.layer.H;
        free(out), free(lse);
        world_close(&w);
    }
    printf("%d plans: %" PRId64 " (query, head) rows, at worst %.2f (one query) and %.2f (more) of the error that is "
           "allowed\n",
           n, rows, worst[0], worst[1]);
    assert_true(reattn__cuda_runs_bytes(runs) > 0);
    for (int i = 0; i < HEADS_MOST; i++)
        reattn__cuda_turns_close(&tables[i]);
    reattn__cuda_runs_free(runs);
}

/* The device's rotations are the CPU's but for the last places of a cosine, however the table came about. */
static void test_rotations(void **state)
{
    (void)state;
    test_rng rng = {test_seed()};
    reattn__cuda_turns table = {.D = 0};
    for (int i = 0; i < 40; i++) {
        world w;
        world_open(&w, &rng, 1);
        const int D = w.layer.D, half = D / 2, pairs = w.layer.rope.n_rot / 2;
        reattn_error err = {0, ""};
        int64_t reach = 0;
        if (reattn__cuda_turns_use(&table, &w.layer.rope, D, &err))
            fail_msg("%s", err.msg);
        assert_true(reattn__cuda_turns_serve(&table, &w.layer.rope, D));
        for (int grow = 0; grow < 3; grow++) {
            reach = test_int(&rng, 1, grow == 2 ? 200000 : 5000);
            if (reattn__cuda_turns_need(&table, reach, NULL, &err))
                fail_msg("%s", err.msg);
            assert_true(table.n_pos >= reach && table.room >= table.n_pos);
        }
        for (int c = 0; c < 200; c++) {
            const int64_t pos = c ? test_int(&rng, 0, table.n_pos - 1) : table.n_pos - 1;
            float got[256], want[256];
            assert_int_equal(cudaMemcpy(got, table.cs + pos * D, sizeof(float) * (size_t)D, cudaMemcpyDeviceToHost), 0);
            reattn__rope_angles(&w.layer.rope, pos, want);
            for (int p = 0; p < half; p++) {
                const double cosine = p < pairs ? (double)want[p] : 1, sine = p < pairs ? (double)want[pairs + p] : 0;
                if (!(fabs((double)got[p] - cosine) <= 4e-7 && fabs((double)got[half + p] - sine) <= 4e-7))
                    fail_msg("position %" PRId64 ", pair %d: %.9g %.9g, not %.9g %.9g", pos, p, got[p], got[half + p],
                             cosine, sine);
            }
        }
        world_close(&w);
    }
    reattn__cuda_turns_close(&table);
}

static void test_errors(void **state)
{
    (void)state;
    reattn_error err = {0, ""};
    reattn__cuda_runs *runs;
    reattn_run run = {.count = 50, .k_step = 1, .q_pos = 40, .q_step = 1, .dist_max = INT64_MAX};
    const reattn__run_list list = {&run, 1, NULL};
    reattn__cuda_given plan = {&list, 1, NULL};
    assert_int_equal(reattn__cuda_runs_create(&runs, &err), REATTN_OK);
    reattn__cuda_runs_args args = {.runs = runs, .n_rot = 64};
    assert_int_equal(reattn__cuda_runs_attend(&args, NULL, &err), REATTN_E_ARG); /* not set */
    assert_int_equal(reattn__cuda_runs_scratch(&args), 0);
    assert_int_equal(reattn__cuda_runs_set(runs, &plan, 10, 50, 4, 2, 80, NULL, &err), REATTN_E_ARG);
    assert_int_equal(reattn__cuda_runs_set(runs, &plan, 10, 50, 5, 2, 64, NULL, &err), REATTN_E_ARG);
    assert_int_equal(reattn__cuda_runs_set(runs, &plan, 10, 49, 4, 2, 64, NULL, &err), REATTN_E_ARG);
    plan.n_list = 3;
    assert_int_equal(reattn__cuda_runs_set(runs, &plan, 10, 50, 4, 2, 64, NULL, &err), REATTN_E_ARG);
    plan.n_list = 1;
    assert_int_equal(reattn__cuda_runs_set(runs, &plan, 10, 50, 4, 2, 64, NULL, &err), REATTN_OK);
    assert_int_equal(reattn__cuda_runs_positions(runs, 0), 50);
    assert_int_equal(reattn__cuda_runs_seen(runs), 50);
    args.n_rot = 65;
    assert_int_equal(reattn__cuda_runs_attend(&args, NULL, &err), REATTN_E_ARG);
    args.n_rot = 64;
    assert_true(reattn__cuda_runs_scratch(&args) > 0);
    assert_int_equal(reattn__cuda_runs_attend(&args, NULL, &err), REATTN_E_ARG); /* no scratch */
    run.k_pos = -1;
    assert_int_equal(reattn__cuda_runs_set(runs, &plan, 10, 50, 4, 2, 64, NULL, &err), REATTN_E_ARG);
    assert_int_equal(reattn__cuda_runs_attend(&args, NULL, &err), REATTN_E_ARG);
    reattn__cuda_runs_free(runs);
}

int main(void)
{
    if (reattn__cuda_devices() == 0) {
        puts("skipped: no CUDA device");
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_errors), cmocka_unit_test(test_rotations),
                                       cmocka_unit_test(test_plans)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
