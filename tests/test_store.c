/* test_store.c - pages, types, limits. */
#include "test_util.h"

#include "cpu/half.h"
#include "kv/row.h"
#include "kv/store.h"

static const reattn__layer LAYERS[2] = {{4, 2, 64, 32, 1, {0}}, {4, 1, 32, 64, 1, {0}}};

static void fill(test_rng *rng, float *k, float *v, int64_t T, const reattn__layer *l)
{
    test_fill_normal(rng, k, T * l->Hk * l->D, 3);
    test_fill_normal(rng, v, T * l->Hk * l->Dv, 3);
}

/* What went in comes out, within the type's rounding, for any cut into appends and reads. */
static void rows_come_back(void **unused)
{
    (void)unused;
    test_rng rng = {test_seed()};
    static const int types[] = {REATTN_F32, REATTN_F16, REATTN_Q8_0, REATTN_SPLIT};
    /* Relative to the largest value of a block: exact, half an ulp of 11 bits, half a step of 1/127 plus the scale's,
     * half a step of 1/16255 of what is left after the mean is subtracted (small here), with a scale up to 1/128 too
     * large. */
    static const double tolerance[] = {0, 0x1p-11, 0.5 / 127 + 0x1p-11, 0.6 / 16255 * 1.5};
    for (int ty = 0; ty < 4; ty++) {
        reattn_error err = {0};
        reattn__store *s;
        enum { N = 700 };
        assert_int_equal(
            reattn__store_create(LAYERS, 2, types[ty], types[ty] == REATTN_SPLIT ? REATTN_F16 : types[ty], 0, &s, &err),
            0);
        float *k = calloc((size_t)N * 2 * 64, 4), *v = calloc((size_t)N * 2 * 64, 4), row[64];
        for (int l = 0; l < 2; l++) {
            const reattn__layer *L = &LAYERS[l];
            fill(&rng, k, v, N, L);
            for (int64_t at = 0; at < N;) {
                int64_t some = test_int(&rng, 1, 300), T = REATTN__MIN(N - at, some);
                assert_int_equal(reattn__store_reserve(s, at + T, &err), 0);
                int code = reattn__store_append(s, l, T, k + at * L->Hk * L->D, v + at * L->Hk * L->Dv, &err);
                if (code) fail_msg("%s", err.msg);
                at += T;
            }
            assert_int_equal(reattn__store_length(s, l), N);
            for (int64_t i = 0; i < N; i++) {
                for (int h = 0; h < L->Hk; h++) {
                    const float *want = k + (i * L->Hk + h) * L->D;
                    double top = 0;
                    for (int d = 0; d < L->D; d++) top = fmax(top, fabs((double)want[d]));
                    reattn__store_read_k(s, l, h, i, 1, row, 1);
                    for (int d = 0; d < L->D; d++) assert_true(fabs((double)row[d] - want[d]) <= tolerance[ty] * top);
                }
            }
            float *many = calloc((size_t)N * 64, 4);
            reattn__store_read_v(s, l, L->Hk - 1, 3, N - 5, many);
            for (int64_t i = 0; i < N - 5; i++) {
                reattn__store_read_v(s, l, L->Hk - 1, 3 + i, 1, row);
                assert_memory_equal(row, many + i * L->Dv, (size_t)L->Dv * 4);
            }
            free(many);
        }
        free(k);
        free(v);
        reattn__store_free(s);
    }
}

/* Half precision equals the hardware's at every level, for all 65536 values and for rounding. */
static void halves(void **unused)
{
    (void)unused;
    test_rng rng = {test_seed() + 1};
    static const char *const levels[] = {"scalar", "base", "avx2", "avx512", "neon"};
    uint16_t h[8], back[8];
    float f[8];
    for (int l = 0; l < 5; l++) {
        if (reattn__cpu_force_level(levels[l]) != 0) continue;
        const reattn__kernels *cpu = reattn__cpu();
        for (uint32_t x = 0; x < 65536; x += 8) {
            for (uint32_t j = 0; j < 8; j++) h[j] = (uint16_t)(x + j);
            cpu->f16_to_f32(h, f, 8);
            for (uint32_t j = 0; j < 8; j++) {
                uint32_t e = (x + j) >> 10 & 31, m = (x + j) & 1023;
                double want = e == 31 ? (m ? NAN : INFINITY) : e ? ldexp(1024.0 + m, (int)e - 25) : ldexp(m, -24);
                if ((x + j) & 0x8000) want = -want;
                if (isnan(want)) assert_true(isnan(f[j]));
                else assert_true((double)f[j] == want && !signbit(f[j]) == !signbit(want));
            }
            cpu->f32_to_f16(f, back, 8);
            for (uint32_t j = 0; j < 8; j++) assert_true(isnan(f[j]) ? (back[j] & 0x7fff) > 0x7c00 : back[j] == h[j]);
        }
        for (int i = 0; i < 20000; i++) { /* the nearest of two neighbours, even on a tie */
            uint16_t a = (uint16_t)test_int(&rng, 0, 0x7bfe);
            double lo = reattn__half_to_float(a), hi = reattn__half_to_float((uint16_t)(a + 1));
            f[0] = (float)(lo + (hi - lo) * 0.5);
            f[1] = nextafterf(f[0], 0);
            f[2] = nextafterf(f[0], 1e9f);
            for (int j = 3; j < 8; j++) f[j] = 0;
            cpu->f32_to_f16(f, back, 8);
            assert_int_equal(back[0], a % 2 ? a + 1 : a);
            assert_int_equal(back[1], a);
            assert_int_equal(back[2], a + 1);
        }
    }
    reattn__cpu_force_level(NULL);
}

static void limit_keeps_what_is_there(void **unused)
{
    (void)unused;
    test_rng rng = {test_seed() + 2};
    reattn_error err = {0};
    reattn__store *s;
    uint64_t one_page = reattn__store_bytes_for(LAYERS, 2, REATTN_F16, REATTN_F16, 1);
    float k[128], v[128], row[64];
    assert_int_equal(reattn__store_bytes_for(LAYERS, 2, REATTN_F16, REATTN_F16, 2 * REATTN__PAGE), 2 * one_page);
    assert_int_equal(reattn__store_create(LAYERS, 2, REATTN_F16, REATTN_F16, 2 * one_page + 1, &s, &err), 0);
    fill(&rng, k, v, 1, &LAYERS[0]);
    assert_int_equal(reattn__store_reserve(s, 2 * REATTN__PAGE, &err), 0);
    assert_int_equal(reattn__store_append(s, 0, 1, k, v, &err), 0);
    assert_int_equal(reattn__store_reserve(s, 2 * REATTN__PAGE + 1, &err), REATTN_E_LIMIT);
    assert_non_null(strstr(err.msg, "limit"));
    assert_int_equal(reattn__store_bytes(s), 2 * one_page);
    reattn__store_read_k(s, 0, 0, 0, 1, row, 1);
    for (int d = 0; d < 64; d++) assert_true(fabsf(row[d] - k[d]) <= 0x1p-11f * fabsf(k[d]) + 1e-7f);
    reattn__store_truncate(s, 1);
    assert_int_equal(reattn__store_bytes(s), one_page);
    reattn__store_truncate(s, 0);
    assert_int_equal(reattn__store_bytes(s), 0);
    reattn__store_free(s);
}

static void bad_values_are_refused(void **unused)
{
    (void)unused;
    reattn_error err = {0};
    reattn__store *s;
    float k[128] = {0}, v[128] = {0};
    assert_int_equal(reattn__store_create(LAYERS, 2, REATTN_F16, REATTN_F16, 0, &s, &err), 0);
    assert_int_equal(reattn__store_reserve(s, 1, &err), 0);
    const float bad[] = {NAN, INFINITY, -INFINITY, 70000.0f};
    for (int i = 0; i < 4; i++) {
        k[77] = bad[i];
        assert_int_equal(reattn__store_append(s, 0, 1, k, v, &err), REATTN_E_NAN);
        k[77] = 0;
        v[3] = bad[i];
        assert_int_equal(reattn__store_append(s, 0, 1, k, v, &err), REATTN_E_NAN);
        v[3] = 0;
        assert_int_equal(reattn__store_length(s, 0), 0);
    }
    reattn__store_free(s);
    assert_int_equal(reattn__store_create(LAYERS, 2, REATTN_SPLIT, REATTN_SPLIT, 0, &s, &err), REATTN_E_ARG);
    reattn__layer odd = {1, 1, 48, 48, 1, {0}};
    assert_int_equal(reattn__store_create(&odd, 1, REATTN_Q8_0, REATTN_F16, 0, &s, &err), REATTN_E_ARG);
    assert_non_null(strstr(err.msg, "48"));
}

/* Split keys: every level reads the same bits, whole blocks and single keys alike, the same for any cut into appends;
 * after a rewind into the first page too. They take no more room than f16. */
static void split_keys_are_the_same_everywhere(void **unused)
{
    (void)unused;
    test_rng rng = {test_seed() + 3};
    enum { N = 600, D = 64 };
    const reattn__layer layer = {2, 2, D, D, 1, {0}};
    static const char *const levels[] = {"scalar", "base", "avx2", "avx512", "neon"};
    float *k = test_floats(N * 2 * D), *v = test_floats(N * 2 * D), *want = test_floats(N * D),
          *got = test_floats(N * D);
    fill(&rng, k, v, N, &layer);
    for (int i = 0; i < N * 2 * D; i++) k[i] += (float)(i % D); /* a mean worth subtracting */
    reattn_error err = {0};
    reattn__store *s, *t;
    assert_int_equal(reattn__store_create(&layer, 1, REATTN_SPLIT, REATTN_F16, 0, &s, &err), 0);
    assert_int_equal(reattn__store_create(&layer, 1, REATTN_SPLIT, REATTN_F16, 0, &t, &err), 0);
    assert_int_equal(reattn__store_reserve(s, N, &err), 0);
    assert_int_equal(reattn__store_reserve(t, N, &err), 0);
    assert_int_equal(reattn__store_append(s, 0, N, k, v, &err), 0);
    for (int64_t at = 0; at < 400; at += 100)
        assert_int_equal(reattn__store_append(t, 0, 100, v + at * 2 * D, v, &err), 0);
    reattn__store_truncate(t, 0);
    assert_int_equal(reattn__store_reserve(t, N, &err), 0);
    for (int64_t at = 0; at < N; at++) assert_int_equal(reattn__store_append(t, 0, 1, k + at * 2 * D, v, &err), 0);
    for (int64_t i = 0; i < N; i++) reattn__store_read_k(s, 0, 1, i, 1, want + i, N);
    for (int l = 0; l < 5; l++) {
        if (reattn__cpu_force_level(levels[l]) != 0) continue;
        for (int64_t at = 0; at < N;) {
            int64_t some = test_int(&rng, 1, 300), n = REATTN__MIN(N - at, some);
            reattn__store_read_k(l % 2 ? s : t, 0, 1, at, n, got + at, N);
            at += n;
        }
        assert_memory_equal(got, want, N * D * sizeof *got);
    }
    reattn__cpu_force_level(NULL);
    assert_true(reattn__store_bytes_for(&layer, 1, REATTN_SPLIT, REATTN_F16, N) <=
                reattn__store_bytes_for(&layer, 1, REATTN_F16, REATTN_F16, N));
    reattn__store_free(s);
    reattn__store_free(t);
    free(k);
    free(v);
    free(want);
    free(got);
}

/* Keeping some tokens of each head: they have the bits they had, in order, in few pages; and go on growing, dropped
 * from again and again. The same at every level, for every type, and in the planes that a scan reads. */
static void what_is_kept_keeps_its_bits(void **unused)
{
    (void)unused;
    test_rng rng = {test_seed() + 4};
    static const int types[][2] = {{REATTN_F32, REATTN_F32}, {REATTN_F16, REATTN_F16}, {REATTN_Q8_0, REATTN_Q8_0},
                                   {REATTN_SPLIT, REATTN_F16}, {REATTN_SPLIT, REATTN_Q8_0}};
    enum { MOST = 2600, D = 64, Dv = 32, HEADS = 2 };
    const reattn__layer layer = {HEADS, HEADS, D, Dv, 1, {0}};
    float *k = test_floats(MOST * HEADS * D), *v = test_floats(MOST * HEADS * Dv);
    /* What each head holds, as it was read after it was stored. */
    float *held_k = test_floats(HEADS * MOST * D), *held_v = test_floats(HEADS * MOST * Dv),
          *row = test_floats(MOST * D);
    for (int ty = 0; ty < 5 * TEST_N_LEVEL; ty++) {
        if (!test_use_level(ty / 5)) continue;
        reattn_error err = {0};
        reattn__store *s;
        assert_int_equal(reattn__store_create(&layer, 1, types[ty % 5][0], types[ty % 5][1], 0, &s, &err), 0);
        reattn__store_movable(s);
        int64_t n = 0;
        for (int cycle = 0; cycle < 4 && n < MOST; cycle++) {
            int64_t more = test_int(&rng, 1, MOST - n), *kept = malloc((size_t)(HEADS * (n + more)) * sizeof *kept);
            for (int64_t i = 0; i < more * HEADS * D; i++) k[i] = test_normal(&rng) + (float)(i % D); /* with a mean */
            test_fill_normal(&rng, v, more * HEADS * Dv, 3);
            assert_int_equal(reattn__store_reserve(s, n + more, &err), 0);
            assert_int_equal(reattn__store_append(s, 0, more, k, v, &err), 0);
            for (int h = 0; h < HEADS; h++) {
                for (int64_t i = n; i < n + more; i++)
                    reattn__store_read_k(s, 0, h, i, 1, held_k + (h * MOST + i) * D, 1);
                reattn__store_read_v(s, 0, h, n, more, held_v + (h * MOST + n) * Dv);
            }
            n += more;
            int64_t keep = test_one_in(&rng, 5) ? n : test_int(&rng, 1, n);
            for (int h = 0; h < HEADS; h++) { /* each head its own */
                int64_t left = keep, j = 0;
                for (int64_t i = 0; i < n; i++) {
                    if (test_int(&rng, 1, n - i) > left) continue;
                    memmove(held_k + (h * MOST + j) * D, held_k + (h * MOST + i) * D, D * sizeof(float));
                    memmove(held_v + (h * MOST + j) * Dv, held_v + (h * MOST + i) * Dv, Dv * sizeof(float));
                    kept[h * keep + j++] = i;
                    left--;
                }
                assert_int_equal(j, keep);
            }
            assert_int_equal(reattn__store_keep(s, 0, kept, keep, &err), 0);
            free(kept);
            n = keep;
            reattn__store_truncate(s, n);
            assert_int_equal(reattn__store_length(s, 0), n);
            assert_int_equal(reattn__store_bytes(s),
                             reattn__store_bytes_for(&layer, 1, types[ty % 5][0], types[ty % 5][1], n));
            for (int h = 0; h < HEADS; h++) {
                reattn__store_read_v(s, 0, h, 0, n, row);
                assert_memory_equal(row, held_v + h * MOST * Dv, (size_t)(n * Dv) * sizeof *row);
                reattn__store_read_k(s, 0, h, 0, n, row, n);
                for (int64_t i = 0; i < n; i++) {
                    double norm = 0;
                    reattn__planes planes;
                    for (int d = 0; d < D; d++) {
                        assert_memory_equal(&row[d * n + i], &held_k[(h * MOST + i) * D + d], sizeof *row);
                        norm += (double)row[d * n + i] * row[d * n + i];
                    }
                    if (!reattn__store_planes(s, 0, h, i, &planes)) continue;
                    assert_null(planes.mean);
                    assert_true(sqrt(norm) <= (double)planes.bound.norm); /* what bounds a scan still holds */
                }
            }
        }
        reattn__store_free(s);
    }
    reattn__cpu_force_level(NULL);
    free(k);
    free(v);
    free(held_k);
    free(held_v);
    free(row);
}

static void what_cannot_be_kept(void **unused)
{
    (void)unused;
    test_rng rng = {test_seed() + 5};
    const reattn__layer layer = {1, 1, 32, 32, 1, {0}};
    float *k = test_floats(1100 * 32), before[32], after[32];
    reattn_error err = {0};
    reattn__store *s;
    test_fill_normal(&rng, k, 1100 * 32, 1);
    assert_int_equal(reattn__store_create(&layer, 1, REATTN_SPLIT, REATTN_F16, 0, &s, &err), 0);
    assert_int_equal(reattn__store_reserve(s, 1100, &err), 0);
    assert_int_equal(reattn__store_append(s, 0, 10, k, k, &err), 0);
    static const int64_t bad[][2] = {{3, 3}, {4, 2}, {-1, 2}, {2, 10}};
    reattn__store_read_k(s, 0, 0, 5, 1, before, 1);
    for (int i = 0; i < 4; i++) assert_int_equal(reattn__store_keep(s, 0, bad[i], 2, &err), REATTN_E_INTERNAL);
    reattn__store_read_k(s, 0, 0, 5, 1, after, 1);
    assert_memory_equal(before, after, sizeof before);
    assert_int_equal(reattn__store_keep(s, 0, (int64_t[]){1, 5}, 2, &err), 0); /* one page: no mean yet */
    reattn__store_read_k(s, 0, 0, 1, 1, after, 1);
    assert_memory_equal(before, after, sizeof before);
    assert_int_equal(reattn__store_append(s, 0, 1098, k, k, &err), 0);
    assert_int_equal(reattn__store_keep(s, 0, (int64_t[]){1, 5}, 2, &err), REATTN_E_INTERNAL);
    assert_non_null(strstr(err.msg, "mean"));
    reattn__store_free(s);
    free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_come_back),
        cmocka_unit_test(halves),
        cmocka_unit_test(limit_keeps_what_is_there),
        cmocka_unit_test(bad_values_are_refused),
        cmocka_unit_test(split_keys_are_the_same_everywhere),
        cmocka_unit_test(what_is_kept_keeps_its_bits),
        cmocka_unit_test(what_cannot_be_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
