/* reattn_topk against the scalar law and a brute force of its own, bit for bit, at every level and thread count. */
#include "test_util.h"

#include "cpu/ref.h"
#include "reattn/ops.h"
#include "select/topk.h"

enum { N_CASE = 10000, N_TYPED_CASE = 1500, N_STORE_CASE = 3000 };

typedef enum flavour {
    RANDOM,
    SMALL_INTEGERS, /* many ties */
    EQUAL_KEYS,     /* nothing but ties */
    NEAR_TIES,      /* differ in the last bit of one value */
    HUGE_NORMS,     /* f32 products overflow */
    TINY_NORMS,     /* f32 products underflow */
    DENORMALS,
    MIXED_SIZES, /* each row its own power of ten */
    ONE_BLOCK,   /* all winners within 128 keys */
    ASCENDING,   /* each key beats all before it */
    SIGNED_ZEROS,
    CANCELLING, /* large terms that cancel: f32 sums are far off */
    N_FLAVOUR
} flavour;

typedef struct topk_case {
    int64_t T, M;
    int H, Hk, D, top_k;
    flavour flavour;
    float *q, *k;
} topk_case;

static void fill(test_rng *rng, topk_case *c)
{
    const int64_t nq = c->T * c->H * c->D, row = (int64_t)c->Hk * c->D, nk = c->M * row;
    float size = 1.0f;
    if (c->flavour == HUGE_NORMS)
        size = 1e30f;
    if (c->flavour == TINY_NORMS)
        size = 1e-30f;
    if (c->flavour == DENORMALS)
        size = 1e-41f;
    static const float with_denormals[] = {1e-41f, 1.0f, 1e30f};
    test_fill_normal(rng, c->q, nq, c->flavour == DENORMALS ? with_denormals[test_int(rng, 0, 2)] : size);
    test_fill_normal(rng, c->k, nk, size);

    switch (c->flavour) {
    case SMALL_INTEGERS:
        for (int64_t i = 0; i < nq; i++)
            c->q[i] = (float)test_int(rng, -2, 2);
        for (int64_t i = 0; i < nk; i++)
            c->k[i] = (float)test_int(rng, -2, 2);
        break;
    case EQUAL_KEYS:
        for (int64_t i = row; i < nk; i++)
            c->k[i] = c->k[i % row];
        break;
    case NEAR_TIES:
        for (int64_t i = row; i < nk; i++)
            c->k[i] = c->k[i % row];
        for (int64_t j = 0; j < c->M; j++) {
            float *x = &c->k[j * row + test_int(rng, 0, row - 1)];
            *x = nextafterf(*x, test_one_in(rng, 2) ? INFINITY : -INFINITY);
        }
        break;
    case MIXED_SIZES:
        for (int64_t i = 0; i < nq; i += c->D) {
            const float f = powf(10.0f, (float)test_int(rng, -30, 30));
            for (int d = 0; d < c->D; d++)
                c->q[i + d] *= f;
        }
        for (int64_t i = 0; i < nk; i += c->D) {
            const float f = powf(10.0f, (float)test_int(rng, -30, 30));
            for (int d = 0; d < c->D; d++)
                c->k[i + d] *= f;
        }
        break;
    case ONE_BLOCK: {
        const int64_t block = c->M > 0 ? test_int(rng, 0, (c->M - 1) / 128) : 0;
        for (int64_t i = 0; i < nq; i++)
            c->q[i] = fabsf(c->q[i]) + 0.1f;
        for (int64_t i = 0; i < nk; i++)
            c->k[i] = i / row / 128 == block ? fabsf(c->k[i]) + 1.0f : -fabsf(c->k[i]);
        break;
    }
    case ASCENDING:
        for (int64_t i = 0; i < nq; i++)
            c->q[i] = 1.0f;
        for (int64_t i = 0; i < nk; i++)
            c->k[i] = (float)(i / row) + 0.125f * (float)(i % c->D);
        break;
    case SIGNED_ZEROS:
        for (int64_t i = 0; i < nk; i++)
            c->k[i] = test_one_in(rng, 2) ? 0.0f : -0.0f;
        break;
    case CANCELLING:
        for (int64_t i = 0; i + 1 < c->D; i += 2)
            for (int64_t j = 0; j < nk; j += c->D)
                c->k[j + i] += 1e6f, c->k[j + i + 1] -= 1e6f;
        for (int64_t i = 0; i < nq; i++)
            c->q[i] = 1.0f + 1e-3f * c->q[i];
        break;
    default:
        break;
    }
}

static topk_case make_case(test_rng *rng, int i)
{
    const bool large = i % 25 == 0;
    topk_case c = {.flavour = (flavour)(i % N_FLAVOUR)};
    c.T = test_int(rng, 1, large ? 70 : 4);
    c.M = test_one_in(rng, 20) ? 0 : test_int(rng, 1, c.flavour == ONE_BLOCK || large ? 700 : 150);
    c.Hk = (int)test_int(rng, 1, large ? 2 : 3);
    c.H = c.Hk * (int)test_int(rng, 1, large ? 2 : 4);
    c.D = (int)(test_one_in(rng, 4) ? test_int(rng, 1, 256) : test_int(rng, 1, 48));
    c.top_k = (int)(test_one_in(rng, 5) ? test_int(rng, 1, 64) : test_int(rng, 1, 8));
    c.q = test_floats(c.T * c.H * c.D);
    c.k = test_floats(c.M * c.Hk * c.D);
    fill(rng, &c);
    return c;
}

static int by_score_then_pos(const void *a, const void *b)
{
    const reattn_hit *x = a, *y = b;
    if (x->score > y->score || (x->score == y->score && x->pos < y->pos))
        return -1;
    return 1;
}

static void brute_force(const topk_case *c, reattn_hit *hits)
{
    reattn_hit *all = malloc((size_t)(c->M + 1) * sizeof *all);
    assert_non_null(all);
    for (int64_t t = 0; t < c->T; t++)
        for (int h = 0; h < c->H; h++) {
            for (int64_t j = 0; j < c->M; j++) {
                all[j] = (reattn_hit){.pos = j};
                for (int d = 0; d < c->D; d++)
                    all[j].score += (double)c->q[(t * c->H + h) * c->D + d] *
                                    (double)c->k[(j * c->Hk + h / (c->H / c->Hk)) * c->D + d];
            }
            qsort(all, (size_t)c->M, sizeof *all, by_score_then_pos);
            for (int i = 0; i < c->top_k; i++)
                hits[(t * c->H + h) * c->top_k + i] = i < c->M ? all[i] : (reattn_hit){.pos = -1};
        }
    free(all);
}

static void expect_same(const topk_case *c, const char *who, int n_threads, const reattn_hit *got,
                        const reattn_hit *want)
{
    for (int64_t i = 0; i < c->T * c->H * c->top_k; i++) {
        if (got[i].pos == want[i].pos &&
            (want[i].pos < 0 || memcmp(&got[i].score, &want[i].score, sizeof want[i].score) == 0))
            continue;
        fail_msg("%s, %d threads: flavour %d T %d M %d H %d Hk %d D %d top_k %d: row %d slot %d is (%d, %a), "
                 "not (%d, %a)",
                 who, n_threads, c->flavour, (int)c->T, (int)c->M, c->H, c->Hk, c->D, c->top_k, (int)(i / c->top_k),
                 (int)(i % c->top_k), (int)got[i].pos, got[i].score, (int)want[i].pos, want[i].score);
    }
}

/* One thread for most, since starting a team costs more than a small case; 2 or 3 for all the large ones. */
static int threads_of(int i, int level)
{
    return i % 5 ? 1 : 2 + (i / 5 + level) % 2;
}

static void test_equals_law(void **state)
{
    (void)state;
    test_rng rng = {test_seed()};
    for (int i = 0; i < N_CASE; i++) {
        topk_case c = make_case(&rng, i);
        const size_t bytes = (size_t)(c.T * c.H * c.top_k) * sizeof(reattn_hit);
        reattn_hit *law = fenced_alloc(bytes), *brute = fenced_alloc(bytes), *fast = fenced_alloc(bytes);
        reattn__ref_topk(c.q, c.k, c.T, c.M, c.H, c.Hk, c.D, c.top_k, law);
        brute_force(&c, brute);
        expect_same(&c, "ref against brute force", 1, law, brute);
        for (int level = 0; level < TEST_N_LEVEL; level++) {
            if (!test_use_level(level))
                continue;
            const int n_threads = threads_of(i, level);
            reattn_error err = {0};
            memset(fast, 0xFF, bytes);
            const int rc = reattn_topk(c.q, c.k, c.T, c.M, c.H, c.Hk, c.D, c.top_k, n_threads, fast, &err);
            if (rc != REATTN_OK)
                fail_msg("%s: case %d: %s: %s", test_levels[level], i, reattn_error_name(rc), err.msg);
            expect_same(&c, test_levels[level], n_threads, fast, law);
        }
        reattn__cpu_force_level(NULL);
        fenced_free(law, bytes);
        fenced_free(brute, bytes);
        fenced_free(fast, bytes);
        free(c.q);
        free(c.k);
    }
}

/* The other recall types: against values, and against keys times a norm of the value; over a part of the keys. */
static void test_typed_equals_law(void **state)
{
    (void)state;
    static const reattn__against against[] = {REATTN__KEYS, REATTN__VALUES, REATTN__KEYS_TIMES_L1,
                                              REATTN__KEYS_TIMES_L2};
    static const reattn_recall_type types[] = {REATTN_RECALL_QK, REATTN_RECALL_QK, REATTN_RECALL_QKV,
                                               REATTN_RECALL_QKV2};
    test_rng rng = {test_seed()};
    for (int i = 0; i < N_TYPED_CASE; i++) {
        topk_case c = make_case(&rng, 1 + i); /* c.k: what is compared, [M][Hk][D] */
        const int way = (int)test_int(&rng, 0, 3), Dv = (int)test_int(&rng, 1, 40);
        const int64_t lo = test_int(&rng, 0, c.M), hi = test_int(&rng, lo, c.M), n_v = c.M * c.Hk * Dv;
        const bool values = against[way] == REATTN__VALUES;
        const size_t bytes = (size_t)(c.T * c.H * c.top_k) * sizeof(reattn_hit);
        float *other = test_floats(n_v);
        test_fill_normal(&rng, other, n_v, test_one_in(&rng, 3) ? 1e-6f : 1.0f);
        reattn_hit *law = fenced_alloc(bytes), *fast = fenced_alloc(bytes);
        reattn__ref_topk_typed(types[way], c.q, c.k + lo * c.Hk * c.D, other + lo * c.Hk * Dv, c.T, hi - lo, c.H, c.Hk,
                               c.D, Dv, c.top_k, law);
        for (int64_t j = 0; j < c.T * c.H * c.top_k; j++)
            law[j].pos += law[j].pos < 0 ? 0 : lo;
        reattn__buffer work = {0};
        const reattn__topk_args args = {
            .q = c.q,
            .T = c.T,
            .H = c.H,
            .against = against[way],
            .lo = lo,
            .hi = hi,
            .top_k = c.top_k,
            .src = {.k = values ? other : c.k,
                    .v = values ? c.k : other,
                    .Hk = c.Hk,
                    .D = values ? Dv : c.D,
                    .Dv = values ? c.D : Dv},
            .n_threads = threads_of(i, 0),
            .hits = fast,
            .work = &work,
        };
        for (int level = 0; level < TEST_N_LEVEL; level++) {
            if (!test_use_level(level))
                continue;
            assert_int_equal(reattn__topk(&args, NULL), REATTN_OK);
            expect_same(&c, test_levels[level], args.n_threads, fast, law);
        }
        reattn__cpu_force_level(NULL);
        reattn__buffer_free(&work);
        fenced_free(law, bytes);
        fenced_free(fast, bytes);
        free(other);
        free(c.q);
        free(c.k);
    }
}

/* A store of the case's keys, which afterwards are what the store holds. */
static reattn__store *store_of(test_rng *rng, topk_case *c, int type)
{
    const reattn__layer layer = {.H = c->H, .Hk = c->Hk, .D = c->D, .Dv = 1};
    const int64_t row = (int64_t)c->Hk * c->D;
    reattn__store *store;
    reattn_error err = {0};
    float *v = test_floats(c->M * c->Hk);
    for (int64_t i = 0; i < c->M * c->Hk; i++)
        v[i] = 0;
    assert_int_equal(reattn__store_create(&layer, 1, type, REATTN_F32, 0, &store, &err), REATTN_OK);
    assert_int_equal(reattn__store_reserve(store, c->M, &err), REATTN_OK);
    for (int64_t at = 0, n; at < c->M; at += n) {
        n = test_int(rng, 1, c->M - at);
        if (reattn__store_append(store, 0, n, c->k + at * row, v, &err))
            fail_msg("%s", err.msg);
    }
    float *key = test_floats(c->D);
    for (int64_t i = 0; i < c->M * c->Hk; i++) {
        reattn__store_read_k(store, 0, (int)(i % c->Hk), i / c->Hk, 1, key, 1);
        memcpy(c->k + i * c->D, key, (size_t)c->D * sizeof *key);
    }
    free(key);
    free(v);
    return store;
}

/* From a store, over a part of the keys, with and without seeds. */
static void test_store_equals_law(void **state)
{
    (void)state;
    test_rng rng = {test_seed() + 2};
    for (int i = 0; i < N_STORE_CASE; i++) {
        topk_case c = make_case(&rng, i % 3 ? i : 25 * i);
        for (int64_t j = 0; j < c.M * c.Hk * c.D; j++)
            c.k[j] = fmaxf(-1e30f, fminf(1e30f, c.k[j]));
        reattn__store *store = store_of(&rng, &c, i % 10 ? REATTN_SPLIT : REATTN_F32);
        const int64_t lo = test_int(&rng, 0, c.M), hi = test_int(&rng, lo, c.M);
        const size_t n_hit = (size_t)(c.T * c.H * c.top_k), bytes = n_hit * sizeof(reattn_hit);
        reattn_hit *law = fenced_alloc(bytes), *fast = fenced_alloc(bytes), *seeds = fenced_alloc(bytes);
        reattn__ref_topk(c.q, c.k + lo * c.Hk * c.D, c.T, hi - lo, c.H, c.Hk, c.D, c.top_k, law);
        for (size_t j = 0; j < n_hit; j++) {
            law[j].pos += law[j].pos < 0 ? 0 : lo;
            const size_t list = j / (size_t)c.top_k * (size_t)c.top_k, n = (size_t)c.top_k;
            /* Any distinct positions are good seeds: the winners of this row, some others, or none. */
            seeds[j] = i % 3 == 0 ? law[j] : (reattn_hit){lo + (int64_t)(j - list), 0};
            if (i % 3 == 2 && j - list == n - 1)
                seeds[j].pos = -1;
        }
        reattn__buffer work = {0};
        const reattn__topk_args args = {
            .q = c.q, .T = c.T, .H = c.H, .against = REATTN__KEYS, .lo = lo, .hi = hi, .top_k = c.top_k,
            .src = {.store = store, .Hk = c.Hk, .D = c.D, .Dv = 1},
            .n_threads = threads_of(i, 0), .seeds = i % 2 ? seeds : NULL, .hits = fast, .work = &work,
        };
        for (int level = 0; level < TEST_N_LEVEL; level++) {
            if (!test_use_level(level))
                continue;
            memset(fast, 0xFF, bytes);
            assert_int_equal(reattn__topk(&args, NULL), REATTN_OK);
            expect_same(&c, test_levels[level], args.n_threads, fast, law);
        }
        reattn__cpu_force_level(NULL);
        reattn__buffer_free(&work);
        reattn__store_free(store);
        fenced_free(law, bytes);
        fenced_free(fast, bytes);
        fenced_free(seeds, bytes);
        free(c.q);
        free(c.k);
    }
}

/* A NaN or an infinity anywhere is an error, never an answer. */
static void test_not_finite(void **state)
{
    (void)state;
    test_rng rng = {test_seed()};
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 600; i++) {
        topk_case c = make_case(&rng, 1 + 25 * i);
        c.flavour = RANDOM;
        fill(&rng, &c);
        reattn_hit *hits = malloc((size_t)(c.T * c.H * c.top_k) * sizeof *hits);
        assert_non_null(hits);
        const bool in_q = c.M == 0 || i % 2;
        float *x = in_q ? c.q : c.k;
        x[test_int(&rng, 0, (in_q ? c.T * c.H : c.M * c.Hk) * c.D - 1)] = bad[i % 3];
        if (test_use_level(i % TEST_N_LEVEL)) {
            reattn_error err = {0};
            assert_int_equal(reattn_topk(c.q, c.k, c.T, c.M, c.H, c.Hk, c.D, c.top_k, 1 + i % 3, hits, &err),
                             REATTN_E_NAN);
            assert_int_equal(err.code, REATTN_E_NAN);
            assert_true(strlen(err.msg) > 0);
        }
        reattn__cpu_force_level(NULL);
        free(hits);
        free(c.q);
        free(c.k);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_law),
        cmocka_unit_test(test_typed_equals_law),
        cmocka_unit_test(test_store_equals_law),
        cmocka_unit_test(test_not_finite),
    };
    return cmocka_run_group_tests_name("topk", tests, NULL, NULL);
}
