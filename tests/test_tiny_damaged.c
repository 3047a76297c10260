/* test_tiny_damaged.c - models whose metadata is damaged at random, or cut short: each is refused with a reason, or
 * does what a model does. A process of its own uses each, since libllama ends the process where it meets what it did
 * not expect, and that is what must not happen. */
#include "test_util.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "reattn/reattn.h"

enum { DAMAGES = 150, TOKENS = 70 };
enum { FINE = 0, REFUSED = 1, REFUSED_WITHOUT_REASON = 2 };

static const char path[] = "damaged.gguf";

/* Bytes of a file, *n of them. */
static uint8_t *read_file(const char *name, size_t *n)
{
    char from[1024];
    snprintf(from, sizeof from, "%s/%s.gguf", getenv("REATTN_TINY_DIR"), name);
    FILE *f = fopen(from, "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    *n = (size_t)ftell(f);
    rewind(f);
    uint8_t *bytes = malloc(*n);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *n, f), *n);
    fclose(f);
    return bytes;
}

/* Where the metadata ends, roughly: the names of the tensors are the last of it. */
static size_t metadata_of(const uint8_t *bytes, size_t n)
{
    static const char last[] = "output_norm.weight";
    for (size_t at = n - sizeof last; at > 0; at--)
        if (memcmp(bytes + at, last, sizeof last - 1) == 0)
            return at + sizeof last + 32;
    fail();
    return 0;
}

static void damage(test_rng *rng, uint8_t *bytes, size_t metadata)
{
    for (int64_t i = test_int(rng, 1, 4); i > 0; i--) {
        uint8_t *at = bytes + test_int(rng, 0, (int64_t)metadata - 1);
        const uint8_t values[] = {0, 0xff, (uint8_t)test_u64(rng), (uint8_t)(*at ^ 1 << test_int(rng, 0, 7))};
        *at = values[test_int(rng, 0, 3)];
    }
}

/* Everything that a program does with a model. */
static int use(void)
{
    reattn_error err = {0};
    reattn_model *model;
    if (reattn_model_load(path, NULL, &model, &err))
        return err.msg[0] ? REFUSED : REFUSED_WITHOUT_REASON;
    reattn_model_info info;
    reattn_model_get_info(model, &info);
    int32_t tokens[TOKENS];
    char text[256 + 64], piece[256], *chat;
    int n = 0;
    for (int c = 1; c < 128; c++)
        text[n++] = (char)c;
    n += snprintf(text + n, sizeof text - (size_t)n, "words \xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80 <|im_start|>");
    (void)reattn_tokenize(model, text, (size_t)n, true, true, tokens, TOKENS, &err);
    for (int32_t t = 0; t < info.n_vocab; t++)
        (void)reattn_token_bytes(model, t, true, piece, sizeof piece);
    const reattn_message message = {"user", "What is it?"};
    if (!reattn_chat_format(model, NULL, &message, 1, true, &chat, &err))
        reattn_free(chat);

    reattn_session_params p = reattn_session_params_default();
    reattn_session *s = NULL;
    p.n_threads = 1;
    for (int i = 0; i < TOKENS; i++)
        tokens[i] = i % info.n_vocab;
    err.msg[0] = 0;
    int code = reattn_session_create(model, &p, &s, &err);
    if (!code)
        code = reattn_session_prompt(s, tokens, TOKENS, NULL, NULL, &err);
    if (!code)
        code = reattn_session_decode(s, tokens[0], &err);
    reattn_session_free(s);
    reattn_model_free(model);
    return !code ? FINE : err.msg[0] ? REFUSED : REFUSED_WITHOUT_REASON;
}

static int use_apart(void)
{
    fflush(stdout);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        for (int s = 1; s < 32; s++)
            signal(s, SIG_DFL); /* the test's own handlers would call it a failed test and go on */
        const int nowhere = open("/dev/null", O_WRONLY);
        dup2(nowhere, 1);
        dup2(nowhere, 2);
        alarm(60);
        _exit(use());
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void damaged(void **unused)
{
    (void)unused;
    static const char *const names[] = {"mistral", "qwen3", "phi3"};
    const uint64_t seed = test_seed();
    setenv("GGML_NO_BACKTRACE", "1", 1);
    for (size_t m = 0; m < sizeof names / sizeof *names; m++) {
        size_t n;
        uint8_t *whole = read_file(names[m], &n), *bytes = malloc(n);
        assert_non_null(bytes);
        const size_t metadata = metadata_of(whole, n);
        int count[2] = {0};
        test_rng rng = {seed + m};
        for (int i = 0; i < DAMAGES; i++) {
            memcpy(bytes, whole, n);
            damage(&rng, bytes, metadata);
            const size_t size = test_one_in(&rng, 8) ? (size_t)test_int(&rng, 0, (int64_t)n) : n;
            FILE *f = fopen(path, "wb");
            assert_non_null(f);
            assert_int_equal(fwrite(bytes, 1, size, f), size);
            assert_int_equal(fclose(f), 0);
            const int end = use_apart();
            if (end != FINE && end != REFUSED)
                fail_msg("%s, damage %d: %s (%d); the file is kept as %s", names[m], i,
                         end < 0 ? "ended by a signal" : "refused without a reason", end, path);
            count[end]++;
        }
        printf("%s: %d were refused, %d did what a model does\n", names[m], count[REFUSED], count[FINE]);
        assert_true(count[REFUSED] > 0 && count[FINE] > 0);
        free(whole);
        free(bytes);
    }
    remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(damaged)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
