/* test_policy_bytes.c - what policies say that they take (bytes_for) against what they take: memory is counted around
 * every call of a policy, over texts of several lengths. */
#include "test_world.h"

#include <malloc.h>

#include "clex_file.h"
#include "session/place.h"

/* Bytes that are allocated now, as the sanitizer counts them or as the C library does. */
size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));
static int64_t allocated(void)
{
    if (__sanitizer_get_current_allocated_bytes) return (int64_t)__sanitizer_get_current_allocated_bytes();
    const struct mallinfo2 info = mallinfo2();
    return (int64_t)(info.uordblks + info.hblkhd);
}

enum { H = 8, HK = 2, D = 32, N = 1024, CHUNK = 64, DECODE = 8, MOST = 4000 };
static const char clex_file[] = "policy-bytes.gguf";

/* A text of n tokens in all layers. Returns what the policy has taken at the end, at most: plans are not its own. */
static int64_t taken_by(world *w, int64_t n)
{
    test_rng rng = {3};
    reattn_error err = {0};
    const reattn__layer *l = &w->layer;
    float *mass = test_floats((int64_t)H * (w->params.local + CHUNK + n));
    assert_int_equal(reattn__params_resolve(&w->params, N, &err), 0);
    int64_t taken = -allocated();
    if (w->policy->create) assert_int_equal(w->policy->create(&w->params, w->layers, WORLD_LAYERS, &w->state, &err), 0);
    taken += allocated();
    while (w->n < n) {
        const bool decode = w->n >= n - DECODE;
        const int64_t T = decode ? 1 : REATTN__MIN(CHUNK, n - DECODE - w->n);
        float *q = w->q + w->n * H * D, *k = w->k + w->n * HK * D, *v = w->v + w->n * HK * D;
        test_fill_normal(&rng, q, T * H * D, 1);
        test_fill_normal(&rng, k, T * HK * D, 1);
        test_fill_normal(&rng, v, T * HK * D, 1);
        w->n += T;
        assert_int_equal(reattn__store_reserve(w->store, w->n, &err), 0);
        for (int layer = 0; layer < WORLD_LAYERS; layer++) {
            reattn__step step = {.params = &w->params, .shape = l, .store = w->store, .layer = layer, .decode = decode,
                                 .T = T, .n = w->n, .q = q, .k = k, .v = v, .scored = &w->scored,
                                 .rescored = &w->rescored};
            assert_int_equal(reattn__store_append(w->store, layer, T, k, v, &err), 0);
            int64_t plans = 0, before = allocated();
            for (int i = 0; i < 4; i++) plans -= (int64_t)w->plan.memory[i].bytes;
            assert_int_equal(w->policy->plan(w->state, &step, &w->plan, &err), 0);
            for (int i = 0; i < w->plan.n_list; i++) /* as attention would have it */
                if (w->plan.lists[i].rope)
                    assert_int_equal(reattn__rope_table_need(w->plan.lists[i].rope, w->n, &err), 0);
            for (int i = 0; i < 4; i++) plans += (int64_t)w->plan.memory[i].bytes;
            if (w->policy->learn && w->plan.mass_run >= 0) {
                for (int64_t i = 0; i < H * w->plan.lists[0].runs[w->plan.mass_run].count; i++)
                    mass[i] = (float)test_unit(&rng);
                assert_int_equal(w->policy->learn(w->state, &step, mass, &err), 0);
            }
            taken += allocated() - before - plans;
        }
    }
    free(mass);
    return taken;
}

static void open_policy(world *w, const char *policy, int type_k)
{
    world_open(w, policy, type_k, H, HK, D, MOST);
    w->params.chunk = CHUNK;
    w->params.tail = 16;
    w->params.local = 128;
    w->params.recall_max = 4;
    snprintf(w->params.clex, sizeof w->params.clex, "%s", clex_file);
}

/* Never less than what is taken, and not several times as much. */
static void as_much_as_is_taken(void **unused)
{
    static const int types[] = {REATTN_SPLIT, REATTN_F16};
    static const int64_t lengths[] = {100, 700, 2000, MOST};
    (void)unused;
    for (const reattn_policy_info *p = reattn_policy_list(); p->name; p++)
        for (size_t t = 0; t < sizeof types / sizeof *types; t++)
            for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
                world w;
                uint64_t grows = 0;
                open_policy(&w, p->name, types[t]);
                if (w.policy->native) {
                    world_close(&w);
                    continue;
                }
                const int64_t n = w.policy->budget ? REATTN__MIN(lengths[i], N / 2) : lengths[i];
                const int64_t taken = taken_by(&w, n);
                int64_t most = 0;
                if (w.policy->bytes_for)
                    most = (int64_t)w.policy->bytes_for(&w.params, w.layers, WORLD_LAYERS, n, &grows);
                most += (int64_t)grows;
                /* What a method has for its own book-keeping. */
                if (taken > most + 8192)
                    fail_msg("%s, %d tokens, type %d: %d bytes taken, %d estimated", p->name, (int)n, types[t],
                             (int)taken, (int)most);
                /* The searches' scratch is that of any number of keys, cut into more parts than these are. */
                if (n >= 2000 && most > 4 * taken + 8192)
                    fail_msg("%s, %d tokens, type %d: %d bytes estimated, %d taken", p->name, (int)n, types[t],
                             (int)most, (int)taken);
                world_close(&w);
            }
}

/* How many tokens fit: exact in whole thousands, and no overflow at either end. */
static void tokens_that_fit(void **unused)
{
    (void)unused;
    assert_int_equal(reattn_tokens_that_fit(0, 0, 1000), 0);
    assert_int_equal(reattn_tokens_that_fit(500, 501, 1000), 0);
    assert_int_equal(reattn_tokens_that_fit(1500, 500, 1000), 1000);
    assert_int_equal(reattn_tokens_that_fit(1500, 500, 3000), 333);
    assert_int_equal(reattn_tokens_that_fit(UINT64_C(80) << 30, UINT64_C(1) << 30, UINT64_C(131072000)), 647168);
    assert_true(reattn_tokens_that_fit(500, 0, 0) == INT64_MAX);
    assert_int_equal(reattn_tokens_that_fit(500, 500, 0), 0);
    assert_true(reattn_tokens_that_fit(UINT64_MAX, 0, 1) == INT64_MAX);
    assert_true(reattn_tokens_that_fit(UINT64_MAX, 0, 2001) > INT64_MAX / 2);
}

/* Layers by the device that they lie on, devices by their first layer. */
static void layers_of_devices(void **unused)
{
    (void)unused;
    static const int device[] = {-1, 1, 1, 0, -1, 1};
    int mask[6];
    assert_int_equal(reattn__layers_of_device(device, 6, 0, mask), 3);
    assert_memory_equal(mask, ((int[]){-1, 1, 1, -1, -1, 1}), sizeof mask);
    assert_int_equal(reattn__layers_of_device(device, 6, 1, mask), 1);
    assert_memory_equal(mask, ((int[]){-1, -1, -1, 0, -1, -1}), sizeof mask);
    assert_int_equal(reattn__layers_of_device(device, 6, 2, mask), 0);
    assert_int_equal(reattn__layers_of_device(device, 1, 0, mask), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_much_as_is_taken), cmocka_unit_test(tokens_that_fit),
                                       cmocka_unit_test(layers_of_devices)};
    float up[64], down[64];
    test_rng rng = {5};
    test_fill_normal(&rng, up, 64, 0.1f);
    test_fill_normal(&rng, down, 64, 0.1f);
    clex_write(clex_file, up, 64, down, 64, "silu", 8, 1);
    int failed = cmocka_run_group_tests_name("policy bytes", tests, NULL, NULL);
    remove(clex_file);
    return failed;
}
