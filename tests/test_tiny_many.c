/* test_tiny_many.c - several sessions in one step, on tiny models of every architecture and, where layers come to lie
 * on a CUDA device, with -ngl: each goes on as if it were alone, whatever the others hold, and a failure is one
 * session's own. */
#include "test_util.h"

#include <dirent.h>

#include "base/base.h"
#include "model/bridge.h"
#include "session/session.h"

enum { MOST = 5, STEPS = 8, LONGEST = 600, ALL = 999 };

static int type_k = REATTN_SPLIT, type_v = REATTN_F16;
static int n_scored; /* logits of a row */

/* Texts of different lengths under different policies and options. */
static const struct kind {
    const char *policy;
    int64_t chunk, length;
} kinds[MOST] = {{"reattention", 32, 300}, {"streaming", 64, 90},  {"full", 48, 170},
                 {"infinipot", 32, 250},   {"reattention", 64, 60}};

static reattn_model *load(const char *name, int n_gpu_layers)
{
    char path[1024];
    reattn_error err = {0};
    reattn_model *model;
    reattn_model_params p = reattn_model_params_default();
    p.n_gpu_layers = n_gpu_layers;
    p.n_threads = 1;
    snprintf(path, sizeof path, "%s/%s", getenv("REATTN_TINY_DIR"), name);
    if (reattn_model_load(path, &p, &model, &err))
        fail_msg("%s: %s", path, err.msg);
    return model;
}

static int vocabulary(const reattn_model *model)
{
    reattn_model_info info;
    reattn_model_get_info(model, &info);
    return info.n_vocab;
}

static int32_t token_at(int text, int64_t i)
{
    return (int32_t)(10 + (i * (37 + 2 * text) + i * i + 11 * text) % 200);
}

static reattn_session_params params_of(const char *policy)
{
    reattn_session_params p = reattn_session_params_default();
    snprintf(p.policy, sizeof p.policy, "%s", policy);
    p.n_threads = 1;
    p.type_k = type_k;
    p.type_v = type_v;
    p.ctx_limit = 512;
    p.chunk = 32;
    p.keep = 4;
    p.local = 64;
    p.recall_max = 4;
    p.recall_span = 8;
    p.tail = 16;
    p.pot = 128;
    return p;
}

static reattn_session *open_session(reattn_model *model, const reattn_session_params *p, int text, int64_t n)
{
    reattn_error err = {0};
    reattn_session *s;
    int32_t tokens[LONGEST];
    for (int64_t i = 0; i < n; i++)
        tokens[i] = token_at(text, i);
    if (reattn_session_create(model, p, &s, &err) || (n && reattn_session_prompt(s, tokens, n, NULL, NULL, &err)))
        fail_msg("%s: %s", p->policy, err.msg);
    return s;
}

static reattn_session *open_kind(reattn_model *model, int i, int text)
{
    reattn_session_params p = params_of(kinds[i].policy);
    p.chunk = kinds[i].chunk;
    return open_session(model, &p, text, kinds[i].length);
}

static void keep_logits(const reattn_session *s, float *out, int n_vocab)
{
    assert_non_null(reattn_session_logits(s));
    memcpy(out, reattn_session_logits(s), (size_t)n_vocab * sizeof *out);
}

/* Logits after each of STEPS forced tokens: out [STEPS][n_vocab]. */
static void decode_alone(reattn_session *s, int text, float *out, int n_vocab)
{
    reattn_error err = {0};
    for (int t = 0; t < STEPS; t++) {
        if (reattn_session_decode(s, token_at(text, 300 + t), &err))
            fail_msg("%s", err.msg);
        keep_logits(s, out + (int64_t)t * n_vocab, n_vocab);
    }
    reattn_session_free(s);
}

/* The same of n sessions together: out [n][STEPS][n_vocab]. The first holds text 0, the others `others` and on. */
static void decode_together(reattn_model *model, int n, int others, float *out, int n_vocab)
{
    reattn_error err = {0};
    reattn_session *s[MOST];
    for (int i = 0; i < n; i++) {
        s[i] = open_kind(model, i, i ? i + others : 0);
        reattn_session_reset_stats(s[i]);
    }
    for (int t = 0; t < STEPS; t++) {
        int32_t tokens[MOST];
        int codes[MOST] = {1, 1, 1, 1, 1};
        for (int i = 0; i < n; i++)
            tokens[i] = token_at(i ? i + others : 0, 300 + t);
        if (reattn_session_decode_many(s, tokens, n, codes, &err))
            fail_msg("%s", err.msg);
        for (int i = 0; i < n; i++) {
            assert_int_equal(codes[i], 0);
            keep_logits(s[i], out + ((int64_t)i * STEPS + t) * n_vocab, n_vocab);
        }
    }
    for (int i = 0; i < n; i++) {
        reattn_stats stats;
        reattn_session_get_stats(s[i], &stats);
        assert_int_equal(stats.decode_tokens, STEPS);
        assert_int_equal(reattn_session_length(s[i]), kinds[i].length + STEPS);
        assert_int_equal(reattn_session_tokens(s[i])[kinds[i].length], token_at(i ? i + others : 0, 300));
        assert_true(stats.attend_ms + stats.device_ms > 0);
        assert_true(stats.decode_ms >= stats.attend_ms + stats.select_ms + stats.append_ms + stats.device_ms);
        reattn_session_free(s[i]);
    }
}

static bool keep_row(int64_t position, const float *logits, void *user)
{
    float **next = user;
    (void)position;
    memcpy(*next, logits, (size_t)n_scored * sizeof **next);
    *next += n_scored;
    return true;
}

/* The same of tokens read in one step. */
static void read_at_once(reattn_session *s, int text, float *out, int n_vocab)
{
    reattn_error err = {0};
    int32_t tokens[STEPS];
    for (int t = 0; t < STEPS; t++)
        tokens[t] = token_at(text, 300 + t);
    n_scored = n_vocab;
    if (reattn_session_score(s, tokens, STEPS, keep_row, &out, &err))
        fail_msg("%s", err.msg);
    reattn_session_free(s);
}

/* libllama by itself, on the texts of all kinds, of which the worst counts. error: how far it is, with an f16 cache
 * where the model lies, from the most precise that it has, token by token or with several rows in its matrix products,
 * whichever is more. rows: how far apart these two are, with an f32 cache; on some processors it rounds to 16 bits in
 * one of them. */
typedef struct native {
    double error, rows;
} native;

static native look_at_native(const char *name, reattn_model *model)
{
    reattn_model *host = load(name, 0);
    const int n_vocab = vocabulary(model), n = n_vocab * STEPS;
    float *precise = test_floats(n), *other = test_floats(n);
    reattn_session_params p = params_of("native");
    native out = {0, 0};
    for (int i = 0; i < MOST; i++) {
        const int64_t length = kinds[i].length;
        p.type_k = p.type_v = REATTN_F32;
        decode_alone(open_session(host, &p, i, length), i, precise, n_vocab);
        read_at_once(open_session(model, &p, i, length), i, other, n_vocab);
        out.rows = fmax(out.rows, test_difference(other, precise, n));
        p.type_k = p.type_v = REATTN_F16;
        decode_alone(open_session(model, &p, i, length), i, other, n_vocab);
        out.error = fmax(out.error, test_difference(other, precise, n));
        read_at_once(open_session(model, &p, i, length), i, other, n_vocab);
        out.error = fmax(out.error, test_difference(other, precise, n));
    }
    free(precise);
    free(other);
    reattn_model_free(host);
    return out;
}

static void as_alone(const char *name, reattn_model *model, double allowed)
{
    static const int counts[] = {1, 2, MOST};
    const int n_vocab = vocabulary(model), each = n_vocab * STEPS;
    float *alone = test_floats(MOST * each), *many = test_floats(MOST * each), *other = test_floats(MOST * each);
    for (int i = 0; i < MOST; i++)
        decode_alone(open_kind(model, i, i), i, alone + i * each, n_vocab);
    printf("%-20s %.1e allowed;", name, allowed);
    for (int c = 0; c < 3; c++) {
        const int n = counts[c];
        double worst = 0;
        decode_together(model, n, 0, many, n_vocab);
        for (int i = 0; i < n; i++)
            worst = fmax(worst, test_difference(many + i * each, alone + i * each, each));
        printf(" %d: %.1e", n, worst);
        assert_true(worst <= allowed);
        if (n == 1)
            assert_memory_equal(many, alone, (size_t)each * sizeof *many);
        /* What the others hold is nothing to the first. */
        decode_together(model, n, 20, other, n_vocab);
        assert_memory_equal(other, many, (size_t)each * sizeof *many);
        if (n > 1)
            assert_memory_not_equal(other + each, many + each, (size_t)each * sizeof *many);
    }
    printf("\n");
    free(alone);
    free(many);
    free(other);
}

static void check_model(const char *name)
{
    reattn_model *model = load(name, 0);
    const native its = look_at_native(name, model);
    as_alone(name, model, 2 * its.error);
    /* Nothing that is stored is rounded to 16 bits: what is left is libllama's. */
    type_k = type_v = REATTN_F32;
    as_alone(name, model, 1e-5 + 4 * its.rows);
    type_k = REATTN_SPLIT;
    type_v = REATTN_F16;
    reattn_model_free(model);
    if (!reattn__device_engine())
        return;
    model = load(name, ALL);
    if (reattn__model_places(model)[0] >= 0)
        as_alone(name, model, 2 * look_at_native(name, model).error);
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
        if (len < 5 || strcmp(e->d_name + len - 5, ".gguf") != 0 || !strncmp(e->d_name, "refused", 7))
            continue;
        check_model(e->d_name);
        n++;
    }
    closedir(dir);
    assert_true(n >= 4);
}

/* ------------------------------------------------------------------------------------------- failures -------- */

/* A session that stops in the middle of a step: its own trace asks for it. */
static void stop(const reattn_trace *t, void *user)
{
    (void)t;
    reattn_session_cancel(user);
}

enum { AT_LIMIT, FINE, STOPPED, NO_NUMBER, ALSO_FINE, NO_TOKEN, N_ROLES };

typedef struct outcome {
    int code, codes[N_ROLES];
    reattn_error err;
    float *logits; /* [N_ROLES][n_vocab], of those that took their tokens */
} outcome;

/* A step before, a step in which the sessions of `failing` fail, and a step after it. */
static outcome run_roles(reattn_model *model, bool failing, float *logits)
{
    const int n_vocab = vocabulary(model);
    const int64_t n = 200;
    reattn_session *s[N_ROLES];
    int32_t tokens[N_ROLES];
    outcome out = {.logits = logits};
    for (int i = 0; i < N_ROLES; i++) {
        reattn_session_params p = params_of("reattention");
        p.ctx_limit = i == AT_LIMIT ? n + 1 : 512;
        s[i] = open_session(model, &p, i, n);
        tokens[i] = token_at(i, n);
    }
    assert_int_equal(reattn_session_decode_many(s, tokens, N_ROLES, NULL, NULL), 0);
    if (failing) {
        reattn_session_set_trace(s[STOPPED], stop, s[STOPPED]);
        tokens[NO_NUMBER] = 5;
        tokens[NO_TOKEN] = n_vocab; /* no such token */
        out.code = reattn_session_decode_many(s, tokens, N_ROLES, out.codes, &out.err);
        for (int i = 0; i < N_ROLES; i++)
            assert_int_equal(reattn_session_length(s[i]), n + 1 + (out.codes[i] == 0));
        reattn_session_set_trace(s[STOPPED], NULL, NULL);
    } else {
        /* The same sessions take the step, those that would fail with another token, then go back. */
        static const int32_t fine[] = {FINE, STOPPED, NO_NUMBER, ALSO_FINE};
        reattn_session *those[4];
        int32_t theirs[4];
        for (int i = 0; i < 4; i++)
            those[i] = s[fine[i]], theirs[i] = tokens[fine[i]];
        out.code = reattn_session_decode_many(those, theirs, 4, out.codes, &out.err);
    }
    keep_logits(s[FINE], logits, n_vocab);
    keep_logits(s[ALSO_FINE], logits + n_vocab, n_vocab);
    /* And on: those two go on alike, with others that hold what they held. */
    reattn_session *two[] = {s[FINE], s[ALSO_FINE]};
    assert_int_equal(reattn_session_decode_many(two, (int32_t[]){30, 31}, 2, NULL, NULL), 0);
    keep_logits(s[FINE], logits + 2 * n_vocab, n_vocab);
    keep_logits(s[ALSO_FINE], logits + 3 * n_vocab, n_vocab);
    /* A session that failed can go on. */
    reattn_error err = {0};
    if (failing && (reattn_session_decode(s[STOPPED], 40, &err) || reattn_session_decode(s[NO_NUMBER], 41, &err)))
        fail_msg("%s", err.msg);
    for (int i = 0; i < N_ROLES; i++)
        reattn_session_free(s[i]);
    return out;
}

static void failures_on(reattn_model *model)
{
    const int n_vocab = vocabulary(model);
    float *with = test_floats(4 * n_vocab), *without = test_floats(4 * n_vocab);
    const outcome a = run_roles(model, true, with);
    assert_int_equal(run_roles(model, false, without).code, 0);
    printf("%s\n", a.err.msg);
    assert_int_equal(a.code, REATTN_E_LIMIT);
    assert_int_equal(a.err.code, REATTN_E_LIMIT);
    assert_non_null(strstr(a.err.msg, "session 0: "));
    assert_non_null(strstr(a.err.msg, "201"));
    static const int expected[N_ROLES] = {
        [AT_LIMIT] = REATTN_E_LIMIT,   [FINE] = 0,      [STOPPED] = REATTN_E_CANCELLED,
        [NO_NUMBER] = REATTN_E_NAN,    [ALSO_FINE] = 0, [NO_TOKEN] = REATTN_E_ARG};
    for (int i = 0; i < N_ROLES; i++)
        assert_int_equal(a.codes[i], expected[i]);
    /* The same number of rows, at the same places: the same bits. */
    assert_memory_equal(with, without, 4 * (size_t)n_vocab * sizeof *with);
    free(with);
    free(without);
}

static void failures_are_their_own(void **unused)
{
    (void)unused;
    reattn_model *model = load("wide_llama.damaged", 0);
    failures_on(model);
    reattn_model_free(model);
    if (!reattn__device_engine())
        return;
    model = load("wide_llama.damaged", ALL);
    if (reattn__model_places(model)[0] >= 0)
        failures_on(model);
    reattn_model_free(model);
}

/* Memory for one page of tokens: where the second begins, the one session stops. */
static void memory_of_one(void **unused)
{
    (void)unused;
    reattn_error err = {0};
    reattn_memory memory;
    reattn_model *model = load("llama.gguf", 0);
    reattn_session_params p = params_of("reattention");
    p.ctx_limit = 0;
    assert_int_equal(reattn_session_memory(model, &p, REATTN__PAGE, &memory, &err), 0);
    reattn_session *s[2];
    s[0] = open_session(model, &p, 0, 100);
    p.mem_limit = (int64_t)memory.store_bytes;
    s[1] = open_session(model, &p, 1, 500);
    for (int64_t n = 500; n < REATTN__PAGE; n += 262) {
        int32_t tokens[262];
        for (int i = 0; i < 262; i++)
            tokens[i] = token_at(1, n + i);
        assert_int_equal(reattn_session_prompt(s[1], tokens, 262, NULL, NULL, &err), 0);
    }
    int codes[2];
    assert_int_equal(reattn_session_length(s[1]), REATTN__PAGE);
    assert_int_equal(reattn_session_decode_many(s, (int32_t[]){20, 21}, 2, codes, &err), REATTN_E_LIMIT);
    assert_non_null(strstr(err.msg, "session 1: "));
    assert_int_equal(codes[0], 0);
    assert_int_equal(codes[1], REATTN_E_LIMIT);
    assert_int_equal(reattn_session_length(s[0]), 101);
    assert_int_equal(reattn_session_length(s[1]), REATTN__PAGE);
    assert_non_null(reattn_session_logits(s[1])); /* its step had not begun */
    reattn_session_free(s[0]);
    reattn_session_free(s[1]);
    reattn_model_free(model);
}

/* What cannot share a step takes one of its own: the policy native, and more sessions than the first's chunk. */
static void steps_of_their_own(void **unused)
{
    (void)unused;
    reattn_error err = {0};
    reattn_model *model = load("qwen2.gguf", 0);
    const int n_vocab = vocabulary(model);
    float *alone = test_floats(STEPS * n_vocab);
    reattn_session_params p = params_of("native");
    reattn_session *s[6];
    decode_alone(open_session(model, &p, 3, 100), 3, alone, n_vocab);
    for (int i = 0; i < 6; i++) {
        p = params_of(i == 3 ? "native" : "reattention");
        p.chunk = i == 0 ? 2 : 32;
        p.tail = i == 0 ? 0 : 16;
        s[i] = open_session(model, &p, i, 100);
    }
    for (int t = 0; t < STEPS; t++) {
        int32_t tokens[6];
        for (int i = 0; i < 6; i++)
            tokens[i] = token_at(i, 300 + t);
        if (reattn_session_decode_many(s, tokens, 6, NULL, &err))
            fail_msg("%s", err.msg);
        assert_memory_equal(reattn_session_logits(s[3]), alone + t * n_vocab, (size_t)n_vocab * sizeof *alone);
    }
    for (int i = 0; i < 6; i++) {
        assert_int_equal(reattn_session_length(s[i]), 100 + STEPS);
        assert_int_equal(reattn_session_rewind(s[i], 100, &err), 0);
        assert_null(reattn_session_logits(s[i]));
        reattn_session_free(s[i]);
    }
    free(alone);
    reattn_model_free(model);
}

/* More than libllama is told to take for sequences of their own: they run as a chunk does. */
static void a_chunk_of_sessions(void **unused)
{
    (void)unused;
    enum { N = REATTN__BRIDGE_APART + 3 };
    reattn_error err = {0};
    reattn_model *model = load("llama.gguf", 0);
    const int n_vocab = vocabulary(model);
    const reattn_session_params p = params_of("reattention");
    float *alone = test_floats(STEPS * n_vocab);
    reattn_session *s[N];
    decode_alone(open_session(model, &p, N - 1, 100), N - 1, alone, n_vocab);
    for (int i = 0; i < N; i++)
        s[i] = open_session(model, &p, i, 100);
    for (int t = 0; t < STEPS; t++) {
        int32_t tokens[N];
        for (int i = 0; i < N; i++)
            tokens[i] = token_at(i, 300 + t);
        if (reattn_session_decode_many(s, tokens, N, NULL, &err))
            fail_msg("%s", err.msg);
        const double apart = test_difference(reattn_session_logits(s[N - 1]), alone + t * n_vocab, n_vocab);
        if (apart > 1e-3)
            fail_msg("the last of %d sessions is %.1e from where it is alone", (int)N, apart);
    }
    for (int i = 0; i < N; i++)
        reattn_session_free(s[i]);
    free(alone);
    reattn_model_free(model);
}

static void bad_calls(void **unused)
{
    (void)unused;
    reattn_error err = {0};
    reattn_model *model = load("qwen2.gguf", 0), *other = load("mistral.gguf", 0);
    const reattn_session_params p = params_of("reattention");
    reattn_session *a = open_session(model, &p, 0, 20), *b = open_session(model, &p, 1, 20),
                   *c = open_session(other, &p, 2, 20);
    const int32_t tokens[] = {20, 21, 22};
    int codes[3] = {7, 7, 7};
    reattn_session *twice[] = {a, b, a}, *foreign[] = {a, c}, *hole[] = {a, NULL};
    assert_int_equal(reattn_session_decode_many(twice, tokens, 3, codes, &err), REATTN_E_ARG);
    assert_non_null(strstr(err.msg, "0 and 2"));
    assert_int_equal(reattn_session_decode_many(foreign, tokens, 2, codes, &err), REATTN_E_ARG);
    assert_non_null(strstr(err.msg, "model"));
    assert_int_equal(reattn_session_decode_many(hole, tokens, 2, codes, &err), REATTN_E_ARG);
    assert_int_equal(reattn_session_decode_many(twice, tokens, 0, codes, &err), REATTN_E_ARG);
    assert_int_equal(reattn_session_decode_many(NULL, tokens, 1, codes, &err), REATTN_E_ARG);
    assert_int_equal(reattn_session_decode_many(twice, NULL, 1, codes, &err), REATTN_E_ARG);
    assert_int_equal(codes[0] + codes[1] + codes[2], 21);
    assert_int_equal(reattn_session_length(a), 20);
    assert_non_null(reattn_session_logits(a));
    reattn_session_free(a);
    reattn_session_free(b);
    reattn_session_free(c);
    reattn_model_free(model);
    reattn_model_free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_model), cmocka_unit_test(failures_are_their_own),
                                       cmocka_unit_test(memory_of_one), cmocka_unit_test(steps_of_their_own),
                                       cmocka_unit_test(a_chunk_of_sessions), cmocka_unit_test(bad_calls)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
