/* test_held.c - how much of exact attention a scope holds: the law against golden values in float64, and the pass over
 * a store against the law. */
#include "test_util.h"

#include "attend/held.h"
#include "cpu/ref.h"
#include "kv/store.h"

static reattn_rope rope_of(reattn_rope_kind kind, int n_rot, float base)
{
    return (reattn_rope){.kind = kind, .n_rot = n_rot, .n_ctx_orig = 8192, .freq_base = base, .freq_scale = 1,
                         .attn_factor = 1, .beta_fast = 32, .beta_slow = 1};
}

static void expect_near(const double *got, const double *want, int64_t n, double tolerance)
{
    for (int64_t i = 0; i < n; i++)
        if (!(fabs(got[i] - want[i]) <= tolerance))
            fail_msg("head %d has a share of %.15g, not %.15g", (int)i, got[i], want[i]);
}

/* From dense arrays. */
static void pass(const float *q, const float *k, int64_t n, int H, int Hk, int D, float scale, const reattn_rope *rope,
                 const int *scope, double *share)
{
    reattn_error err = {0};
    const reattn__held_args args = {.q = q, .n = n, .H = H, .src = {.k = k, .v = k, .Hk = Hk, .D = D, .Dv = D},
                                    .scale = scale, .rope = rope, .scope = scope, .n_list = 1, .n_threads = 1,
                                    .share = share};
    assert_int_equal(reattn__held(&args, &err), 0);
}

static void golden(void **unused)
{
    (void)unused;
    FILE *f = golden_open("held", 1);
    char word[64];
    int cases = 0;
    while (golden_word(f, word)) {
        int64_t count, n_scope;
        assert_string_equal(word, "case");
        const int64_t n = golden_int(f);
        const int H = (int)golden_int(f), Hk = (int)golden_int(f), D = (int)golden_int(f), n_rot = (int)golden_int(f);
        assert_true(golden_word(f, word));
        const reattn_rope_kind kind = strcmp(word, "neox") ? REATTN_ROPE_NORMAL : REATTN_ROPE_NEOX;
        const reattn_rope rope = rope_of(kind, n_rot, (float)golden_num(f));
        const float scale = (float)golden_num(f);
        float *q = golden_floats(f, "q", &count), *k = golden_floats(f, "k", &count);
        int64_t *seen = golden_ints(f, "scope", &n_scope);
        int scope[64];
        assert_true(n_scope == n && n <= 64);
        for (int64_t i = 0; i < n; i++)
            scope[i] = (int)seen[i];
        double *want[2] = {golden_array(f, "free", &count)};
        want[1] = golden_array(f, "rotated", &count);
        assert_int_equal(count, H);
        for (int rotated = 0; rotated < 2; rotated++) {
            /* Both sides sum in float64; only the angles are float32's, at positions below 64. */
            const double tolerance = rotated ? 5e-5 : 1e-13;
            double got[16];
            const reattn_rope *how = rotated ? &rope : NULL;
            assert_int_equal(reattn__ref_held(q, k, n, H, Hk, D, scale, how, scope, got), 0);
            expect_near(got, want[rotated], H, tolerance);
            pass(q, k, n, H, Hk, D, scale, how, scope, got);
            expect_near(got, want[rotated], H, tolerance);
        }
        free(q);
        free(k);
        free(seen);
        free(want[0]);
        free(want[1]);
        cases++;
    }
    fclose(f);
    assert_int_equal(cases, 6);
}

/* Keys as a store of any type has them, scopes of each KV head's own, keys of several tasks, any number of threads. */
static void a_store_equals_the_law(void **unused)
{
    (void)unused;
    static const int types[] = {REATTN_F32, REATTN_F16, REATTN_Q8_0, REATTN_SPLIT};
    enum { H = 6, Hk = 3, D = 32 };
    test_rng rng = {test_seed()};
    for (int round = 0; round < 12; round++) {
        const int64_t n = round % 4 == 3 ? test_int(&rng, 9000, 10000) : test_int(&rng, 1, 700);
        const reattn_rope rope = rope_of(round & 1 ? REATTN_ROPE_NORMAL : REATTN_ROPE_NEOX, round % 3 ? D : 20, 1e4f);
        const reattn__layer layer = {H, Hk, D, D, 0.25f, rope};
        reattn__store *store;
        reattn_error err = {0};
        float *q = test_floats(H * D), *k = test_floats(n * Hk * D);
        test_fill_normal(&rng, q, H * D, 1.5f);
        test_fill_normal(&rng, k, n * Hk * D, 1);
        assert_int_equal(reattn__store_create(&layer, 1, types[round % 4], REATTN_F16, 0, &store, &err), 0);
        assert_int_equal(reattn__store_reserve(store, n, &err), 0);
        assert_int_equal(reattn__store_append(store, 0, n, k, k, &err), 0);
        for (int64_t i = 0; i < n * Hk; i++) /* what the law reads, bit for bit as the store keeps it */
            reattn__store_read_k(store, 0, (int)(i % Hk), i / Hk, 1, k + i * D, 1);
        int *scope = calloc((size_t)(Hk * n), sizeof *scope);
        for (int h = 0; h < Hk; h++) {
            const int64_t first = test_int(&rng, 0, n - 1), end = test_int(&rng, first, n);
            for (int64_t t = 0; t < n; t++)
                scope[h * n + t] = (t >= first && t < end) || test_one_in(&rng, 9) ? (int)test_int(&rng, 1, 2) : 0;
        }
        for (int i = 0; i < 8; i++) {
            double got[H], law[H];
            const bool per_head = i & 1;
            const reattn__held_args args = {.q = q, .n = n, .H = H, .src = {.store = store, .Hk = Hk, .D = D, .Dv = D},
                                            .scale = 0.25f, .rope = i & 2 ? &rope : NULL, .scope = scope,
                                            .n_list = per_head ? Hk : 1, .n_threads = i & 4 ? 3 : 1, .share = got};
            assert_int_equal(reattn__held(&args, &err), 0);
            for (int h = 0; h < Hk; h++) {
                const int *mine = scope + (per_head ? h * n : 0);
                assert_int_equal(reattn__ref_held(q, k, n, H, Hk, D, 0.25f, args.rope, mine, law), 0);
                expect_near(got + h * (H / Hk), law + h * (H / Hk), H / Hk, 1e-12);
            }
        }
        reattn__store_free(store);
        free(scope);
        free(q);
        free(k);
    }
}

/* However long the text, a scope of everything holds exactly all, and one of nothing nothing. */
static void all_and_nothing(void **unused)
{
    (void)unused;
    enum { N = 9001, D = 16 };
    test_rng rng = {test_seed() + 1};
    const reattn_rope rope = rope_of(REATTN_ROPE_NEOX, D, 1e4f);
    static int all[N], none[N];
    for (int i = 0; i < N; i++)
        all[i] = 1;
    float *q = test_floats(2 * D), *k = test_floats(N * D);
    test_fill_normal(&rng, q, 2 * D, 4);
    test_fill_normal(&rng, k, N * D, 4);
    for (int rotated = 0; rotated < 2; rotated++) {
        double share[2];
        pass(q, k, N, 2, 1, D, 0.25f, rotated ? &rope : NULL, all, share);
        assert_true(share[0] == 1 && share[1] == 1);
        pass(q, k, N, 2, 1, D, 0.25f, rotated ? &rope : NULL, none, share);
        assert_true(share[0] == 0 && share[1] == 0);
    }
    free(q);
    free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(golden), cmocka_unit_test(a_store_equals_the_law),
                                       cmocka_unit_test(all_and_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
