/* test_tiny_device.c - models whose layers lie on a GPU (-ngl): the engine on the CPU, which copies what it needs, and
 * the engine on the GPU must agree with libllama on the CPU; both must recall the same, and forget what is rewound.
 * Methods that plan from lengths must come out alike on both. Skipped (77) unless reattn and libllama both have CUDA
 * and there is a device. */
#include "test_util.h"

#include <dirent.h>

#include "base/base.h"
#include "clex_file.h"
#include "model/bridge.h"
#include "session/session.h"

enum { PROMPT = 400, STEPS = 6, ALL = 999, MOST_SPANS = 1 << 16 };

static int n_on_device, n_partly, n_methods;
static const char *const clex_path = "tiny_device_clex.gguf";

static void path_of(char *path, size_t cap, const char *name)
{
    const char *dir = getenv("REATTN_TINY_DIR");
    assert_non_null(dir);
    snprintf(path, cap, "%s/%s", dir, name);
}

static reattn_model *load(const char *path, int n_gpu_layers, int flash)
{
    reattn_error err = {0};
    reattn_model *model;
    reattn_model_params p = reattn_model_params_default();
    p.n_gpu_layers = n_gpu_layers;
    p.n_threads = 1;
    if (reattn__model_load(path, &p, flash, &model, &err))
        fail_msg("%s: %s", path, err.msg);
    return model;
}

/* What the first layer recalled, step by step. */
typedef struct record {
    int64_t n, spans[MOST_SPANS][3];
    int layer;
} record;

static void note(const reattn_trace *t, void *user)
{
    record *r = user;
    if (t->layer != r->layer)
        return;
    for (int64_t i = 0; i < t->n_spans; i++) {
        assert_true(r->n < MOST_SPANS);
        int64_t *to = r->spans[r->n++];
        to[0] = t->token, to[1] = t->spans[i].first, to[2] = t->spans[i].count;
    }
}

static reattn_session *session_of(reattn_model *model, const char *policy, int engine)
{
    reattn_error err = {0};
    reattn_session *s;
    reattn_session_params p = reattn_session_params_default();
    snprintf(p.policy, sizeof p.policy, "%s", policy);
    p.type_k = p.type_v = REATTN_F16;
    p.engine = engine;
    p.n_threads = 1;
    p.ctx_limit = 512;
    p.keep = 4;
    p.chunk = 32;
    p.local = 64;
    p.recall_max = 4;
    p.recall_span = 8;
    p.tail = 16;
    if (reattn__policy_find(policy)->planner == REATTN__PLANS_FROM_LENGTHS) { /* the text leaves the trained length */
        p.ctx_train = 128;
        p.shift = 80;
        snprintf(p.clex, sizeof p.clex, "%s", clex_path);
    }
    if (reattn_session_create(model, &p, &s, &err))
        fail_msg("%s", err.msg);
    return s;
}

/* Logits after a prompt and after each of STEPS forced tokens: out [STEPS + 1][n_vocab]. */
static void run(reattn_session *s, int64_t from, float *out, int n_vocab)
{
    reattn_error err = {0};
    int32_t tokens[PROMPT];
    for (int i = 0; i < PROMPT; i++)
        tokens[i] = 10 + (i * 37 + i * i) % 200;
    if (reattn_session_prompt(s, tokens + from, PROMPT - from, NULL, NULL, &err))
        fail_msg("%s", err.msg);
    for (int i = 0;; i++) {
        memcpy(out + (int64_t)i * n_vocab, reattn_session_logits(s), (size_t)n_vocab * sizeof *out);
        if (i == STEPS)
            break;
        if (reattn_session_decode(s, 20 + i, &err))
            fail_msg("%s", err.msg);
    }
}

static void logits_of(reattn_model *model, const char *policy, int engine, record *r, float *out, int n_vocab)
{
    reattn_session *s = session_of(model, policy, engine);
    if (r) {
        r->n = r->layer = 0;
        reattn_session_set_trace(s, note, r);
    }
    run(s, 0, out, n_vocab);
    reattn_session_free(s);
}

/* Rewinding to a chunk and reading on gives the same bits. */
static void rewinds(reattn_model *model, const char *policy, const float *all, int n, int n_vocab)
{
    reattn_error err = {0};
    reattn_session *s = session_of(model, policy, REATTN_ENGINE_AUTO);
    float *again = test_floats(n);
    run(s, 0, again, n_vocab);
    assert_memory_equal(again, all, (size_t)n * sizeof *all);
    assert_int_equal(reattn_session_anchor(s, 200), 192);
    if (reattn_session_rewind(s, 192, &err))
        fail_msg("%s", err.msg);
    run(s, 192, again, n_vocab);
    assert_memory_equal(again, all, (size_t)n * sizeof *all);
    reattn_stats stats;
    reattn_session_get_stats(s, &stats);
    assert_true(stats.scope_max > 64 && stats.scope_max <= 4 + 4 * 8 + 64 + 32 - 1 && stats.device_ms > 0 &&
                stats.store_bytes > 0);
    reattn_session_free(s);
    free(again);
}

/* With keys and values on the host the same bits come out, after rewinding too. */
static void far(reattn_model *model, const char *policy, const float *all, int n, int n_vocab)
{
    reattn_error err = {0};
    reattn_memory there, here;
    reattn_session *s = session_of(model, policy, REATTN_ENGINE_AUTO);
    reattn_session_params p = *reattn_session_get_params(s);
    reattn_session_free(s);
    float *again = test_floats(n);
    assert_int_equal(reattn_session_memory(model, &p, 100000, &there, &err), REATTN_OK);
    p.store = REATTN_STORE_HOST;
    assert_int_equal(reattn_session_memory(model, &p, 100000, &here, &err), REATTN_OK);
    reattn_device_memory device;
    assert_int_equal(reattn_session_devices(model, &p, &device, 1, &err), 1); /* as all of it is on one */
    assert_true(device.free_bytes > 0 && device.fixed_bytes > 0 && device.n_layer > 0);
    assert_int_equal(device.bytes_per_1000, here.device_bytes_per_1000);
    assert_true(here.device_bytes_per_1000 < there.device_bytes_per_1000 && here.device_bytes < there.device_bytes &&
                here.bytes_per_1000 > there.bytes_per_1000 && here.store_bytes > there.store_bytes);
    if (reattn_session_create(model, &p, &s, &err))
        fail_msg("%s", err.msg);
    assert_non_null(s->engine);
    run(s, 0, again, n_vocab);
    assert_memory_equal(again, all, (size_t)n * sizeof *all);
    if (reattn_session_rewind(s, 192, &err))
        fail_msg("%s", err.msg);
    run(s, 192, again, n_vocab);
    assert_memory_equal(again, all, (size_t)n * sizeof *all);
    reattn_session_free(s);
    free(again);
}

/* A method on both engines, and rewinding on the device. */
static void same_method(reattn_model *model, const char *policy, double allowed, int n, int n_vocab)
{
    float *cpu = test_floats(n), *gpu = test_floats(n);
    reattn_error err = {0};
    reattn_stats stats;
    logits_of(model, policy, REATTN_ENGINE_CPU, NULL, cpu, n_vocab);
    reattn_session *s = session_of(model, policy, REATTN_ENGINE_AUTO);
    assert_non_null(s->engine);
    run(s, 0, gpu, n_vocab);
    double apart = test_difference(gpu, cpu, n);
    if (!(apart <= allowed))
        fail_msg("%s: the engines' logits are %.2e apart, %.2e are allowed", policy, apart, allowed);
    reattn_session_get_stats(s, &stats);
    assert_true(stats.scope_max > 4 && stats.scope_max <= PROMPT + STEPS && stats.device_ms > 0 &&
                stats.keys_scored == 0);
    memcpy(cpu, gpu, (size_t)n * sizeof *cpu);
    assert_true(reattn_session_anchor(s, 200) == 192);
    if (reattn_session_rewind(s, 192, &err))
        fail_msg("%s: %s", policy, err.msg);
    run(s, 192, gpu, n_vocab);
    assert_memory_equal(cpu, gpu, (size_t)n * sizeof *cpu);
    reattn_session_free(s);
    free(cpu);
    free(gpu);
}

static void same_methods(reattn_model *model, double allowed, int n, int n_vocab)
{
    int n_layer;
    const reattn__layer *l = reattn__model_layers(model, &n_layer);
    const int pairs = l->rope.n_rot / 2;
    float *net = calloc((size_t)(pairs * pairs), sizeof *net);
    assert_non_null(net);
    clex_write(clex_path, net, pairs * pairs, net, pairs * pairs, "tanh", 16, 1); /* nothing learned: an NTK rule */
    free(net);
    for (const reattn_policy_info *p = reattn_policy_list(); p->name; p++) {
        const bool scaled = l->rope.ext_factor != 0 || l->rope.freq_scale != 1;
        if (reattn__policy_find(p->name)->planner != REATTN__PLANS_FROM_LENGTHS)
            continue;
        if (strcmp(p->name, "yarn") == 0 && scaled) /* it refuses such a model */
            continue;
        same_method(model, p->name, allowed, n, n_vocab);
        n_methods++;
    }
    remove(clex_path);
}

static void same_recall(const char *name, const record *a, const record *b)
{
    printf("%-16s %" PRId64 " spans recalled in the first layer\n", name, a->n);
    assert_true(a->n > 0);
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->spans, b->spans, (size_t)a->n * sizeof *a->spans);
}

static void check_form(const char *path, const char *name, int layers, int flash, const float *precise, int n_vocab)
{
    int n = n_vocab * (STEPS + 1), n_layer;
    reattn_model *model = load(path, layers, flash);
    const int *places = reattn__model_places(model);
    float *native = test_floats(n), *copied = test_floats(n), *there = test_floats(n);
    record *cpu = malloc(sizeof *cpu), *gpu = malloc(sizeof *gpu);
    assert_true(cpu && gpu);
    reattn__model_layers(model, &n_layer);
    bool device = places[n_layer - 1] >= 0;

    logits_of(model, "native", REATTN_ENGINE_AUTO, NULL, native, n_vocab);
    logits_of(model, "full", REATTN_ENGINE_CPU, NULL, copied, n_vocab);
    logits_of(model, "full", REATTN_ENGINE_AUTO, NULL, there, n_vocab);
    double theirs = test_difference(native, precise, n), ours = test_difference(copied, precise, n),
           here = test_difference(there, precise, n);
    printf(
        "%-16s -ngl %d, flash attention %s, first layer at %d, last at %d: native %.2e, engine on the CPU %.2e, where "
        "the layers are %.2e\n",
        name, layers, flash == REATTN_FLASH_OFF ? "off" : "auto", places[0], places[n_layer - 1], theirs, ours, here);
    assert_true(theirs > 0 && ours <= 2 * theirs && here <= 2 * theirs);

    reattn_session *s = session_of(model, "reattention", REATTN_ENGINE_AUTO);
    bool has = s->engine != NULL;
    reattn_session_free(s);
    int D = reattn__model_layers(model, &n_layer)[0].D;
    assert_true(has == (device && (D == 64 || D == 96 || D == 128 || D == 256)));
    if (has) {
        n_on_device++;
        n_partly += places[0] < 0;
        logits_of(model, "reattention", REATTN_ENGINE_CPU, cpu, copied, n_vocab);
        logits_of(model, "reattention", REATTN_ENGINE_AUTO, gpu, there, n_vocab);
        same_recall(name, cpu, gpu);
        assert_true(test_difference(there, copied, n) <
                    1); /* finite, and the same in kind: later layers may recall others */
        rewinds(model, "reattention", there, n, n_vocab);
        far(model, "reattention", there, n, n_vocab);
        logits_of(model, "streaming", REATTN_ENGINE_CPU, NULL, copied, n_vocab);
        logits_of(model, "streaming", REATTN_ENGINE_AUTO, NULL, there, n_vocab);
        far(model, "streaming", there, n, n_vocab);
        assert_true(test_difference(there, copied, n) <= 2 * theirs);
        if (flash == REATTN_FLASH_AUTO)
            same_methods(model, 2 * theirs, n, n_vocab);
    }
    free(native);
    free(copied);
    free(there);
    free(cpu);
    free(gpu);
    reattn_model_free(model);
}

static void check_model(const char *name)
{
    char path[1024];
    reattn_model_info info;
    path_of(path, sizeof path, name);
    reattn_model *model = load(path, 0, REATTN_FLASH_AUTO);
    reattn_model_get_info(model, &info);
    int n = info.n_vocab * (STEPS + 1);
    float *precise = test_floats(n);
    /* On the CPU, with an f32 cache and without flash attention: the most precise that libllama has. */
    reattn_session_params p = reattn_session_params_default();
    reattn_session *s;
    reattn_error err = {0};
    snprintf(p.policy, sizeof p.policy, "native");
    p.type_k = p.type_v = REATTN_F32;
    p.n_threads = 1;
    p.ctx_limit = 512;
    if (reattn_session_create(model, &p, &s, &err))
        fail_msg("%s", err.msg);
    run(s, 0, precise, info.n_vocab);
    reattn_session_free(s);
    reattn_model_free(model);

    check_form(path, name, ALL, REATTN_FLASH_AUTO, precise, info.n_vocab);
    check_form(path, name, ALL, REATTN_FLASH_OFF, precise, info.n_vocab);
    check_form(path, name, 2, REATTN_FLASH_AUTO, precise, info.n_vocab); /* the output and the last layer */
    free(precise);
}

static void every_model(void **unused)
{
    (void)unused;
    DIR *dir = opendir(getenv("REATTN_TINY_DIR"));
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));) {
        size_t len = strlen(e->d_name);
        if (len < 5 || strcmp(e->d_name + len - 5, ".gguf") != 0 || strncmp(e->d_name, "refused", 7) == 0)
            continue;
        check_model(e->d_name);
    }
    closedir(dir);
    assert_true(n_on_device >= 4 && n_partly >= 2 && n_methods >= 8 * 6);
}

int main(void)
{
    char path[1024];
    path_of(path, sizeof path, "wide_llama.gguf");
    reattn_model *model = load(path, ALL, REATTN_FLASH_AUTO);
    bool device = reattn__model_places(model)[0] >= 0;
    reattn_model_free(model);
    if (!device) {
        puts("skipped: no layer of a model comes to lie on a CUDA device that reattn knows");
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_model)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
