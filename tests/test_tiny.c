/* test_tiny.c - every architecture that the bridge knows, on tiny models with random weights: full attention by the
 * engine must agree with libllama's own; what is unsupported must be refused with the layer and the reason. */
#include "test_util.h"

#include <dirent.h>

#include "base/base.h"
#include "model/bridge.h"
#include "reattn/reattn.h"
#include "session/session.h"

enum { PROMPT = 200, STEPS = 6 };

static void path_of(char *path, size_t cap, const char *name)
{
    const char *dir = getenv("REATTN_TINY_DIR");
    assert_non_null(dir);
    snprintf(path, cap, "%s/%s", dir, name);
}

/* Logits after a prompt and after each of STEPS forced tokens: out [STEPS + 1][n_vocab]. */
static void logits_of(reattn_model *model, const char *policy, int type, float *out, int n_vocab)
{
    reattn_error err = {0};
    reattn_session *s;
    reattn_session_params p = reattn_session_params_default();
    int32_t tokens[PROMPT];
    snprintf(p.policy, sizeof p.policy, "%s", policy);
    p.type_k = p.type_v = type;
    p.n_threads = 1;
    p.chunk = 64;
    p.ctx_limit = 512;
    for (int i = 0; i < PROMPT; i++) tokens[i] = 10 + (i * 37 + i * i) % 200;
    if (reattn_session_create(model, &p, &s, &err)) fail_msg("%s", err.msg);
    if (reattn_session_prompt(s, tokens, PROMPT, NULL, NULL, &err)) fail_msg("%s", err.msg);
    for (int i = 0;; i++) {
        memcpy(out + (int64_t)i * n_vocab, reattn_session_logits(s), (size_t)n_vocab * sizeof *out);
        if (i == STEPS) break;
        if (reattn_session_decode(s, 20 + i, &err)) fail_msg("%s", err.msg);
    }
    reattn_session_free(s);
}

/* The same by libllama without flash attention and with an f32 cache: the most precise that it has. */
static void precise_logits_of(reattn_model *model, float *out, int n_vocab)
{
    reattn_error err = {0};
    reattn__native *native;
    int32_t tokens[PROMPT];
    for (int i = 0; i < PROMPT; i++) tokens[i] = 10 + (i * 37 + i * i) % 200;
    if (reattn__native_create(model, 512, PROMPT, REATTN_F32, REATTN_F32, REATTN_FLASH_OFF, 1, &native, &err))
        fail_msg("%s", err.msg);
    if (reattn__native_run(native, tokens, PROMPT, 1, &err)) fail_msg("%s", err.msg);
    for (int i = 0;; i++) {
        memcpy(out + (int64_t)i * n_vocab, reattn__native_logits(native, i ? 0 : PROMPT - 1),
               (size_t)n_vocab * sizeof *out);
        if (i == STEPS) break;
        if (reattn__native_run(native, &(int32_t){20 + i}, 1, 1, &err)) fail_msg("%s", err.msg);
    }
    reattn__native_free(native);
}

/* Where libllama attends in parts, without flash attention, what is taken and replaced is the same: so are the bits. */
static void agrees_apart(const char *path, const float *full, int n, int n_vocab)
{
    reattn_error err = {0};
    reattn_model *model;
    float *apart = test_floats(n);
    if (reattn__model_load(path, NULL, REATTN_FLASH_OFF, &model, &err)) fail_msg("%s: %s", path, err.msg);
    logits_of(model, "full", REATTN_F16, apart, n_vocab);
    assert_memory_equal(apart, full, (size_t)n * sizeof *apart);
    free(apart);
    reattn_model_free(model);
}

static void agrees(const char *name)
{
    char path[1024];
    reattn_error err = {0};
    reattn_model *model;
    reattn_model_info info;
    path_of(path, sizeof path, name);
    if (reattn_model_load(path, NULL, &model, &err)) fail_msg("%s: %s", name, err.msg);
    reattn_model_get_info(model, &info);
    int n = info.n_vocab * (STEPS + 1);
    float *precise = test_floats(n), *native = test_floats(n), *full = test_floats(n), *all = test_floats(n);
    precise_logits_of(model, precise, info.n_vocab);
    logits_of(model, "native", REATTN_F16, native, info.n_vocab);
    logits_of(model, "full", REATTN_F16, full, info.n_vocab);
    logits_of(model, "reattention", REATTN_F16, all, info.n_vocab);
    /* The error of an f16 cache is what libllama itself shows with one. */
    double ours = test_difference(full, precise, n), theirs = test_difference(native, precise, n);
    printf("%-24s against f32: full %.2e, native %.2e\n", name, ours, theirs);
    assert_true(theirs > 0 && ours <= 2 * theirs);
    /* 206 tokens are fewer than G + L: reattention has the same scope as full, and the same bits. */
    assert_memory_equal(all, full, (size_t)n * sizeof *all);
    agrees_apart(path, full, n, info.n_vocab);
    free(precise);
    free(native);
    free(full);
    free(all);
    reattn_model_free(model);
}

static void refused(const char *name)
{
    char path[1024];
    reattn_error err = {0};
    reattn_model *model = NULL;
    path_of(path, sizeof path, name);
    assert_int_equal(reattn_model_load(path, NULL, &model, &err), REATTN_E_UNSUPPORTED);
    printf("%-24s %s\n", name, err.msg);
    assert_non_null(strstr(err.msg, "layer"));
    assert_non_null(strstr(err.msg, "native"));
    assert_int_equal(reattn__model_load(path, NULL, REATTN_FLASH_OFF, &model, &err), REATTN_E_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "layer"));
    /* The baseline still runs it. */
    assert_int_equal(reattn_model_load_native(path, NULL, &model, &err), 0);
    reattn_session_params p = reattn_session_params_default();
    reattn_session *s = NULL;
    p.n_threads = 1;
    assert_int_equal(reattn_session_create(model, &p, &s, &err), REATTN_E_ARG);
    snprintf(p.policy, sizeof p.policy, "native");
    assert_int_equal(reattn_session_create(model, &p, &s, &err), 0);
    assert_int_equal(reattn_session_prompt(s, (int32_t[]){10, 11, 12}, 3, NULL, NULL, &err), 0);
    assert_non_null(reattn_session_logits(s));
    reattn_session_free(s);
    reattn_model_free(model);
}

static void every_model(void **unused)
{
    (void)unused;
    int n_agree = 0, n_refused = 0;
    DIR *dir = opendir(getenv("REATTN_TINY_DIR"));
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));) {
        size_t len = strlen(e->d_name);
        if (len < 5 || strcmp(e->d_name + len - 5, ".gguf") != 0) continue;
        bool refuse = strncmp(e->d_name, "refused", 7) == 0;
        if (refuse) refused(e->d_name);
        else agrees(e->d_name);
        n_refused += refuse;
        n_agree += !refuse;
    }
    closedir(dir);
    assert_true(n_agree >= 6 && n_refused >= 2);
}

/* Past the trained length: the scope stays finite, the text does not. */
static void longer_than_trained(void **unused)
{
    (void)unused;
    char path[1024];
    reattn_error err = {0};
    reattn_model *model;
    reattn_session *s;
    reattn_stats stats;
    int32_t tokens[1500];
    path_of(path, sizeof path, "llama.gguf");
    if (reattn_model_load(path, NULL, &model, &err)) fail_msg("%s", err.msg);
    for (int i = 0; i < 1500; i++) tokens[i] = 10 + (i * 37 + i * i) % 200;
    reattn_session_params p = reattn_session_params_default();
    p.n_threads = 1;
    if (reattn_session_create(model, &p, &s, &err)) fail_msg("%s", err.msg);
    if (reattn_session_prompt(s, tokens, 1500, NULL, NULL, &err)) fail_msg("%s", err.msg);
    for (int i = 0; i < 20; i++) assert_int_equal(reattn_session_decode(s, 30 + i, &err), 0);
    reattn_session_get_stats(s, &stats);
    assert_int_equal(reattn_session_length(s), 1520);
    assert_true(stats.scope_max > 256 && stats.scope_max <= 512);
    assert_true(reattn__all_finite(reattn_session_logits(s), 10));
    reattn_session_free(s);
    reattn_model_free(model);
}

/* A text that is attended to whole may be larger than the scope: the rotated keys that decode keeps are estimated. */
static void memory_of_whole_texts(void **unused)
{
    (void)unused;
    char path[1024];
    reattn_error err = {0};
    reattn_model *model;
    reattn_session *s;
    reattn_memory memory;
    int32_t tokens[250];
    int n_layer;
    uint64_t kept = 0;
    path_of(path, sizeof path, "llama.gguf");
    if (reattn_model_load(path, NULL, &model, &err)) fail_msg("%s", err.msg);
    for (int i = 0; i < 250; i++) tokens[i] = 10 + (i * 37 + i * i) % 200;
    reattn_session_params p = reattn_session_params_default();
    p.n_threads = 1;
    p.local = p.chunk = 32;
    p.recall_max = 1;
    p.recall_from = 256;
    const reattn__layer *layers = reattn__model_layers(model, &n_layer);
    if (reattn_session_memory(model, &p, 256, &memory, &err)) fail_msg("%s", err.msg);
    if (reattn_session_create(model, &p, &s, &err)) fail_msg("%s", err.msg);
    if (reattn_session_prompt(s, tokens, 250, NULL, NULL, &err)) fail_msg("%s", err.msg);
    for (int i = 0; i < 6; i++) assert_int_equal(reattn_session_decode(s, 30 + i, &err), 0);
    for (int l = 0; l < n_layer; l++) kept += reattn__turned_bytes(&layers[l], s->turned[l].n_slot);
    assert_true(s->turned[0].n_slot >= 256 / REATTN__BLOCK);
    assert_true(memory.scratch_bytes - reattn__attend_scratch(layers, p.chunk, 1) >= kept);
    reattn_session_free(s);
    reattn_model_free(model);
}

/* Bytes that a session has taken beside keys and values, as far as its insides show; a policy's own are in
 * test_policy_bytes.c. */
static uint64_t taken_by(const reattn_session *s, int n_vocab)
{
    uint64_t bytes = 0, rows = s->native ? 2 : REATTN__MIN(s->params.chunk, (int64_t)REATTN__BRIDGE_APART);
    if (s->policy->budget) rows = (uint64_t)s->params.chunk + REATTN__ROWS;
    for (int i = 0; i < s->n_rope; i++)
        bytes += (uint64_t)s->ropes[i].n_pos * (uint64_t)(s->ropes[i].rope.n_rot / 2) * 4 * sizeof(float);
    for (int l = 0; s->turned && l < s->n_row; l++) bytes += reattn__turned_bytes(&s->rows[l], s->turned[l].n_slot);
    for (int i = 0; i < REATTN__ATTEND_BUFFERS; i++) bytes += s->attend_work[i].bytes;
    return bytes + s->lse.bytes + s->mass.bytes + rows * (uint64_t)n_vocab * sizeof(float);
}

static void memory_of_every_policy(void **unused)
{
    (void)unused;
    char path[1024];
    reattn_error err = {0};
    reattn_model *model;
    reattn_model_info info;
    int32_t tokens[1000];
    path_of(path, sizeof path, "llama.gguf");
    if (reattn_model_load(path, NULL, &model, &err)) fail_msg("%s", err.msg);
    assert_int_equal(reattn_session_devices(model, NULL, NULL, 0, &err), 0); /* all of it on the CPU */
    reattn_model_get_info(model, &info);
    for (int i = 0; i < 1000; i++) tokens[i] = 10 + (i * 37 + i * i) % 200;
    for (const reattn_policy_info *policy = reattn_policy_list(); policy->name; policy++) {
        reattn_session_params p = reattn_session_params_default();
        reattn_memory memory, none;
        reattn_session *s;
        if (!strcmp(policy->name, "clex")) continue; /* needs a file; as ntk */
        snprintf(p.policy, sizeof p.policy, "%s", policy->name);
        p.n_threads = 1;
        p.local = p.chunk = 64;
        p.recall_max = 2;
        p.keep = 8;
        p.ctx_limit = 1100;
        if (reattn_session_memory(model, &p, 1006, &memory, &err)) fail_msg("%s", err.msg);
        if (reattn_session_memory(model, &p, 0, &none, &err)) fail_msg("%s", err.msg);
        if (reattn_session_create(model, &p, &s, &err)) fail_msg("%s: %s", policy->name, err.msg);
        if (reattn_session_prompt(s, tokens, 1000, NULL, NULL, &err)) fail_msg("%s: %s", policy->name, err.msg);
        for (int i = 0; i < 6; i++) assert_int_equal(reattn_session_decode(s, 30 + i, &err), 0);
        if (taken_by(s, info.n_vocab) > memory.scratch_bytes + memory.policy_bytes)
            fail_msg("%s: %llu bytes taken, %llu and %llu estimated", policy->name,
                     (unsigned long long)taken_by(s, info.n_vocab), (unsigned long long)memory.scratch_bytes,
                     (unsigned long long)memory.policy_bytes);
        assert_int_equal(none.scratch_bytes, memory.scratch_bytes); /* whatever the text's length */
        assert_int_equal(none.store_bytes + none.policy_bytes, 0);
        const bool bounded = s->policy->finite || s->policy->budget || s->native;
        assert_int_equal(memory.policy_bytes > 0, !bounded || !strcmp(policy->name, "infllm"));
        reattn_session_free(s);
    }
    reattn_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_model), cmocka_unit_test(longer_than_trained),
                                       cmocka_unit_test(memory_of_whole_texts),
                                       cmocka_unit_test(memory_of_every_policy)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
