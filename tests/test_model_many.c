/* test_model_many.c - SmolLM2-135M: several sessions decode in one step what each would decode alone. */
#include "small_model.h"

enum { MOST = 5, STEPS = 24 };

static small_model m;

static const struct kind {
    const char *policy;
    int64_t from, length; /* of the text */
} kinds[MOST] = {{"reattention", 0, 700}, {"reattention", 900, 210}, {"streaming", 300, 450}, {"full", 1500, 120},
                 {"reattention", 2000, 1100}};

static int setup(void **unused)
{
    static const char *const names[] = {"addiction.txt", "avg.txt"};
    (void)unused;
    m = small_open(names, 2);
    assert_true(m.n_text > 3200);
    return 0;
}

static int teardown(void **unused)
{
    (void)unused;
    small_close(&m);
    return 0;
}

static reattn_session *open_kind(int i)
{
    reattn_error err = {0};
    reattn_session *s;
    reattn_session_params p = small_scope(1);
    snprintf(p.policy, sizeof p.policy, "%s", kinds[i].policy);
    p.chunk = i == 2 ? 32 : 64;
    if (reattn_session_create(m.model, &p, &s, &err) ||
        reattn_session_prompt(s, m.text + kinds[i].from, kinds[i].length, NULL, NULL, &err))
        fail_msg("%s", err.msg);
    return s;
}

/* Greedy text of one session alone: tokens [STEPS], and the logits after each of them [STEPS][n_vocab]. */
static void alone(int i, int32_t *tokens, float *logits)
{
    reattn_error err = {0};
    reattn_session *s = open_kind(i);
    for (int t = 0; t < STEPS; t++) {
        tokens[t] = small_likeliest(reattn_session_logits(s), m.n_vocab);
        if (reattn_session_decode(s, tokens[t], &err))
            fail_msg("%s", err.msg);
        memcpy(logits + (int64_t)t * m.n_vocab, reattn_session_logits(s), (size_t)m.n_vocab * sizeof *logits);
    }
    reattn_session_free(s);
}

static double apart(const float *a, const float *b)
{
    double most = 0;
    for (int i = 0; i < m.n_vocab; i++)
        most = fmax(most, fabs((double)a[i] - b[i]));
    return most;
}

/* Whether another token than `best` is likelier than it but for what the logits are apart. */
static bool near_tie(const float *logits, int32_t best, int32_t other, double apart)
{
    return logits[best] - logits[other] <= 2 * apart;
}

/* n sessions together are given the tokens that each chose alone; they choose the same ones. */
static void together(int n, int32_t tokens[MOST][STEPS], float *logits[MOST])
{
    reattn_error err = {0};
    reattn_session *s[MOST];
    double worst = 0, distance = 0;
    int parted = 0;
    for (int i = 0; i < n; i++)
        s[i] = open_kind(i);
    for (int t = 0; t < STEPS; t++) {
        int32_t step[MOST];
        for (int i = 0; i < n; i++)
            step[i] = tokens[i][t];
        if (reattn_session_decode_many(s, step, n, NULL, &err))
            fail_msg("%s", err.msg);
        for (int i = 0; i < n; i++) {
            const float *mine = logits[i] + (int64_t)t * m.n_vocab, *now = reattn_session_logits(s[i]);
            const int32_t best = small_likeliest(mine, m.n_vocab), chosen = small_likeliest(now, m.n_vocab);
            worst = fmax(worst, test_difference(now, mine, m.n_vocab));
            distance = fmax(distance, apart(now, mine));
            if (n == 1)
                assert_memory_equal(now, mine, (size_t)m.n_vocab * sizeof *now);
            if (best == chosen)
                continue;
            parted++;
            assert_true(near_tie(mine, best, chosen, apart(now, mine)));
        }
    }
    printf("%d sessions: logits at most %.1e (relative), %.2f apart; another token at %d of %d\n", n, worst, distance,
           parted, n * STEPS);
    assert_true(parted * 20 <= n * STEPS);
    for (int i = 0; i < n; i++)
        reattn_session_free(s[i]);
}

static void tokens_are_those_of_each_alone(void **unused)
{
    (void)unused;
    int32_t tokens[MOST][STEPS];
    float *logits[MOST];
    for (int i = 0; i < MOST; i++) {
        logits[i] = test_floats((int64_t)STEPS * m.n_vocab);
        alone(i, tokens[i], logits[i]);
    }
    together(1, tokens, logits);
    together(2, tokens, logits);
    together(MOST, tokens, logits);
    for (int i = 0; i < MOST; i++)
        free(logits[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(tokens_are_those_of_each_alone)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
