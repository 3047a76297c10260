/* reattn_attend against the scalar law. Tolerance by rule: at most twice the error of a plain float32 version of the
 * same sums, plus what rounding the rotated queries, the scores and the weights to float32 alone can do. */
#include "test_util.h"

#include <float.h>

#include "cpu/ref.h"
#include "reattn/ops.h"

enum { N_CASE = 700, MAX_RUN = 10 };

typedef struct attend_case {
    int64_t T, n, q_first, n_run;
    int H, Hk, D, Dv;
    float scale;
    reattn_rope rope;
    float factors[128];
    reattn_run runs[MAX_RUN];
    float *q, *k, *v;
} attend_case;

/* --------------------------------------------------------------------------------------- plain float32 ------ */

static int64_t divided(int64_t pos, int64_t by)
{
    return by > 1 ? pos / by : pos;
}

static void rotate_f32(const reattn_rope *rope, const float *x, int D, int64_t pos, float *y)
{
    /* The law's cosines and sines, read off two unit vectors; the products in float32. */
    const int half = rope->n_rot / 2;
    float unit[256];
    double turned[256];
    memcpy(y, x, (size_t)D * sizeof *y);
    memset(unit, 0, sizeof unit);
    for (int i = 0; i < half; i++)
        unit[rope->kind == REATTN_ROPE_NEOX ? i : 2 * i] = 1.0f;
    reattn__ref_rope(rope, unit, D, pos, turned);
    for (int i = 0; i < half; i++) {
        const int a = rope->kind == REATTN_ROPE_NEOX ? i : 2 * i;
        const int b = rope->kind == REATTN_ROPE_NEOX ? i + half : 2 * i + 1;
        const float c = (float)turned[a], s = (float)turned[b];
        y[a] = x[a] * c - x[b] * s;
        y[b] = x[a] * s + x[b] * c;
    }
}

static void naive_f32(const attend_case *c, float *out, float *lse)
{
    int64_t keys = 0;
    for (int64_t r = 0; r < c->n_run; r++)
        keys += c->runs[r].count;
    float *score = test_floats(keys), *rot = test_floats(keys * c->Hk * c->D), *kr = rot, qr[256];
    for (int64_t r = 0; r < c->n_run; r++)
        for (int64_t j = 0; j < c->runs[r].count * c->Hk; j++, kr += c->D)
            rotate_f32(&c->rope, c->k + (c->runs[r].first * c->Hk + j) * c->D, c->D,
                       divided(c->runs[r].k_pos + j / c->Hk * c->runs[r].k_step, c->runs[r].k_div), kr);

    for (int64_t row = 0; row < c->T * c->H; row++) {
        const int64_t t = row / c->H;
        const int hk = (int)(row % c->H) / (c->H / c->Hk);
        float max = -INFINITY, sum = 0.0f, *o = out + row * c->Dv;
        int64_t i = 0;
        for (int64_t r = 0; r < c->n_run; r++) {
            const reattn_run *run = &c->runs[r];
            const bool here = t >= run->t_min && (run->t_end == 0 || t < run->t_end);
            if (here)
                rotate_f32(&c->rope, c->q + row * c->D, c->D, divided(run->q_pos + t * run->q_step, run->q_div), qr);
            for (int64_t j = 0; j < run->count; j++, i++) {
                const int64_t dist = c->q_first + t - run->first - j;
                score[i] = -INFINITY;
                if (!here || dist < run->dist_min || dist > run->dist_max)
                    continue;
                float s = 0.0f;
                for (int d = 0; d < c->D; d++)
                    s += qr[d] * rot[(i * c->Hk + hk) * c->D + d];
                score[i] = s * c->scale;
                max = fmaxf(max, score[i]);
            }
        }
        memset(o, 0, (size_t)c->Dv * sizeof *o);
        i = 0;
        for (int64_t r = 0; r < c->n_run; r++)
            for (int64_t j = 0; j < c->runs[r].count; j++, i++) {
                const float w = max == -INFINITY ? 0.0f : expf(score[i] - max);
                const float *v = c->v + ((c->runs[r].first + j) * c->Hk + hk) * c->Dv;
                sum += w;
                for (int d = 0; d < c->Dv; d++)
                    o[d] += w * v[d];
            }
        for (int d = 0; d < c->Dv && sum > 0.0f; d++)
            o[d] /= sum;
        lse[row] = sum > 0.0f ? max + logf(sum) : -INFINITY;
    }
    free(score);
    free(rot);
}

/* ----------------------------------------------------------------------------------------------- cases ------ */

static void make_rope(test_rng *rng, attend_case *c)
{
    reattn_rope *r = &c->rope;
    *r = (reattn_rope){.kind = test_one_in(rng, 2) ? REATTN_ROPE_NEOX : REATTN_ROPE_NORMAL,
                       .n_rot = c->D & ~1,
                       .n_ctx_orig = 2048,
                       .freq_base = 10000.0f,
                       .freq_scale = 1.0f,
                       .attn_factor = 1.0f,
                       .beta_fast = 32.0f,
                       .beta_slow = 1.0f};
    if (test_one_in(rng, 3))
        r->n_rot = 2 * (int)test_int(rng, c->D > 1 ? 1 : 0, c->D / 2);
    if (test_one_in(rng, 4))
        r->freq_scale = 0.25f;
    if (test_one_in(rng, 4))
        r->ext_factor = 1.0f;
    if (test_one_in(rng, 4)) {
        for (int i = 0; i < r->n_rot / 2; i++)
            c->factors[i] = 1.0f + (float)(i % 8);
        r->freq_factors = c->factors;
    }
}

/* Cuts [0, n) at random into runs, skips some, and gives each its own positions and limits. */
static void make_runs(test_rng *rng, attend_case *c)
{
    int64_t first = 0, scope = 0;
    while (first < c->n && c->n_run < MAX_RUN - 1) {
        reattn_run run = {
            .first = first, .count = test_int(rng, 1, c->n - first), .k_step = 1, .q_step = 1, .dist_max = INT64_MAX};
        if (test_one_in(rng, 2) && c->n_run < MAX_RUN - 2)
            run.count = test_int(rng, 1, run.count);
        first += run.count;
        if (test_one_in(rng, 4)) /* a gap */
            continue;
        run.k_pos = scope;
        scope += run.count;
        run.q_pos = c->q_first;
        if (test_one_in(rng, 5)) { /* all keys at one position, as far blocks are */
            run.k_step = 0;
            run.q_step = 0;
            run.q_pos = test_int(rng, 0, 600);
        }
        if (test_one_in(rng, 6)) {
            run.k_step = test_int(rng, 2, 5);
            run.k_pos = test_int(rng, 0, 5000);
        }
        if (test_one_in(rng, 6)) { /* neighbours that share a position */
            run.k_div = test_int(rng, 0, 7);
            run.q_div = test_int(rng, 0, 7);
            run.k_pos += test_int(rng, 0, 7);
            run.q_pos += test_int(rng, 0, 7);
        }
        if (test_one_in(rng, 6)) { /* for some of the queries; positions of the others would be negative */
            run.t_min = test_int(rng, 0, c->T);
            run.t_end = test_int(rng, run.t_min, c->T + 2);
            run.q_step = test_int(rng, 1, 3);
            run.q_pos = test_int(rng, 0, 9) - run.t_min * run.q_step;
        }
        if (test_one_in(rng, 4)) {
            /* Near keys at their own distance, the far ones of the same tokens at a fixed one. */
            reattn_run far = run;
            run.dist_max = test_int(rng, 0, c->n);
            far.dist_min = run.dist_max + 1;
            far.k_step = far.q_step = 0;
            far.q_pos = test_int(rng, 0, 600);
            c->runs[c->n_run++] = far;
        } else if (test_one_in(rng, 8)) {
            run.dist_min = test_int(rng, -3, c->n);
            run.dist_max = run.dist_min + test_int(rng, -1, c->n);
        }
        c->runs[c->n_run++] = run;
    }
}

static attend_case *make_case(test_rng *rng, int i)
{
    const bool large = i % 20 == 0;
    attend_case *c = calloc(1, sizeof *c);
    assert_non_null(c);
    c->T = test_int(rng, 1, large ? 70 : test_one_in(rng, 3) ? 1 : 9);
    c->n = c->T + test_int(rng, 0, large ? 500 : 130);
    c->q_first = test_one_in(rng, 4) ? test_int(rng, 0, c->n - c->T) : c->n - c->T;
    c->Hk = (int)test_int(rng, 1, 3);
    c->H = c->Hk * (int)test_int(rng, 1, large ? 2 : 4);
    c->D = (int)(test_one_in(rng, 3) ? test_int(rng, 1, 128) : 16 * test_int(rng, 1, 4));
    c->Dv = test_one_in(rng, 3) ? (int)test_int(rng, 1, 128) : c->D;
    c->scale = (float)(test_one_in(rng, 4) ? 2.0 : 1.0) / sqrtf((float)c->D);
    c->q = test_floats(c->T * c->H * c->D);
    c->k = test_floats(c->n * c->Hk * c->D);
    c->v = test_floats(c->n * c->Hk * c->Dv);
    test_fill_normal(rng, c->q, c->T * c->H * c->D, test_one_in(rng, 5) ? 6.0f : 1.0f);
    test_fill_normal(rng, c->k, c->n * c->Hk * c->D, 1.0f);
    test_fill_normal(rng, c->v, c->n * c->Hk * c->Dv, test_one_in(rng, 5) ? 100.0f : 1.0f);
    make_rope(rng, c);
    make_runs(rng, c);
    return c;
}

static void free_case(attend_case *c)
{
    free(c->q);
    free(c->k);
    free(c->v);
    free(c);
}

/* --------------------------------------------------------------------------------------------- compare ------ */

static double largest_norm(const float *x, int64_t rows, int D)
{
    double best = 0.0;
    for (int64_t i = 0; i < rows; i++) {
        double sum = 0.0;
        for (int d = 0; d < D; d++)
            sum += (double)x[i * D + d] * x[i * D + d];
        best = fmax(best, sum);
    }
    return sqrt(best);
}

static double largest_error(const float *got, const double *want, int64_t n)
{
    double worst = 0.0;
    for (int64_t i = 0; i < n; i++)
        if (!isinf(want[i]))
            worst = fmax(worst, fabs((double)got[i] - want[i]));
    return worst;
}

typedef struct tolerance {
    double out, lse;
} tolerance;

static tolerance rule(const attend_case *c, const double *out, const double *lse)
{
    const int64_t rows = c->T * c->H, n_out = rows * c->Dv;
    float *o = test_floats(n_out), *l = test_floats(rows);
    naive_f32(c, o, l);
    /* Rounding q, k to float32 after rotation moves a score by eps |q| |k|, and so a weight by that share. */
    const double size = c->rope.ext_factor != 0.0f ? 1.0 + 0.1 * log(1.0 / c->rope.freq_scale) : 1.0;
    const double reach =
        size * size * c->scale * largest_norm(c->q, rows, c->D) * largest_norm(c->k, c->n * c->Hk, c->D);
    double v_max = 0.0;
    for (int64_t i = 0; i < c->n * c->Hk * c->Dv; i++)
        v_max = fmax(v_max, fabs(c->v[i]));
    const tolerance tol = {2.0 * largest_error(o, out, n_out) + FLT_EPSILON * (2.0 + reach) * v_max,
                           2.0 * largest_error(l, lse, rows) + FLT_EPSILON * (2.0 + reach)};
    free(o);
    free(l);
    return tol;
}

static void expect_close(const char *level, int i, const char *what, const float *got, const double *want, int64_t n,
                         double tol)
{
    for (int64_t j = 0; j < n; j++) {
        const bool same_inf = isinf(want[j]) && isinf(got[j]) && (want[j] < 0) == (got[j] < 0);
        const double diff = fabs((double)got[j] - want[j]);
        if (!same_inf && !(diff <= tol))
            fail_msg("%s: case %d: %s[%d] is %.9g, not %.9g (tolerance %.3g)", level, i, what, (int)j, got[j], want[j],
                     tol);
    }
}

static void run_case(const attend_case *c, int i, const double *out, const double *lse, tolerance tol)
{
    const int64_t rows = c->T * c->H;
    const size_t n_out = (size_t)(rows * c->Dv) * sizeof(float), n_lse = (size_t)rows * sizeof(float);
    for (int level = 0; level < TEST_N_LEVEL; level++) {
        if (!test_use_level(level))
            continue;
        float *first = NULL;
        for (int n_threads = 1; n_threads <= (i % 4 ? 1 : 3); n_threads++) {
            float *o = fenced_alloc(n_out), *l = fenced_alloc(n_lse);
            reattn_error err = {0};
            const int rc = reattn_attend(c->q, c->k, c->v, c->T, c->q_first, c->n, c->H, c->Hk, c->D, c->Dv, c->scale,
                                         &c->rope, c->runs, c->n_run, n_threads, o, n_threads == 2 ? NULL : l, &err);
            if (rc != REATTN_OK)
                fail_msg("%s: case %d: %s: %s", test_levels[level], i, reattn_error_name(rc), err.msg);
            if (n_threads != 2)
                expect_close(test_levels[level], i, "lse", l, lse, rows, tol.lse);
            fenced_free(l, n_lse);
            if (!first) {
                expect_close(test_levels[level], i, "out", o, out, rows * c->Dv, tol.out);
                first = o;
            } else {
                assert_memory_equal(o, first, n_out);
                fenced_free(o, n_out);
            }
        }
        fenced_free(first, n_out);
    }
    reattn__cpu_force_level(NULL);
}

static void test_close_to_law(void **state)
{
    (void)state;
    test_rng rng = {test_seed()};
    for (int i = 0; i < N_CASE; i++) {
        attend_case *c = make_case(&rng, i);
        const int64_t rows = c->T * c->H;
        double *out = malloc((size_t)(rows * (c->Dv + 1)) * sizeof *out), *lse = out + rows * c->Dv;
        assert_non_null(out);
        assert_int_equal(reattn__ref_attend(c->q, c->k, c->v, c->T, c->q_first, c->n, c->H, c->Hk, c->D, c->Dv,
                                            c->scale, &c->rope, c->runs, c->n_run, out, lse),
                         REATTN_OK);
        run_case(c, i, out, lse, rule(c, out, lse));
        free(out);
        free_case(c);
    }
}

/* A query that sees no key: zeros, and lse -inf, whatever the others see. */
static void test_sees_nothing(void **state)
{
    (void)state;
    test_rng rng = {test_seed()};
    enum { T = 3, N = 8, H = 2, D = 16 };
    float q[T * H * D], k[N * H * D], v[N * H * D], out[T * H * D], lse[T * H];
    test_fill_normal(&rng, q, T * H * D, 1.0f);
    test_fill_normal(&rng, k, N * H * D, 1.0f);
    test_fill_normal(&rng, v, N * H * D, 1.0f);
    const reattn_rope rope = {.kind = REATTN_ROPE_NEOX,
                              .n_rot = D,
                              .n_ctx_orig = 64,
                              .freq_base = 1e4f,
                              .freq_scale = 1.0f,
                              .attn_factor = 1.0f,
                              .beta_fast = 32.0f,
                              .beta_slow = 1.0f};
    /* Tokens 4, 5, 6 ask for keys 5 .. 7: the first sees none. */
    const reattn_run run = {.first = 5, .count = 3, .k_step = 1, .q_step = 1, .dist_max = INT64_MAX};
    for (int n_run = 0; n_run <= 1; n_run++)
        for (int level = 0; level < TEST_N_LEVEL; level++) {
            if (!test_use_level(level))
                continue;
            assert_int_equal(reattn_attend(q, k, v, T, 4, N, H, H, D, D, 0.25f, &rope, &run, n_run, 2, out, lse, NULL),
                             REATTN_OK);
            for (int row = 0; row < (n_run ? 1 : T) * H; row++) {
                assert_true(isinf(lse[row]) && lse[row] < 0);
                for (int d = 0; d < D; d++)
                    assert_true(out[row * D + d] == 0.0f);
            }
            for (int row = H; n_run && row < T * H; row++)
                assert_true(isfinite(lse[row]));
        }
    reattn__cpu_force_level(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_close_to_law),
        cmocka_unit_test(test_sees_nothing),
    };
    return cmocka_run_group_tests_name("attend", tests, NULL, NULL);
}
