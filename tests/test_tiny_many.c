/* test_tiny_many.c - several sessions in one step, on tiny models of every architecture: each goes on as if it were alone,
 * whatever the others hold, and a failure is one session's own. */
#include "test_util.h"

#include <dirent.h>

#include "base/base.h"
#include "model/bridge.h"
#include "session/session.h"

enum { MOST = 5, STEPS = 8, LONGEST = 600 };
static int type_k = REATTN_SPLIT, type_v = REATTN_F16;

static void path_of(char *path, size_t cap, const char *name)
{
    const char *dir = getenv("REATTN_TINY_DIR");
    assert_non_null(dir);
    snprintf(path, cap, "%s/%s", dir, name);
}

static int32_t token_at(int text, int64_t i)
{
    return (int32_t)(10 + (i * (37 + 2 * text) + i * i + 11 * text) % 200);
}

static reattn_session *open_session(reattn_model *model, const char *policy, int64_t chunk, int64_t limit)
{
    reattn_error err = {0};
    reattn_session *s;
    reattn_session_params p = reattn_session_params_default();
    snprintf(p.policy, sizeof p.policy, "%s", policy);
    p.n_threads = 1;
    p.type_k = type_k;
    p.type_v = type_v;
    p.ctx_limit = limit;
    p.chunk = chunk;
    p.keep = 4;
    p.local = 64;
    p.recall_max = 4;
    p.recall_span = 8;
    p.tail = 16;
    p.pot = 128;
    if (reattn_session_create(model, &p, &s, &err)) fail_msg("%s: %s", policy, err.msg);
    return s;
}

static void read_text(reattn_session *s, int text, int64_t n)
{
    reattn_error err = {0};
    int32_t tokens[LONGEST];
    for (int64_t i = 0; i < n; i++) tokens[i] = token_at(text, i);
    if (reattn_session_prompt(s, tokens, n, NULL, NULL, &err)) fail_msg("%s", err.msg);
}

/* Texts of different lengths under different policies and options: session i of a table. */
static const struct kind {
    const char *policy;
    int64_t chunk, length;
} kinds[MOST] = {{"reattention", 32, 300}, {"streaming", 64, 90}, {"full", 48, 170}, {"infinipot", 32, 250}, {"infllm", 64, 200}};

static reattn_session *open_kind(reattn_model *model, int i, int text)
{
    reattn_session *s = open_session(model, kinds[i].policy, kinds[i].chunk, 0);
    read_text(s, text, kinds[i].length);
    return s;
}

/* Logits after each of STEPS forced tokens of the first session of n, and of all: out [n][STEPS][n_vocab]. `text` says
 * which texts the others hold. */
static void decode_together(reattn_model *model, int n, int text, float *out, int n_vocab)
{
    reattn_error err = {0};
    reattn_session *s[MOST];
    for (int i = 0; i < n; i++) {
        s[i] = open_kind(model, i, i ? i + text : 0);
        reattn_session_reset_stats(s[i]);
    }
    for (int t = 0; t < STEPS; t++) {
        int32_t tokens[MOST];
        for (int i = 0; i < n; i++) tokens[i] = token_at(i ? i + text : 0, 300 + t);
        int codes[MOST];
        if (reattn_session_decode_many(s, tokens, n, codes, &err)) fail_msg("%s", err.msg);
        for (int i = 0; i < n; i++) {
            assert_int_equal(codes[i], 0);
            memcpy(out + ((int64_t)i * STEPS + t) * n_vocab, reattn_session_logits(s[i]), (size_t)n_vocab * sizeof *out);
        }
    }
    for (int i = 0; i < n; i++) {
        reattn_stats stats;
        reattn_session_get_stats(s[i], &stats);
        assert_int_equal(stats.decode_tokens, STEPS);
        assert_int_equal(reattn_session_length(s[i]), kinds[i].length + STEPS);
        assert_int_equal(reattn_session_tokens(s[i])[kinds[i].length], token_at(i ? i + text : 0, 300));
        assert_true(stats.decode_ms > 0 && stats.decode_ms >= stats.attend_ms);
        reattn_session_free(s[i]);
    }
}

static void decode_alone(reattn_model *model, int i, float *out, int n_vocab)
{
    reattn_error err = {0};
    reattn_session *s = open_kind(model, i, i);
    for (int t = 0; t < STEPS; t++) {
        if (reattn_session_decode(s, token_at(i, 300 + t), &err)) fail_msg("%s", err.msg);
        memcpy(out + (int64_t)t * n_vocab, reattn_session_logits(s), (size_t)n_vocab * sizeof *out);
    }
    reattn_session_free(s);
}

static void as_alone(const char *name)
{
    char path[1024];
    reattn_error err = {0};
    reattn_model *model;
    reattn_model_info info;
    path_of(path, sizeof path, name);
    if (reattn_model_load(path, NULL, &model, &err)) fail_msg("%s: %s", name, err.msg);
    reattn_model_get_info(model, &info);
    const int each = info.n_vocab * STEPS;
    float *alone = test_floats(MOST * each), *many = test_floats(MOST * each), *other = test_floats(MOST * each);
    for (int i = 0; i < MOST; i++) decode_alone(model, i, alone + i * each, info.n_vocab);
    static const int counts[] = {1, 2, 5};
    printf("%-20s", name);
    for (int c = 0; c < 3; c++) {
        const int n = counts[c];
        decode_together(model, n, 0, many, info.n_vocab);
        double worst = 0;
        for (int i = 0; i < n; i++) worst = REATTN__MAX(worst, test_difference(many + i * each, alone + i * each, each));
        printf("  %d together: %.1e", n, worst);
        if (n == 1) assert_memory_equal(many, alone, (size_t)each * sizeof *many);
        /* What the others hold is nothing to the first. */
        decode_together(model, n, 20, other, info.n_vocab);
        assert_memory_equal(other, many, (size_t)each * sizeof *many);
        if (n > 1) assert_memory_not_equal(other + each, many + each, (size_t)each * sizeof *many);
    }
    printf("\n");
    free(alone);
    free(many);
    free(other);
    reattn_model_free(model);
}

static void every_model(void **unused)
{
    (void)unused;
    int n = 0;
    DIR *dir = opendir(getenv("REATTN_TINY_DIR"));
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));) {
        size_t len = strlen(e->d_name);
        if (len < 5 || strcmp(e->d_name + len - 5, ".gguf") != 0 || !strncmp(e->d_name, "refused", 7)) continue;
        as_alone(e->d_name);
        n++;
    }
    closedir(dir);
    assert_true(n >= 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_model)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
