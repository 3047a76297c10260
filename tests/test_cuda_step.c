/* A layer's whole step on a CUDA device: plans equal those of the CPU's policies over the same stored values, exactly;
 * attention is near the scalar law, at most twice as far as a plain version in 16 bits; with keys and values on the
 * host the same bits come out. Skipped (77) without a CUDA build or without a device. REATTN_TEST_CASES sets how many
 * random sessions. */
#include "test_util.h"

#ifndef REATTN_HAVE_CUDA
int main(void)
{
    puts("skipped: built without CUDA");
    return 77;
}
#else

#include "cpu/ref.h"
#include "cuda/step.h"
#include "cuda/store.h"
#include "policy/policy.h"
#include "test_cuda.h"

enum { N_CASE = 100, CHECKED = 6 /* queries of a step that are compared with the law */ };

typedef enum flavour { RANDOM, COMMON_MEAN, SMALL_INTEGERS, EQUAL_KEYS, LARGE, N_FLAVOUR } flavour;

/* One layer, on the CPU and on the device. */
typedef struct world {
    reattn__layer layer;
    reattn_session_params params;
    int type, plane, policy_number;
    flavour flavour;
    const reattn__policy *policy;
    void *state;
    reattn__store *store;
    reattn__plan plan;
    reattn__cuda_context *cuda, *far; /* far: with keys and values on the host; NULL under full */
    float factors[128];
    float *q, *k, *v; /* [cap][H][D], [cap][Hk][D] of all tokens, as the stores hold them */
    int64_t n, cap, rows;
    double worst;
} world;

static const char *const names[] = {"reattention", "streaming", "full"};

static void world_open(world *w, test_rng *rng)
{
    static const int dims[] = {64, 96, 128, 256}, groups[] = {1, 2, 3, 4, 5, 8};
    reattn_error err = {0, ""};
    *w = (world){.type = (int)test_int(rng, 0, 1), .plane = (int)test_int(rng, 0, 1), .cap = 3000};
    w->flavour = test_one_in(rng, 2) ? RANDOM : (flavour)test_int(rng, 0, N_FLAVOUR - 1);
    w->policy_number = test_one_in(rng, 4) ? (int)test_int(rng, 1, 2) : 0;
    const int D = dims[test_int(rng, 0, 3)], Hk = (int)test_int(rng, 1, 4), H = Hk * groups[test_int(rng, 0, 5)];
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
    reattn_session_params *p = &w->params;
    *p = reattn_session_params_default();
    p->keep = test_int(rng, 0, 40);
    p->chunk = 300;
    p->local_per = test_one_in(rng, 3);
    p->local = test_one_in(rng, 4) ? test_int(rng, 512, 700) : test_int(rng, 1, 200);
    p->recall_from = test_one_in(rng, 3) ? test_int(rng, 0, 600) : 0;
    p->recall_k = test_one_in(rng, 3) ? test_int(rng, 1, 32) : 4;
    p->recall_span = test_one_in(rng, 3) ? test_int(rng, 1, 50) : 32;
    p->recall_max = test_one_in(rng, 10) ? 0 : test_int(rng, 1, 30);
    p->recall_window = test_one_in(rng, 3) ? test_int(rng, 1, 64) : 32;
    p->recall_per_head = test_one_in(rng, 3);
    p->recall_when = test_one_in(rng, 3) ? (int)test_int(rng, 0, 2) : REATTN_WHEN_ALWAYS;
    p->positions = test_one_in(rng, 4);
    p->recall_vote = w->flavour == RANDOM && test_one_in(rng, 4);
    p->n_threads = 1;
    snprintf(p->policy, sizeof p->policy, "%s", names[w->policy_number]);
    w->policy = reattn__policy_find(p->policy);
    assert_int_equal(reattn__store_create(&w->layer, 1, REATTN_F32, REATTN_F32, 0, &w->store, &err), 0);
    if (w->policy->create)
        assert_int_equal(w->policy->create(p, &w->layer, 1, &w->state, &err), 0);
    reattn__cuda_context_args args = {&w->layer, 1, p, w->policy_number, w->type, w->plane, w->cap, 0};
    if (reattn__cuda_context_create(&args, &w->cuda, &err))
        fail_msg("%s", err.msg);
    args.host = 1;
    if (w->policy_number != REATTN__CUDA_FULL && reattn__cuda_context_create(&args, &w->far, &err))
        fail_msg("%s", err.msg);
    w->q = test_floats(w->cap * H * D);
    w->k = test_floats(w->cap * Hk * D);
    w->v = test_floats(w->cap * Hk * D);
}

static void world_close(world *w)
{
    if (w->policy->destroy)
        w->policy->destroy(w->state);
    reattn__plan_free(&w->plan);
    reattn__store_free(w->store);
    reattn__cuda_context_free(w->cuda);
    reattn__cuda_context_free(w->far);
    free(w->q), free(w->k), free(w->v);
}

static void fill(const world *w, test_rng *rng, float *x, int64_t T, int heads, bool key)
{
    const int D = w->layer.D;
    const int64_t row = (int64_t)heads * D;
    for (int64_t i = 0; i < T * row; i++) {
        float y = test_normal(rng);
        if (w->flavour == SMALL_INTEGERS)
            y = (float)test_int(rng, -1, 1);
        if (w->flavour == COMMON_MEAN && key)
            y += 5 * sinf((float)(i % row));
        if (w->flavour == EQUAL_KEYS && key)
            y = cosf((float)(i % row));
        if (w->flavour == LARGE)
            y *= 30;
        x[i] = rounded(y, w->type);
    }
}

/* Rows of T x heads x D with gaps between them, in f32 or f16, on the device. */
static reattn__cuda_tensor tensor_of(const world *w, test_rng *rng, const float *x, int64_t T, int heads)
{
    const int D = w->layer.D;
    reattn__cuda_tensor t = {.half = w->type == REATTN__CUDA_F16 && test_one_in(rng, 3)};
    t.stride_head = D + test_int(rng, 0, 5);
    t.stride_token = heads * t.stride_head + test_int(rng, 0, 9);
    const size_t unit = t.half ? 2 : 4, bytes = (size_t)(T * t.stride_token) * unit;
    char *all = malloc(bytes + 1);
    assert_non_null(all);
    memset(all, 0xff, bytes);
    for (int64_t i = 0; i < T * heads * D; i++) {
        const int64_t at = i / D / heads * t.stride_token + i / D % heads * t.stride_head + i % D;
        const uint16_t half = reattn__float_to_half(x[i]);
        memcpy(all + (size_t)at * unit, t.half ? (const void *)&half : (const void *)(x + i), unit);
    }
    t.data = on_device(all, bytes);
    free(all);
    return t;
}

static void check_plan(const world *w, const reattn__cuda_context *context, bool decode)
{
    reattn_error err = {0, ""};
    reattn_span *got = malloc(sizeof *got * 5000);
    assert_non_null(got);
    for (int i = 0; i < w->plan.n_list; i++) {
        int64_t n_span, n_scope, want = 0;
        if (reattn__cuda_spans((reattn__cuda_context *)context, 0, i, got, 5000, &n_span, &n_scope, NULL, &err))
            fail_msg("%s", err.msg);
        for (int64_t r = 0; r < w->plan.lists[i].n; r++)
            want += w->plan.lists[i].runs[r].count;
        bool same = n_span == w->plan.n_spans[i] && n_scope == want;
        for (int64_t r = 0; same && r < n_span; r++)
            same = got[r].first == w->plan.spans[i][r].first && got[r].count == w->plan.spans[i][r].count;
        if (!same)
            fail_msg("list %d of %d, n %" PRId64 " G %" PRId64 " L %" PRId64 " k %" PRId64 " m %" PRId64 " R %" PRId64
                     " vote %d decode %d flavour %d far %d: %" PRId64 " spans, %" PRId64 " keys; the CPU has %" PRId64
                     ", %" PRId64,
                     i, w->plan.n_list, w->n, w->params.keep, w->params.local, w->params.recall_k, w->params.recall_max,
                     w->params.recall_window, w->params.recall_vote, decode, (int)w->flavour, context == w->far, n_span,
                     n_scope, w->plan.n_spans[i], want);
    }
    free(got);
}

/* What a task compares: the queries of one KV head. */
typedef struct attend_ctx {
    const world *w;
    int64_t T, t0, count;               /* of the step; compared */
    const float *out;                   /* [T][H][D] */
    double error[8], naive[8], size[8]; /* of each KV head: sums of squares */
} attend_ctx;

static int attend_task(void *ctx, int64_t head, int worker)
{
    (void)worker;
    attend_ctx *c = ctx;
    const world *w = c->w;
    const int D = w->layer.D, H = w->layer.H, Hk = w->layer.Hk, g = H / Hk;
    const reattn__run_list *list = &w->plan.lists[w->plan.n_list > 1 ? head : 0];
    const int64_t q_first = w->n - c->T + c->t0, rows = c->count * g;
    int64_t keys = 0;
    for (int64_t r = 0; r < list->n; r++)
        keys += list->runs[r].count;
    float *q = test_floats(rows * D), *k = test_floats(w->n * D), *v = test_floats(w->n * D);
    double *law = malloc(sizeof *law * (size_t)(rows * D)), *kr = malloc(sizeof *kr * (size_t)(keys * D));
    double *p = malloc(sizeof *p * (size_t)keys), qr[256], o[256];
    reattn_run *runs = malloc(sizeof *runs * (size_t)list->n);
    memcpy(runs, list->runs, sizeof *runs * (size_t)list->n);
    for (int64_t r = 0; r < list->n; r++)
        runs[r].q_pos += c->t0;
    for (int64_t i = 0; i < rows; i++)
        memcpy(q + i * D, w->q + ((q_first + i / g) * H + head * g + i % g) * D, sizeof *q * (size_t)D);
    for (int64_t j = 0; j < w->n; j++) {
        memcpy(k + j * D, w->k + (j * Hk + head) * D, sizeof *k * (size_t)D);
        memcpy(v + j * D, w->v + (j * Hk + head) * D, sizeof *v * (size_t)D);
    }
    reattn__ref_attend(q, k, v, c->count, q_first, w->n, g, 1, D, D, w->layer.kq_scale, &w->layer.rope, runs, list->n,
                       law, NULL);
    int64_t key = 0;
    for (int64_t r = 0; r < list->n; r++)
        for (int64_t j = 0; j < runs[r].count; j++, key++) {
            reattn__ref_rope(&w->layer.rope, k + (runs[r].first + j) * D, D, runs[r].k_pos + j, kr + key * D);
            for (int d = 0; d < D; d++)
                kr[key * D + d] = (double)rounded(kr[key * D + d], w->type);
        }
    c->error[head] = c->naive[head] = c->size[head] = 0;
    for (int64_t i = 0; i < rows; i++) {
        const int64_t t = i / g;
        double top = -INFINITY, sum = 0;
        reattn__ref_rope(&w->layer.rope, q + i * D, D, runs[0].q_pos + t, qr);
        for (int d = 0; d < D; d++)
            qr[d] = (double)rounded(qr[d], w->type), o[d] = 0;
        key = 0;
        for (int64_t r = 0; r < list->n; r++)
            for (int64_t j = 0; j < runs[r].count && runs[r].first + j <= q_first + t; j++, key++) {
                p[key] = 0;
                for (int d = 0; d < D; d++)
                    p[key] += qr[d] * kr[key * D + d];
                p[key] *= (double)w->layer.kq_scale;
                top = fmax(top, p[key]);
            }
        key = 0;
        for (int64_t r = 0; r < list->n; r++)
            for (int64_t j = 0; j < runs[r].count && runs[r].first + j <= q_first + t; j++, key++) {
                const double weight = (double)rounded(exp(p[key] - top), w->type);
                sum += weight;
                for (int d = 0; d < D; d++)
                    o[d] += weight * (double)v[(runs[r].first + j) * D + d];
            }
        const float *got = c->out + (((c->t0 + t) * H) + head * g + i % g) * D;
        for (int d = 0; d < D; d++) {
            const double want = law[i * D + d], miss = (double)got[d] - want;
            c->error[head] += miss * miss; /* a NaN stays one */
            c->naive[head] += (o[d] / sum - want) * (o[d] / sum - want);
            c->size[head] += want * want;
        }
    }
    free(q), free(k), free(v), free(law), free(kr), free(p), free(runs);
    return 0;
}

static void check_attention(world *w, test_rng *rng, int64_t T, const float *out)
{
    attend_ctx c = {.w = w, .T = T, .count = REATTN__MIN(T, CHECKED), .out = out};
    c.t0 = test_int(rng, 0, T - c.count);
    reattn__parallel(reattn__cores(), w->layer.Hk, attend_task, &c);
    double error = 0, naive = 0, size = 0;
    for (int h = 0; h < w->layer.Hk; h++)
        error += c.error[h], naive += c.naive[h], size += c.size[h];
    const double limit = 2 * sqrt(naive) + 1e-5 * sqrt(size); /* where weights are 0 and 1 the plain version is exact */
    if (!(sqrt(error) <= limit))
        fail_msg(
            "T %" PRId64 " n %" PRId64 " H %d Hk %d D %d type %d policy %d flavour %d n_rot %d kind %d positions %d: "
            "attention is off by %g, a plain 16-bit version by %g",
            T, w->n, w->layer.H, w->layer.Hk, w->layer.D, w->type, w->policy_number, (int)w->flavour,
            w->layer.rope.n_rot, (int)w->layer.rope.kind, w->params.positions, sqrt(error / size), sqrt(naive / size));
    w->worst = fmax(w->worst, sqrt(error) / limit);
    w->rows += c.count * w->layer.H;
}

/* The same step with keys and values on the host: the same plan and the same bits; raw [bytes] is what the other
 * gave. */
static void step_far(const world *w, const reattn__cuda_step_args *step, const float *raw, size_t bytes)
{
    reattn_error err = {0, ""};
    reattn__cuda_step_args args = *step;
    float *got = malloc(bytes);
    assert_non_null(got);
    args.out = on_device(NULL, bytes);
    if (reattn__cuda_step(w->far, &args, NULL, &err) || reattn__cuda_check(w->far, NULL, &err))
        fail_msg("%s", err.msg);
    check_plan(w, w->far, args.decode);
    assert_int_equal(cudaMemcpy(got, args.out, bytes, cudaMemcpyDeviceToHost), cudaSuccess);
    for (size_t i = 0; i < bytes / sizeof *raw; i++)
        if (memcmp(raw + i, got + i, sizeof *raw))
            fail_msg("T %" PRId64 " n %" PRId64
                     " H %d Hk %d D %d lists %d positions %d policy %d flavour %d: value %zu is %g "
                     "with keys and values on the host, %g with those on the device",
                     args.T, w->n, w->layer.H, w->layer.Hk, w->layer.D, w->plan.n_list, w->params.positions,
                     w->policy_number, (int)w->flavour, i, (double)got[i], (double)raw[i]);
    free(got);
    cudaFree(args.out);
}

/* Appends T random tokens here and there, plans, attends, compares. */
static void world_step(world *w, test_rng *rng, int64_t T, bool decode)
{
    const reattn__layer *l = &w->layer;
    const int H = l->H, Hk = l->Hk, D = l->D;
    reattn_error err = {0, ""};
    float *q = w->q + w->n * H * D, *k = w->k + w->n * Hk * D, *v = w->v + w->n * Hk * D;
    fill(w, rng, q, T, H, false);
    fill(w, rng, k, T, Hk, true);
    fill(w, rng, v, T, Hk, false);
    assert_int_equal(reattn__store_reserve(w->store, w->n + T, &err), 0);
    assert_int_equal(reattn__store_append(w->store, 0, T, k, v, &err), 0);
    w->n += T;
    int64_t scored = 0, rescored = 0;
    reattn__step step = {.params = &w->params,
                         .shape = l,
                         .store = w->store,
                         .decode = decode,
                         .T = T,
                         .n = w->n,
                         .q = q,
                         .k = k,
                         .v = v,
                         .scored = &scored,
                         .rescored = &rescored};
    assert_int_equal(w->policy->plan(w->state, &step, &w->plan, &err), 0);

    reattn__cuda_step_args args = {.T = T, .decode = decode};
    args.q = tensor_of(w, rng, q, T, H);
    args.k = tensor_of(w, rng, k, T, Hk);
    args.v = tensor_of(w, rng, v, T, Hk);
    args.out_stride_head = D + test_int(rng, 0, 3);
    args.out_stride_token = args.out_stride_head * H + test_int(rng, 0, 3);
    const size_t bytes = sizeof(float) * (size_t)(args.out_stride_token * T);
    args.out = on_device(NULL, bytes);
    if (reattn__cuda_step(w->cuda, &args, NULL, &err))
        fail_msg("%s", err.msg);
    if (reattn__cuda_check(w->cuda, NULL, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(reattn__cuda_length(w->cuda, 0), w->n);
    check_plan(w, w->cuda, decode);
    float *raw = malloc(bytes), *out = test_floats(T * H * D);
    assert_int_equal(cudaMemcpy(raw, args.out, bytes, cudaMemcpyDeviceToHost), cudaSuccess);
    if (w->far)
        step_far(w, &args, raw, bytes);
    for (int64_t i = 0; i < T * H * D; i++)
        out[i] = raw[i / D / H * args.out_stride_token + i / D % H * args.out_stride_head + i % D];
    check_attention(w, rng, T, out);
    free(raw), free(out);
    cudaFree((void *)args.q.data), cudaFree((void *)args.k.data), cudaFree((void *)args.v.data), cudaFree(args.out);
}

static void world_rewind(world *w, int64_t n)
{
    reattn_error err = {0, ""};
    reattn__store_truncate(w->store, n);
    if (w->policy->forget)
        w->policy->forget(w->state, n);
    assert_int_equal(reattn__cuda_rewind(w->cuda, n, &err), REATTN_OK);
    if (w->far)
        assert_int_equal(reattn__cuda_rewind(w->far, n, &err), REATTN_OK);
    w->n = n;
}

static void test_sessions(void **state)
{
    (void)state;
    test_rng rng = {test_seed()};
    const char *cases = getenv("REATTN_TEST_CASES");
    const int n = cases ? atoi(cases) : N_CASE;
    int64_t steps = 0, rows = 0;
    double worst = 0;
    for (int i = 0; i < n; i++) {
        world w;
        world_open(&w, &rng);
        const int64_t most = w.policy_number == REATTN__CUDA_FULL || !w.params.local_per ? 300 : w.params.local;
        for (int turn = 0; turn < 3; turn++) {
            for (int64_t c = test_int(&rng, 1, 5); c > 0 && w.n + most + 8 < w.cap; c--, steps++)
                world_step(&w, &rng, test_one_in(&rng, 3) ? most : test_int(&rng, 1, most), false);
            for (int64_t c = test_int(&rng, 0, 6); c > 0 && w.n < w.cap; c--, steps++)
                world_step(&w, &rng, 1, true);
            if (test_one_in(&rng, 3))
                world_rewind(&w, test_int(&rng, 0, w.n));
        }
        rows += w.rows;
        worst = fmax(worst, w.worst);
        world_close(&w);
    }
    printf("%d sessions, %" PRId64 " steps: plans equal the CPU's; %" PRId64
           " (query, head) rows, at worst %.2f of the error "
           "that is allowed\n",
           n, steps, rows, worst);
}

/* A window that fills up and goes round. */
static void test_long_decode(void **state)
{
    (void)state;
    test_rng rng = {test_seed()};
    for (int i = 0; i < 2; i++) {
        world w;
        do {
            world_open(&w, &rng);
            if (w.policy_number == 0 && w.params.recall_window <= 40 && w.params.recall_max > 0 && w.params.local < 200)
                break;
            world_close(&w);
        } while (true);
        world_step(&w, &rng, w.params.local, false);
        for (int64_t c = 0; c < 150; c++)
            world_step(&w, &rng, 1, true);
        world_close(&w);
    }
}

int main(void)
{
    if (reattn__cuda_devices() == 0) {
        puts("skipped: no CUDA device");
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sessions), cmocka_unit_test(test_long_decode)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
