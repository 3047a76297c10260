/* test_tiny_memory.c - memory that runs out at each allocation of the library, one after another: each call says so, a
 * session holds what it held, and once there is memory again it goes on to the same bits. */
#include "tiny_model.h"

#include <stdatomic.h>

#include "clex_file.h"
#include "policy/policy.h"

/* ------------------------------------------------------------------------------------------ allocation ------- */

/* The linker sends the library's calls here (-Wl,--wrap), and libllama's go to libc. */
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
int __real_posix_memalign(void **out, size_t alignment, size_t bytes);

enum { NEVER = -1 };
static atomic_long until = NEVER; /* allocations before memory runs out */
static bool for_good;             /* else only one allocation fails */
static atomic_long refused;

static bool refuse(void)
{
    if (until == NEVER || until-- > 0)
        return false;
    until = for_good ? 0 : NEVER;
    refused++;
    return true;
}

void *__wrap_malloc(size_t bytes)
{
    return refuse() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t n, size_t bytes)
{
    return refuse() ? NULL : __real_calloc(n, bytes);
}

void *__wrap_realloc(void *old, size_t bytes)
{
    return refuse() ? NULL : __real_realloc(old, bytes);
}

int __wrap_posix_memalign(void **out, size_t alignment, size_t bytes)
{
    return refuse() ? ENOMEM : __real_posix_memalign(out, alignment, bytes);
}

static void run_out_after(long n)
{
    refused = 0;
    until = n;
}

/* True if memory ran out since run_out_after; there is enough of it again. A call during which it did must have failed
 * for that reason, and have said so. */
static bool ran_out(int code, const reattn_error *err, const char *what, long n)
{
    until = NEVER;
    if (refused == 0) {
        if (code)
            fail_msg("%s: %s", what, err->msg);
        return false;
    }
    if (code != REATTN_E_NOMEM || !err->msg[0])
        fail_msg("%s, allocation %ld refused: code %d, \"%s\"", what, n, code, err->msg);
    return true;
}

/* ------------------------------------------------------------------------------------------------ calls ------ */

enum { TEXT = 100, CHUNK = 32 };
#define CLEX "memory_clex.gguf"

static reattn_model_info info;
static int32_t text[TEXT + 2];

static int setup(void **unused)
{
    (void)unused;
    tiny_load("llama", &info);
    for (int i = 0; i < TEXT + 2; i++)
        text[i] = 10 + (i * 37 + i * i) % 200;
    const float nothing[2 * 256] = {0};
    assert_true(info.rope.n_rot <= 512);
    clex_write(CLEX, nothing, info.rope.n_rot, nothing, info.rope.n_rot, "silu", 4, 1);
    return 0;
}

static reattn_session_params params_of(const char *policy)
{
    reattn_session_params p = reattn_session_params_default();
    snprintf(p.policy, sizeof p.policy, "%s", policy);
    p.chunk = CHUNK;
    p.ctx_train = 256;
    if (strcmp(policy, "reattention") == 0) { /* of the text something is recalled */
        p.keep = p.recall_span = 8;
        p.recall_max = 4;
        p.local = CHUNK;
        p.recall_from = 80;
    }
    if (reattn_policy_drops(policy)) { /* and something dropped */
        p.pot = 110;                   /* the catalyst takes half of it */
        p.pot_keep = 20;
    }
    p.n_threads = 1;
    if (reattn__policy_find(policy)->reads_file)
        snprintf(p.clex, sizeof p.clex, "%s", CLEX);
    return p;
}

static const char *option, *value; /* what every session is created with beside the defaults, or NULL */

static int create(const char *policy, reattn_session **out, reattn_error *err)
{
    reattn_session_params p = params_of(policy);
    *out = NULL;
    if (option && reattn_option_set(&p, option, value, err))
        fail_msg("%s", err->msg);
    return reattn_session_create(model, &p, out, err);
}

static void must(int code, const reattn_error *err)
{
    if (code)
        fail_msg("%s", err->msg);
}

/* The logits after the text and two tokens more, of a session that lacked nothing; rewound: to where it is, before
 * the first of the two, which is what a step that fails leaves behind. */
static float *logits_of(const char *policy, bool rewound)
{
    reattn_error err = {0};
    reattn_session *s;
    must(create(policy, &s, &err), &err);
    must(reattn_session_prompt(s, text, TEXT, NULL, NULL, &err), &err);
    if (rewound)
        must(reattn_session_rewind(s, TEXT, &err), &err);
    must(reattn_session_decode(s, text[TEXT], &err), &err);
    must(reattn_session_decode(s, text[TEXT + 1], &err), &err);
    float *logits = test_floats(info.n_vocab);
    memcpy(logits, reattn_session_logits(s), (size_t)info.n_vocab * sizeof *logits);
    reattn_session_free(s);
    return logits;
}

static void same(const reattn_session *s, const float *logits)
{
    assert_int_equal(reattn_session_length(s), TEXT + 2);
    assert_memory_equal(reattn_session_logits(s), logits, (size_t)info.n_vocab * sizeof *logits);
}

/* Creates a session, reads the text and answers, and lacks the n-th allocation of one of these calls: which 0, 1, 2.
 * Returns false if that call has no such allocation. */
static bool lacks(const char *policy, int which, long n, const float *whole, const float *rewound)
{
    reattn_error err = {0};
    reattn_session *s;
    if (which == 0)
        run_out_after(n);
    int code = create(policy, &s, &err);
    bool out = which == 0 && ran_out(code, &err, policy, n);
    if (out) {
        assert_null(s);
        return true;
    }
    must(code, &err);

    if (which == 1)
        run_out_after(n);
    code = reattn_session_prompt(s, text, TEXT, NULL, NULL, &err);
    if (which == 1 && ran_out(code, &err, policy, n)) {
        out = true;
        const int64_t held = reattn_session_length(s);
        assert_true(held % CHUNK == 0 || held == TEXT - reattn_session_get_params(s)->tail ||
                    reattn_policy_drops(policy));
        assert_true(held < TEXT);
        code = reattn_session_prompt(s, text + held, TEXT - held, NULL, NULL, &err);
    }
    must(code, &err);

    if (which == 2)
        run_out_after(n);
    code = reattn_session_decode(s, text[TEXT], &err);
    if (which == 2 && ran_out(code, &err, policy, n)) {
        out = true;
        assert_int_equal(reattn_session_length(s), TEXT);
        code = reattn_session_decode(s, text[TEXT], &err);
    }
    must(code, &err);
    must(reattn_session_decode(s, text[TEXT + 1], &err), &err);
    same(s, which == 2 && out ? rewound : whole);
    reattn_session_free(s);
    return out;
}

/* Every call of a session of this policy; modes 1: one allocation fails, 2: and all after it, too. Returns how many
 * allocations were refused. */
static long lacks_each(const char *policy, int modes)
{
    long total = 0;
    float *whole = logits_of(policy, false), *rewound = logits_of(policy, true);
    for (int mode = 0; mode < modes; mode++)
        for (int which = 0; which < 3; which++) {
            long n = 0;
            for_good = mode;
            while (lacks(policy, which, n, whole, rewound))
                n++;
            total += n;
        }
    free(whole);
    free(rewound);
    return total;
}

static void sessions(void **unused)
{
    (void)unused;
    for (const reattn_policy_info *p = reattn_policy_list(); p->name; p++) {
        const long n = lacks_each(p->name, strcmp(p->name, "reattention") ? 1 : 2);
        printf("%s: %ld allocations\n", p->name, n);
        assert_true(n > 0);
    }
}

static void options(void **unused)
{
    (void)unused;
    static const char *const all[][2] = {{"recall-per", "head"},    {"recall-vote", "count"}, {"recall-type", "k"},
                                         {"recall-type", "qkv"},    {"recall-window", "1"},   {"recall-when", "decode"},
                                         {"positions", "original"}, {"local-per", "step"},    {"cache-type-k", "f32"},
                                         {"cache-type-k", "q8_0"},  {"cache-type-v", "f32"},  {"cache-type-v", "q8_0"}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        option = all[i][0];
        value = all[i][1];
        const long n = lacks_each("reattention", 1);
        printf("reattention, %s %s: %ld allocations\n", option, value, n);
        assert_true(n > 0);
    }
    option = NULL;
}

/* ---------------------------------------------------------------------------------------- other calls -------- */

static int load_model(reattn_error *err)
{
    char path[1024];
    reattn_model *another = NULL;
    snprintf(path, sizeof path, "%s/llama.gguf", getenv("REATTN_TINY_DIR"));
    const int code = reattn_model_load(path, NULL, &another, err);
    assert_true((code == REATTN_OK) == (another != NULL));
    reattn_model_free(another);
    return code;
}

static int tokenize(reattn_error *err)
{
    int32_t tokens[64];
    const int64_t n = reattn_tokenize(model, "some words of a text", 20, true, true, tokens, 64, err);
    return n < 0 ? (int)n : REATTN_OK;
}

static int format(reattn_error *err)
{
    const reattn_message messages[] = {{"system", "Be brief."}, {"user", "What is it?"}};
    char *out = NULL;
    const int code = reattn_chat_format(model, "chatml", messages, 2, true, &out, err);
    assert_true((code == REATTN_OK) == (out != NULL));
    reattn_free(out);
    return code;
}

static int sample(reattn_error *err)
{
    reattn_sampler_params p = reattn_sampler_params_default();
    reattn_sampler *sampler = NULL;
    p.grammar = "root ::= [a-z]+";
    const int code = reattn_sampler_create(model, &p, &sampler, err);
    assert_true((code == REATTN_OK) == (sampler != NULL));
    reattn_sampler_free(sampler);
    return code;
}

static int ask_for_memory(reattn_error *err)
{
    reattn_memory memory;
    return reattn_session_memory(model, NULL, 1000, &memory, err);
}

static bool take(int64_t position, const float *logits, void *user)
{
    assert_non_null(logits);
    assert_int_equal(position, *(int64_t *)user);
    ++*(int64_t *)user;
    return true;
}

static int score(reattn_error *err)
{
    reattn_session *s;
    int64_t n = 0;
    int code = create("reattention", &s, err);
    if (code != REATTN_OK)
        return code;
    code = reattn_session_score(s, text, TEXT, take, &n, err);
    assert_int_equal(reattn_session_length(s), n);
    assert_true(n == TEXT || n % CHUNK == 0);
    reattn_session_free(s);
    return code;
}

/* Three sessions, of which some may lack memory: these hold what they held, and the others their token. */
static int together(reattn_error *err)
{
    static const char *const policies[] = {"reattention", "streaming", "full"};
    const long n = until;
    reattn_session *s[3];
    reattn_error none = {0};
    int codes[3], failed = 0;
    until = NEVER;
    for (int i = 0; i < 3; i++) {
        must(create(policies[i], &s[i], &none), &none);
        must(reattn_session_prompt(s[i], text, TEXT, NULL, NULL, &none), &none);
    }
    until = n;
    const int code = reattn_session_decode_many(s, text, 3, codes, err);
    until = NEVER;
    for (int i = 0; i < 3; i++) {
        failed += codes[i] != REATTN_OK;
        assert_int_equal(reattn_session_length(s[i]), TEXT + (codes[i] == REATTN_OK));
        assert_true(codes[i] != REATTN_OK || reattn_session_logits(s[i]));
        if (codes[i] != REATTN_OK)
            must(reattn_session_decode(s[i], text[i], &none), &none);
        reattn_session_free(s[i]);
    }
    assert_true((failed > 0) == (code != REATTN_OK));
    return code;
}

static void calls(void **unused)
{
    (void)unused;
    static const struct {
        const char *name;
        int (*call)(reattn_error *);
    } all[] = {{"loading", load_model},        {"tokenizing", tokenize},       {"formatting", format},
               {"sampling", sample},           {"estimating", ask_for_memory}, {"scoring", score},
               {"decoding together", together}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (int mode = 0; mode < 2; mode++) {
            reattn_error err = {0};
            int code;
            long n = -1;
            for_good = mode;
            do {
                err.msg[0] = 0;
                run_out_after(++n);
                code = all[i].call(&err);
            } while (ran_out(code, &err, all[i].name, n));
            printf("%s: %ld allocations\n", all[i].name, n);
        }
}

static int teardown(void **unused)
{
    remove(CLEX);
    return tiny_free(unused);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sessions), cmocka_unit_test(options), cmocka_unit_test(calls)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
