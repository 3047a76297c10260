/* The memory of a layer's steps on a CUDA device: arrays that grow where they are, what is refused before and found in
 * a step, limits, and with keys and values on the host what comes over the bus. Skipped (77) without a CUDA build or
 * without a device. */
#include "test_util.h"

#ifndef REATTN_HAVE_CUDA
int main(void)
{
    puts("skipped: built without CUDA");
    return 77;
}
#else

#include "cuda/step.h"
#include "cuda/store.h"
#include "test_cuda.h"

/* Pages that were pinned part by part are no one stretch to cudaMemcpy. */
static void copy_bytes(const reattn__cuda_array *a, void *to, const void *from, size_t bytes)
{
    if (a->where == REATTN__CUDA_ON_HOST_PINNED)
        memcpy(to, from, bytes);
    else
        assert_int_equal(cudaMemcpy(to, from, bytes, cudaMemcpyDefault), cudaSuccess);
}

static void test_arrays(void **state)
{
    (void)state;
    reattn_error err = {0, ""};
    static const int where[] = {REATTN__CUDA_ON_DEVICE, REATTN__CUDA_ON_HOST, REATTN__CUDA_ON_HOST_PINNED,
                                REATTN__CUDA_ON_DEVICE, REATTN__CUDA_ON_HOST};
    for (int way = 0; way < 5; way++) {
        reattn__cuda_array a = {.where = where[way]}; /* as it is, it grows by copying */
        if (way < 3)
            assert_int_equal(reattn__cuda_array_open(&a, where[way], (size_t)1 << 40, &err), REATTN_OK);
        size_t held = 0;
        void *first = NULL;
        for (size_t bytes = 1000; bytes < (size_t)200 << 20; bytes *= 3) {
            if (reattn__cuda_array_need(&a, bytes, NULL, &err))
                fail_msg("%s", err.msg);
            assert_true(a.bytes >= bytes);
            if (a.granule && first)
                assert_ptr_equal(first, a.at); /* it never moves */
            first = a.at;
            uint8_t *got = malloc(bytes);
            for (size_t i = held; i < bytes; i++)
                got[i] = (uint8_t)(i * 7 + i / 1000);
            copy_bytes(&a, (uint8_t *)a.at + held, got + held, bytes - held);
            memset(got, 0, bytes);
            copy_bytes(&a, got, a.at, bytes);
            for (size_t i = 0; i < bytes; i++)
                if (got[i] != (uint8_t)(i * 7 + i / 1000))
                    fail_msg("byte %zu of %zu was lost", i, bytes);
            free(got);
            held = bytes;
        }
        reattn__cuda_array_close(&a);
        assert_null(a.at);
    }
    for (int way = 0; way < 3; way++) { /* more than there is: nothing is taken of the host's memory */
        const size_t most = (size_t)1 << 44;
        reattn__cuda_array a = {0};
        assert_int_equal(reattn__cuda_array_open(&a, where[way], most, &err), REATTN_OK);
        assert_int_equal(reattn__cuda_array_need(&a, 1000, NULL, &err), REATTN_OK);
        const size_t taken = a.bytes;
        if (way > 0) {
            assert_int_equal(reattn__cuda_array_need(&a, most, NULL, &err), REATTN_E_NOMEM);
            assert_int_equal(a.bytes, taken);
            assert_non_null(strstr(err.msg, "host"));
        }
        reattn__cuda_array_close(&a);
    }
}

static void test_errors(void **state)
{
    (void)state;
    reattn_error err = {0, ""};
    reattn__layer layer = {4, 2, 64, 64, 0.125f, {REATTN_ROPE_NEOX, 64, 0, 10000, 1, 0, 1, 32, 1, NULL}};
    reattn_session_params p = reattn_session_params_default();
    p.keep = 4, p.local = 32, p.recall_max = 4, p.recall_span = 32, p.local_per = REATTN_LOCAL_PER_STEP;
    reattn__cuda_context_args args = {&layer, 1, &p, REATTN__CUDA_REATTENTION, REATTN__CUDA_F16, 0, 100, 0};
    reattn__cuda_context *c = NULL;
#define REFUSED(field, value, code)                                                                                    \
    do {                                                                                                               \
        const reattn__layer good = layer;                                                                              \
        const reattn_session_params good_params = p;                                                                   \
        field = value;                                                                                                 \
        err.msg[0] = 0;                                                                                                \
        assert_int_equal(reattn__cuda_context_create(&args, &c, &err), code);                                          \
        assert_true(err.msg[0] != 0);                                                                                  \
        layer = good, p = good_params;                                                                                 \
    } while (0)
    REFUSED(layer.D, 80, REATTN_E_UNSUPPORTED);
    REFUSED(layer.Dv, 128, REATTN_E_UNSUPPORTED);
    REFUSED(layer.H, 5, REATTN_E_UNSUPPORTED);
    REFUSED(p.recall_k, 64, REATTN_E_UNSUPPORTED);
    REFUSED(p.recall_max, 5000, REATTN_E_UNSUPPORTED);
    REFUSED(p.recall_type, REATTN_RECALL_QKV, REATTN_E_UNSUPPORTED);
    REFUSED(layer.rope.n_rot, 65, REATTN_E_ARG);
#undef REFUSED
    assert_int_equal(reattn__cuda_context_create(&args, &c, &err), REATTN_OK);

    float rows[32 * 4 * 64] = {0};
    for (int i = 0; i < 32 * 4 * 64; i++)
        rows[i] = (float)(i % 13 - 6);
    float *x = on_device(rows, sizeof rows), *out = on_device(NULL, sizeof rows);
    reattn__cuda_step_args step = {
        .T = 32, .q = {x, 0, 256, 64}, .k = {x, 0, 128, 64}, .v = {x, 0, 128, 64}, .out = out};
    assert_int_equal(reattn__cuda_step(c, &step, NULL, &err), REATTN_OK);
    assert_int_equal(reattn__cuda_check(c, NULL, &err), REATTN_OK);
    step.T = 33;
    assert_int_equal(reattn__cuda_step(c, &step, NULL, &err), REATTN_E_ARG);
    step.T = 2, step.decode = 1;
    assert_int_equal(reattn__cuda_step(c, &step, NULL, &err), REATTN_E_ARG);
    step.T = 32, step.decode = 0;
    assert_int_equal(reattn__cuda_reserve(c, 101, NULL, &err), REATTN_E_LIMIT);
    assert_int_equal(reattn__cuda_length(c, 0), 32);

    static const float wrong[] = {NAN, INFINITY, 70000.0f}; /* the last is too large for an f16 key or value */
    static const char *const what[] = {"query", "key", "value"};
    for (int i = 0; i < 9; i++) {
        if (i == 6)
            continue; /* queries are not stored */
        float *y = on_device(rows, sizeof rows);
        assert_int_equal(cudaMemcpy(y + 77, &wrong[i / 3], sizeof *y, cudaMemcpyHostToDevice), cudaSuccess);
        reattn__cuda_step_args bad = step;
        *(i % 3 == 0 ? &bad.q : i % 3 == 1 ? &bad.k : &bad.v) = (reattn__cuda_tensor){y, 0, i % 3 ? 128 : 256, 64};
        assert_int_equal(reattn__cuda_step(c, &bad, NULL, &err), REATTN_OK);
        assert_int_equal(reattn__cuda_check(c, NULL, &err), REATTN_E_NAN);
        assert_non_null(strstr(err.msg, what[i % 3]));
        assert_int_equal(reattn__cuda_rewind(c, 32, &err), REATTN_OK);
        assert_int_equal(reattn__cuda_step(c, &step, NULL, &err), REATTN_OK);
        assert_int_equal(reattn__cuda_check(c, NULL, &err), REATTN_OK);
        assert_int_equal(reattn__cuda_rewind(c, 32, &err), REATTN_OK);
        cudaFree(y);
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(reattn__cuda_step(c, &step, NULL, &err), REATTN_OK);
    assert_int_equal(reattn__cuda_step(c, &step, NULL, &err), REATTN_E_LIMIT);
    assert_int_equal(reattn__cuda_length(c, 0), 96);
    assert_int_equal(reattn__cuda_check(c, NULL, &err), REATTN_OK);
    cudaFree(x), cudaFree(out);
    reattn__cuda_context_free(c);

    p.mem_limit = 2 * 64 * 2 * 2 * 50; /* bytes of 50 tokens */
    args.policy = REATTN__CUDA_STREAMING;
    assert_int_equal(reattn__cuda_context_create(&args, &c, &err), REATTN_OK);
    assert_int_equal(reattn__cuda_reserve(c, 50, NULL, &err), REATTN_OK);
    assert_int_equal(reattn__cuda_reserve(c, 51, NULL, &err), REATTN_E_LIMIT);
    reattn__cuda_context_free(c);
}

/* What stays chosen comes over the bus once; limits are those of the host's memory. */
static void test_far(void **state)
{
    (void)state;
    enum { H = 4, Hk = 2, D = 64, T = 32, N = 40 * T };
    reattn_error err = {0, ""};
    test_rng rng = {test_seed()};
    reattn__layer layer = {H, Hk, D, D, 0.125f, {REATTN_ROPE_NEOX, D, 0, 10000, 1, 0, 1, 32, 1, NULL}};
    reattn_session_params p = reattn_session_params_default();
    p.keep = 4, p.local = T, p.chunk = T, p.recall_max = 8, p.recall_span = 16;
    reattn__cuda_context_args args = {&layer, 1, &p, REATTN__CUDA_FULL, REATTN__CUDA_F16, 0, 4096, 1};
    reattn__cuda_context *c = NULL;
    uint64_t scored, brought, after, host = 0, far, device;
    for (int policy = REATTN__CUDA_FULL; policy <= REATTN__CUDA_GIVEN; policy++) {
        args.policy = policy;
        assert_int_equal(reattn__cuda_context_create(&args, &c, &err), REATTN_E_UNSUPPORTED);
        assert_non_null(strstr(err.msg, "store"));
    }
    args.policy = REATTN__CUDA_REATTENTION;
    p.mem_limit = 2 * 2 * Hk * D * N;
    assert_int_equal(reattn__cuda_context_create(&args, &c, &err), REATTN_OK);
    float *rows = test_floats(T * H * D), *x[3];
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < T * H * D; j++)
            rows[j] = test_normal(&rng);
        x[i] = on_device(rows, sizeof *rows * T * H * D);
    }
    float *out = on_device(NULL, sizeof *rows * T * H * D);
    reattn__cuda_step_args step = {
        .T = T, .q = {x[0], 0, H * D, D}, .k = {x[1], 0, Hk * D, D}, .v = {x[2], 0, Hk * D, D}, .out = out};
    for (int i = 0; i < N / T; i++)
        assert_int_equal(reattn__cuda_step(c, &step, NULL, &err), REATTN_OK);
    assert_int_equal(reattn__cuda_check(c, NULL, &err), REATTN_OK);
    assert_int_equal(reattn__cuda_reserve(c, N + 1, NULL, &err), REATTN_E_LIMIT);
    assert_int_equal(reattn__cuda_length(c, 0), N);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(reattn__cuda_traffic(c, 0, &scored, &brought, NULL, &err), REATTN_OK);
        assert_true(scored > 0 && brought > 0);
        assert_int_equal(reattn__cuda_rewind(c, N - T, &err), REATTN_OK);
        assert_int_equal(reattn__cuda_step(c, &step, NULL, &err), REATTN_OK); /* it chooses as it did */
        assert_int_equal(reattn__cuda_traffic(c, 0, &scored, &after, NULL, &err), REATTN_OK);
        assert_int_equal(after, brought);
    }
    assert_int_equal(reattn__cuda_rewind(c, N / 2, &err), REATTN_OK);
    for (int i = 0; i < N / 2 / T; i++)
        assert_int_equal(reattn__cuda_step(c, &step, NULL, &err), REATTN_OK);
    assert_int_equal(reattn__cuda_check(c, NULL, &err), REATTN_OK);
    device = reattn__cuda_context_bytes(c, &host);
    assert_true(host >= (uint64_t)p.mem_limit && device > 0);
    assert_true(reattn__cuda_bytes_for(&args, 0, N, &far) < device);
    assert_int_equal(far, p.mem_limit);
    for (int i = 0; i < 3; i++)
        cudaFree(x[i]);
    cudaFree(out);
    free(rows);
    reattn__cuda_context_free(c);
}

int main(void)
{
    if (reattn__cuda_devices() == 0) {
        puts("skipped: no CUDA device");
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_errors), cmocka_unit_test(test_arrays),
                                       cmocka_unit_test(test_far)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
