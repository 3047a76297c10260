/* Selection on a CUDA device against the scalar law, bit for bit: every kernel, type, head size and layout; random and
 * adversarial cases. Skipped (77) without a CUDA build or without a device. REATTN_TEST_CASES sets how many cases.
 * REATTN_TEST_KEYS names a file that `reattn bench select --dump` wrote: its keys and queries are searched, too. */
#include "test_util.h"

#ifndef REATTN_HAVE_CUDA
int main(void)
{
    puts("skipped: built without CUDA");
    return 77;
}
#else

#include "base/base.h"
#include "cpu/ref.h"
#include "test_cuda.h"

enum { N_CASE = 1500, N_LEFT = 48 };

typedef enum flavour {
    RANDOM,
    COMMON_MEAN,    /* keys share a large vector */
    SMALL_INTEGERS, /* many ties */
    EQUAL_KEYS,     /* nothing but ties */
    HUGE_NORMS,     /* f32 sums overflow */
    TINY_NORMS,     /* f32 sums underflow */
    MIXED_SIZES,    /* each row its own power of ten */
    OUTLIER,        /* one key, one dimension, a thousand times larger */
    ASCENDING,      /* each key beats all before it */
    CANCELLING,     /* large terms that cancel */
    ZEROS,
    N_FLAVOUR
} flavour;

typedef struct cuda_case {
    int64_t T, M;
    int H, Hk, D, top_k, type, path, plane;
    bool head_major, far; /* far: keys in the host's memory */
    flavour flavour;
    int64_t left; /* (query, head) pairs that are too small for a scan, so that they are left to the law */
} cuda_case;

static void fill(test_rng *rng, const cuda_case *c, float *q, float *k)
{
    const int64_t row = (int64_t)c->Hk * c->D, nq = c->T * c->H * c->D, nk = c->M * row;
    const float size = c->flavour == HUGE_NORMS ? 1e30f : c->flavour == TINY_NORMS ? 1e-30f : 1.0f;
    test_fill_normal(rng, q, nq, size);
    test_fill_normal(rng, k, nk, size);
    switch (c->flavour) {
    case COMMON_MEAN:
        for (int64_t i = 0; i < nk; i++)
            k[i] += 20.0f * sinf((float)(i % row));
        break;
    case SMALL_INTEGERS:
        for (int64_t i = 0; i < nq; i++)
            q[i] = (float)test_int(rng, -2, 2);
        for (int64_t i = 0; i < nk; i++)
            k[i] = (float)test_int(rng, -2, 2);
        break;
    case EQUAL_KEYS:
        for (int64_t i = row; i < nk; i++)
            k[i] = k[i % row];
        break;
    case MIXED_SIZES:
        for (int64_t i = 0; i < nq; i++)
            q[i] *= powf(10, (float)(i / c->D % 9 - 4));
        for (int64_t i = 0; i < nk; i++)
            k[i] *= powf(10, (float)(i / c->D % 7 - 3));
        break;
    case OUTLIER:
        if (nk > 0)
            k[test_int(rng, 0, nk - 1)] = 1000.0f;
        break;
    case ASCENDING:
        for (int64_t i = 0; i < nq; i++)
            q[i] = fabsf(q[i]);
        for (int64_t i = 0; i < nk; i++)
            k[i] = (float)(i / row) / (float)c->M;
        break;
    case CANCELLING:
        for (int64_t i = 0; i < nk; i++)
            k[i] = i % 2 ? k[i] + 256.0f : k[i] - 256.0f;
        break;
    case ZEROS:
        for (int64_t i = 0; i < nq; i++)
            if (i / c->D % 2)
                q[i] = 0.0f;
        for (int64_t i = 0; i < nk; i++)
            if (i / c->D % 3)
                k[i] = 0.0f;
        break;
    default:
        break;
    }
    for (int64_t i = 0; i < c->left; i++)
        for (int64_t pair = i * (c->T * c->H) / c->left, d = 0; d < c->D; d++)
            q[pair * c->D + d] *= 0x1p-110f;
}

/* ------------------------------------------------------------------------------------------------ running ------ */

typedef struct law_ctx {
    const cuda_case *c;
    const float *q, *k;
    reattn_hit *hits;
} law_ctx;

static int law_task(void *ctx, int64_t t, int worker)
{
    const law_ctx *l = ctx;
    const cuda_case *c = l->c;
    (void)worker;
    reattn__ref_topk(l->q + t * c->H * c->D, l->k, 1, c->M, c->H, c->Hk, c->D, c->top_k, l->hits + t * c->H * c->top_k);
    return 0;
}

/* Everything of a case: arrays here and there. */
typedef struct arrays {
    float *q, *k;
    uint16_t *stored;
    reattn_hit *want, *got;
    int64_t n_hit;
    reattn__cuda_select_args args;
} arrays;

static void arrays_make(test_rng *rng, const cuda_case *c, arrays *a)
{
    const int64_t nk = c->M * c->Hk * c->D, nq = c->T * c->H * c->D;
    a->n_hit = c->T * c->H * c->top_k;
    a->q = test_floats(nq);
    a->k = test_floats(nk);
    a->stored = malloc((size_t)nk * 2 + 2);
    a->want = malloc((size_t)a->n_hit * sizeof *a->want + 1);
    a->got = malloc((size_t)a->n_hit * sizeof *a->got + 1);
    fill(rng, c, a->q, a->k);
    reattn__cuda_keys keys = {.M = c->M, .type = c->type, .Hk = c->Hk, .D = c->D, .plane = c->plane};
    keys.stride_key = c->head_major ? c->D : (int64_t)c->Hk * c->D;
    keys.stride_head = c->head_major ? c->M * c->D : c->D;
    keys.capacity = c->M + test_int(rng, 0, 300);
    for (int64_t j = 0; j < c->M; j++)
        for (int h = 0; h < c->Hk; h++)
            for (int d = 0; d < c->D; d++) {
                float *x = a->k + (j * c->Hk + h) * c->D + d;
                uint16_t bits = to_type(*x, c->type);
                a->stored[j * keys.stride_key + h * keys.stride_head + d] = bits;
                *x = from_type(bits, c->type);
            }
    keys.k = c->far ? on_host(a->stored, (size_t)nk * 2) : on_device(a->stored, (size_t)nk * 2);
    if (c->far) {
        static const unsigned long long none = 0;
        keys.far = on_device(&none, sizeof none);
    }
    keys.index = on_device(NULL, reattn__cuda_index_bytes(keys.capacity, keys.Hk, keys.D, keys.plane));
    a->args = (reattn__cuda_select_args){.keys = keys, .T = c->T, .H = c->H, .top_k = c->top_k, .path = c->path};
    a->args.plane = c->plane;
    a->args.q = on_device(a->q, (size_t)nq * 4);
    a->args.hits = on_device(NULL, (size_t)a->n_hit * sizeof *a->got);
    a->args.work_bytes = reattn__cuda_select_bytes(&a->args);
    a->args.work = on_device(NULL, a->args.work_bytes);
}

static void arrays_free(arrays *a)
{
    if (a->args.keys.far)
        cudaFreeHost((void *)a->args.keys.k);
    else
        cudaFree((void *)a->args.keys.k);
    cudaFree(a->args.keys.far);
    cudaFree(a->args.keys.index);
    cudaFree((void *)a->args.q);
    cudaFree(a->args.hits);
    cudaFree(a->args.work);
    free(a->q), free(a->k), free(a->stored), free(a->want), free(a->got);
}

/* The index in two steps, as a store that grows makes it. */
static int make_index(test_rng *rng, const arrays *a, reattn_error *err)
{
    reattn__cuda_keys first = a->args.keys;
    first.M = test_int(rng, 0, first.M);
    const int code = reattn__cuda_index_make(&first, 0, NULL, err);
    return code ? code : reattn__cuda_index_make(&a->args.keys, first.M, NULL, err);
}

static int run(test_rng *rng, arrays *a, reattn__cuda_report *report, reattn_error *err)
{
    int code = make_index(rng, a, err);
    if (!code)
        code = reattn__cuda_select(&a->args, NULL, err);
    if (!code)
        code = reattn__cuda_select_report(&a->args, NULL, report, err);
    return code;
}

/* The hits that lie on the device now, and what was found on the way. */
static void check_hits(arrays *a, const cuda_case *c, int64_t *pairs, int64_t *brute)
{
    reattn_error err = {0, ""};
    reattn__cuda_report report;
    if (reattn__cuda_select_report(&a->args, NULL, &report, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(cudaMemcpy(a->got, a->args.hits, (size_t)a->n_hit * sizeof *a->got, cudaMemcpyDeviceToHost),
                     cudaSuccess);
    law_ctx law = {c, a->q, a->k, a->want};
    reattn__parallel(reattn__cores(), c->T, law_task, &law);
    for (int64_t i = 0; i < a->n_hit; i++)
        if (a->got[i].pos != a->want[i].pos ||
            (a->want[i].pos >= 0 && memcmp(&a->got[i].score, &a->want[i].score, sizeof(double)) != 0))
            fail_msg("T %" PRId64 " M %" PRId64
                     " H %d Hk %d D %d k %d type %d path %d plane %d flavour %d, hit %" PRId64 ": %" PRId64
                     " (%.17g), the law has %" PRId64 " (%.17g); %" PRId64 " candidates, %" PRId64 " by the law",
                     c->T, c->M, c->H, c->Hk, c->D, c->top_k, c->type, c->path, c->plane, (int)c->flavour, i,
                     a->got[i].pos, a->got[i].score, a->want[i].pos, a->want[i].score, report.candidates,
                     report.brute_rows);
    *pairs += c->T * c->H;
    *brute += report.brute_rows;
}

static void check_case(test_rng *rng, const cuda_case *c, int64_t *pairs, int64_t *brute)
{
    arrays a;
    reattn_error err = {0, ""};
    reattn__cuda_report report;
    arrays_make(rng, c, &a);
    int code = run(rng, &a, &report, &err);
    if (!code && c->left) { /* and again in the same scratch */
        assert_int_equal(cudaMemset(a.args.hits, 0xff, (size_t)a.n_hit * sizeof *a.got), cudaSuccess);
        code = reattn__cuda_select(&a.args, NULL, &err);
    }
    if (code)
        fail_msg("%s", err.msg);
    check_hits(&a, c, pairs, brute);
    if (report.brute_rows < c->left)
        fail_msg("%" PRId64 " pairs were left to the law, %" PRId64 " should have been", report.brute_rows, c->left);
    if (c->far) {
        unsigned long long read = 0;
        assert_int_equal(cudaMemcpy(&read, a.args.keys.far, sizeof read, cudaMemcpyDeviceToHost), cudaSuccess);
        assert_in_range(read, 2 * report.brute_rows * c->M, 2 * c->T * c->H * c->M);
    }
    arrays_free(&a);
}

static bool has_wgmma(void)
{
    int major = 0;
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
    return major == 9;
}

static void test_law(void **state)
{
    (void)state;
    test_rng rng = {test_seed()};
    const char *cases = getenv("REATTN_TEST_CASES");
    const int n = cases ? atoi(cases) : N_CASE;
    static const int dims[] = {64, 96, 128, 256}, groups[] = {1, 3, 4, 8}, tops[] = {1, 3, 4, 4, 4, 16, 32};
    int64_t pairs = 0, brute = 0;
    for (int i = 0; i < n; i++) {
        cuda_case c = {.type = (int)test_int(&rng, 0, 1), .plane = (int)test_int(&rng, 0, 1)};
        c.path = (int)test_int(&rng, 0, 3);
        if (c.path == REATTN__CUDA_WGMMA && !has_wgmma())
            c.path = REATTN__CUDA_MMA;
        c.T = test_one_in(&rng, 3) ? 1 : test_int(&rng, 0, 100);
        c.M = test_one_in(&rng, 4) ? test_int(&rng, 0, 40) : test_int(&rng, 0, test_one_in(&rng, 10) ? 20000 : 2500);
        c.Hk = (int)test_int(&rng, 1, 3);
        c.H = c.Hk * groups[test_int(&rng, 0, 3)];
        c.D = dims[test_int(&rng, 0, 3)];
        c.top_k = tops[test_int(&rng, 0, 6)];
        c.head_major = test_one_in(&rng, 2);
        c.flavour = test_one_in(&rng, 3) ? RANDOM : (flavour)test_int(&rng, 0, N_FLAVOUR - 1);
        if (c.type == REATTN__CUDA_F16 && (c.flavour == HUGE_NORMS || c.flavour == TINY_NORMS))
            c.flavour = RANDOM;
        check_case(&rng, &c, &pairs, &brute);
    }
    printf("%d cases, %" PRId64 " (query, head) pairs equal the law, %" PRId64 " of them were left to it\n", n, pairs,
           brute);
}

/* Many queries over so many keys that some of their tiles are sampled first: a key that is met twice must not count
 * twice, however many are worth a look at once. */
static void test_sampled(void **state)
{
    (void)state;
    if (!has_wgmma())
        skip();
    test_rng rng = {test_seed()};
    static const flavour flavours[] = {RANDOM, COMMON_MEAN, SMALL_INTEGERS, MIXED_SIZES, OUTLIER, ASCENDING};
    static const int dims[] = {64, 128, 128, 256}, tops[] = {1, 2, 4, 4, 5};
    int64_t pairs = 0, brute = 0;
    for (int i = 0; i < 60; i++) {
        cuda_case c = {.path = REATTN__CUDA_WGMMA, .type = (int)test_int(&rng, 0, 1), .plane = i % 3 != 0};
        c.T = test_int(&rng, 9, 48);
        c.Hk = (int)test_int(&rng, 1, 2);
        c.H = c.Hk * 4;
        c.D = dims[test_int(&rng, 0, 3)];
        c.top_k = tops[test_int(&rng, 0, 4)];
        c.M = test_int(&rng, 4100, 10000);
        c.flavour = flavours[test_int(&rng, 0, 5)];
        check_case(&rng, &c, &pairs, &brute);
    }
    printf("60 cases, %" PRId64 " (query, head) pairs equal the law, %" PRId64 " of them were left to it\n", pairs,
           brute);
}

/* Pairs that are left to the law: one to all of a call's, by themselves in a block or in parts of several, which must be
 * joined so that equal scores stand in order. */
static void test_left(void **state)
{
    (void)state;
    test_rng rng = {test_seed()};
    const char *cases = getenv("REATTN_TEST_CASES");
    const int n = cases ? REATTN__MIN(atoi(cases) * 4, N_LEFT) : N_LEFT;
    static const flavour flavours[] = {RANDOM, SMALL_INTEGERS, SMALL_INTEGERS, EQUAL_KEYS, ASCENDING, COMMON_MEAN};
    static const int dims[] = {64, 96, 128, 256}, tops[] = {1, 4, 4, 32}, some[] = {1, 2, 53, 300, 700, 1024};
    static const int64_t keys[] = {1, 40, 2048, 2049, 5000, 5000, 12000};
    int64_t pairs = 0, brute = 0;
    for (int i = 0; i < n; i++) {
        cuda_case c = {.type = (int)test_int(&rng, 0, 1), .plane = (int)test_int(&rng, 0, 1), .far = i % 4 == 3};
        c.Hk = (int)test_int(&rng, 1, 2);
        c.H = c.Hk * 8;
        c.T = test_one_in(&rng, 6) ? 1 : 1024 / c.H + test_int(&rng, 0, 20); /* so that decide has a warp a pair */
        c.M = keys[test_int(&rng, 0, 6)];
        c.D = dims[i / 4 % 4];
        c.top_k = tops[test_int(&rng, 0, 3)];
        const int64_t pairs_of = c.T * c.H, few = some[test_int(&rng, 0, 5)];
        c.left = test_one_in(&rng, 8) ? pairs_of : REATTN__MIN(few, pairs_of);
        c.flavour = flavours[test_int(&rng, 0, 5)];
        check_case(&rng, &c, &pairs, &brute);
    }
    printf("%d cases, %" PRId64 " (query, head) pairs equal the law, %" PRId64 " of them were left to it\n", n, pairs,
           brute);
}

/* Searches of several sessions in one launch of each kernel, over few and many keys. */
static void test_together(void **state)
{
    (void)state;
    test_rng rng = {test_seed()};
    static const int dims[] = {64, 96, 128, 256}, groups[] = {1, 3, 4, 8}, tops[] = {1, 4, 4, 16, 32};
    const char *cases = getenv("REATTN_TEST_CASES");
    const int n = cases ? (atoi(cases) + 9) / 10 : N_CASE / 10;
    int64_t pairs = 0, brute = 0, searches = 0;
    for (int i = 0; i < n; i++) {
        cuda_case c[REATTN__CUDA_MANY] = {
            {.T = 1, .type = (int)test_int(&rng, 0, 1), .plane = (int)test_int(&rng, 0, 1)}};
        arrays a[REATTN__CUDA_MANY];
        reattn__cuda_select_args args[REATTN__CUDA_MANY];
        reattn_error err = {0, ""};
        const int many = (int)test_int(&rng, 2, REATTN__CUDA_MANY);
        c->path = test_one_in(&rng, 2) ? REATTN__CUDA_AUTO : REATTN__CUDA_MMA;
        c->Hk = (int)test_int(&rng, 1, 8);
        c->H = c->Hk * groups[test_int(&rng, 0, 3)];
        c->D = dims[test_int(&rng, 0, 3)];
        c->top_k = tops[test_int(&rng, 0, 4)];
        for (int j = 0; j < many; j++) {
            c[j] = c[0];
            c[j].M =
                test_one_in(&rng, 4) ? test_int(&rng, 1, 40) : test_int(&rng, 1, test_one_in(&rng, 8) ? 20000 : 2500);
            c[j].head_major = test_one_in(&rng, 2);
            c[j].flavour = test_one_in(&rng, 2) ? RANDOM : (flavour)test_int(&rng, 0, N_FLAVOUR - 1);
            if (c->type == REATTN__CUDA_F16 && (c[j].flavour == HUGE_NORMS || c[j].flavour == TINY_NORMS))
                c[j].flavour = RANDOM;
            arrays_make(&rng, &c[j], &a[j]);
            if (make_index(&rng, &a[j], &err))
                fail_msg("%s", err.msg);
            args[j] = a[j].args;
            assert_true(reattn__cuda_select_together(&args[0], &args[j]));
        }
        if (reattn__cuda_select_many(args, many, NULL, &err))
            fail_msg("%s", err.msg);
        for (int j = 0; j < many; j++)
            check_hits(&a[j], &c[j], &pairs, &brute);
        searches += many;
        args[1].top_k = c->top_k % 32 + 1;
        assert_int_equal(reattn__cuda_select_many(args, many, NULL, &err), REATTN_E_ARG);
        for (int j = 0; j < many; j++)
            arrays_free(&a[j]);
    }
    printf("%" PRId64 " searches in %d launches, %" PRId64 " (query, head) pairs equal the law, %" PRId64
           " of them were left to it\n",
           searches, n, pairs, brute);
}

/* ---------------------------------------------------------------------------------------------- real keys ------ */

enum { LAW_K = 32, REF_QUERIES = 8, SINGLE = 64 };

typedef struct dump {
    FILE *file;
    int32_t head[8]; /* magic, layers, keys, queries, H, Hk, D, 0 */
} dump;

static void read_all(FILE *file, void *to, size_t bytes)
{
    assert_int_equal(fread(to, 1, bytes, file), bytes);
}

/* Runs a search; hits [T][H][top_k] come back in got, and must be the first of the law's. Returns how many pairs. */
static int64_t search_dump(reattn__cuda_select_args a, const reattn_hit *law, reattn_hit *got, int64_t *brute)
{
    reattn_error err = {0, ""};
    reattn__cuda_report report;
    const int64_t pairs = a.T * a.H;
    a.work_bytes = reattn__cuda_select_bytes(&a);
    a.work = on_device(NULL, a.work_bytes);
    a.hits = on_device(NULL, (size_t)(pairs * a.top_k) * sizeof *got);
    int code = reattn__cuda_select(&a, NULL, &err);
    if (!code)
        code = reattn__cuda_select_report(&a, NULL, &report, &err);
    if (code)
        fail_msg("%s", err.msg);
    assert_int_equal(cudaMemcpy(got, a.hits, (size_t)(pairs * a.top_k) * sizeof *got, cudaMemcpyDeviceToHost),
                     cudaSuccess);
    for (int64_t i = 0; i < pairs && law; i++)
        for (int j = 0; j < a.top_k; j++) {
            const reattn_hit *g = got + i * a.top_k + j, *w = law + i * LAW_K + j;
            if (g->pos != w->pos || memcmp(&g->score, &w->score, sizeof g->score) != 0)
                fail_msg("path %d plane %d type %d T %" PRId64 " k %d, pair %" PRId64 ", hit %d: %" PRId64
                         " (%.17g), the law has %" PRId64 " (%.17g)",
                         a.path, a.plane, a.keys.type, a.T, a.top_k, i, j, g->pos, g->score, w->pos, w->score);
        }
    *brute += a.path == REATTN__CUDA_BRUTE ? 0 : report.brute_rows;
    cudaFree(a.work);
    cudaFree(a.hits);
    return pairs;
}

/* All searches of a layer's keys in one type. The law comes from the device, and is itself compared with ref.c. */
static int64_t check_layer(const dump *d, const float *k, const float *q, int type, int64_t *brute)
{
    const int64_t M = d->head[2], T = d->head[3];
    const int H = d->head[4], Hk = d->head[5], D = d->head[6];
    static const int tops[] = {1, 2, 4, 8, 16, LAW_K};
    const int64_t nk = M * Hk * D, nq = T * H * D, lists = (int64_t)H * LAW_K;
    float *rounded = test_floats(nk);
    uint16_t *stored = malloc((size_t)nk * sizeof *stored);
    reattn_hit *law = malloc((size_t)(T * lists) * sizeof *law), *got = malloc((size_t)(T * lists) * sizeof *got);
    reattn_error err = {0, ""};
    for (int64_t i = 0; i < nk; i++) {
        stored[i] = to_type(k[i], type);
        rounded[i] = from_type(stored[i], type);
    }
    reattn__cuda_keys keys = {.M = M, .capacity = M, .type = type, .Hk = Hk, .D = D, .plane = 1};
    keys.stride_key = (int64_t)Hk * D;
    keys.stride_head = D;
    keys.k = on_device(stored, (size_t)nk * sizeof *stored);
    keys.index = on_device(NULL, reattn__cuda_index_bytes(M, Hk, D, 1));
    if (reattn__cuda_index_make(&keys, 0, NULL, &err))
        fail_msg("%s", err.msg);
    reattn__cuda_select_args a = {.keys = keys, .T = T, .H = H, .top_k = LAW_K, .path = REATTN__CUDA_BRUTE};
    a.q = on_device(q, (size_t)nq * sizeof *q);
    search_dump(a, NULL, law, brute);
    for (int64_t i = 0; i < REF_QUERIES; i++) {
        const int64_t t = i * (T - 1) / (REF_QUERIES - 1);
        reattn__ref_topk(q + t * H * D, rounded, 1, M, H, Hk, D, LAW_K, got);
        for (int64_t j = 0; j < lists; j++)
            if (got[j].pos != law[t * lists + j].pos ||
                memcmp(&got[j].score, &law[t * lists + j].score, sizeof got->score) != 0)
                fail_msg("query %" PRId64 ", hit %" PRId64 ": the device's law is not the CPU's", t, j);
    }
    int64_t pairs = 0;
    for (a.plane = 0; a.plane <= 1; a.plane++)
        for (a.path = REATTN__CUDA_MMA; a.path <= (has_wgmma() ? REATTN__CUDA_WGMMA : REATTN__CUDA_MMA); a.path++)
            for (int i = 0; i < (int)(sizeof tops / sizeof tops[0]); i++) {
                a.top_k = tops[i];
                pairs += search_dump(a, law, got, brute);
            }
    a.T = 1;
    a.top_k = 4;
    a.path = REATTN__CUDA_AUTO;
    const float *queries = a.q;
    for (int64_t t = 0; t < T; t += REATTN__MAX(T / SINGLE, 1))
        for (a.plane = 0; a.plane <= 1; a.plane++) {
            a.q = queries + t * H * D;
            pairs += search_dump(a, law + t * lists, got, brute);
        }
    cudaFree((void *)queries);
    cudaFree((void *)keys.k);
    cudaFree(keys.index);
    free(rounded), free(stored), free(law), free(got);
    return pairs;
}

static void test_real_keys(void **state)
{
    (void)state;
    const char *path = getenv("REATTN_TEST_KEYS");
    if (!path)
        skip();
    dump d = {.file = fopen(path, "rb")};
    assert_non_null(d.file);
    read_all(d.file, d.head, sizeof d.head);
    assert_int_equal(d.head[0], 0x31444b52);
    const int64_t nk = (int64_t)d.head[2] * d.head[5] * d.head[6], nq = (int64_t)d.head[3] * d.head[4] * d.head[6];
    uint16_t *half = malloc((size_t)nk * sizeof *half);
    float *k = test_floats(nk), *q = test_floats(nq);
    int64_t pairs = 0, brute = 0;
    for (int layer = 0; layer < d.head[1]; layer++) {
        read_all(d.file, half, (size_t)nk * sizeof *half);
        read_all(d.file, q, (size_t)nq * sizeof *q);
        for (int64_t i = 0; i < nk; i++)
            k[i] = reattn__half_to_float(half[i]);
        pairs += check_layer(&d, k, q, REATTN__CUDA_F16, &brute);
        pairs += check_layer(&d, k, q, REATTN__CUDA_BF16, &brute);
    }
    printf("%s: %d keys, %" PRId64 " searches of (query, head) pairs equal the law, %" PRId64 " were left to it\n",
           path, d.head[2], pairs, brute);
    free(half), free(k), free(q);
    fclose(d.file);
}

/* ------------------------------------------------------------------------------------------------- errors ------ */

static void test_errors(void **state)
{
    (void)state;
    test_rng rng = {test_seed()};
    const cuda_case c = {.T = 3, .M = 500, .H = 4, .Hk = 2, .D = 64, .top_k = 4, .plane = 1};
    arrays a;
    reattn_error err;
    reattn__cuda_report report;
    arrays_make(&rng, &c, &a);

#define WRONG(field, value, code)                                                                                      \
    do {                                                                                                               \
        reattn__cuda_select_args wrong = a.args;                                                                       \
        wrong.field = value;                                                                                           \
        err.msg[0] = 0;                                                                                                \
        assert_int_equal(reattn__cuda_select(&wrong, NULL, &err), code);                                               \
        assert_true(err.msg[0] != 0);                                                                                  \
    } while (0)
    WRONG(keys.D, 80, REATTN_E_UNSUPPORTED);
    WRONG(keys.type, 7, REATTN_E_ARG);
    WRONG(keys.plane, 0, REATTN_E_ARG);
    WRONG(keys.M, 100000, REATTN_E_ARG);
    WRONG(keys.stride_key, 129, REATTN_E_ARG);
    WRONG(H, 5, REATTN_E_ARG);
    WRONG(top_k, 33, REATTN_E_ARG);
    WRONG(top_k, 0, REATTN_E_ARG);
    WRONG(path, 9, REATTN_E_ARG);
    WRONG(work_bytes, a.args.work_bytes - 1, REATTN_E_ARG);
#undef WRONG

    const float nan_value = NAN;
    const uint16_t infinite = 0x7f80; /* as a bfloat16 */
    assert_int_equal(cudaMemcpy((float *)a.args.q + 200, &nan_value, 4, cudaMemcpyHostToDevice), cudaSuccess);
    assert_int_equal(run(&rng, &a, &report, &err), REATTN_E_NAN);
    assert_non_null(strstr(err.msg, "query"));
    assert_int_equal(cudaMemcpy((float *)a.args.q + 200, a.q + 200, 4, cudaMemcpyHostToDevice), cudaSuccess);
    assert_int_equal(run(&rng, &a, &report, &err), REATTN_OK);
    assert_int_equal(cudaMemcpy((uint16_t *)a.args.keys.k + 700, &infinite, 2, cudaMemcpyHostToDevice), cudaSuccess);
    assert_int_equal(run(&rng, &a, &report, &err), REATTN_E_NAN);
    assert_non_null(strstr(err.msg, "key"));
    arrays_free(&a);
}

int main(void)
{
    if (reattn__cuda_devices() == 0) {
        puts("skipped: no CUDA device");
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_law),       cmocka_unit_test(test_sampled),
                                       cmocka_unit_test(test_left),      cmocka_unit_test(test_together),
                                       cmocka_unit_test(test_real_keys), cmocka_unit_test(test_errors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
