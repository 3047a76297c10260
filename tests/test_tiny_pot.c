/* test_tiny_pot.c - sessions of policies that learn from what they read, on a tiny model: infinipot, whose store stays
 * within its budget, and infllm. What comes back after going back, and what is refused. */
#include "tiny_model.h"

#include "base/base.h"
#include "session/session.h"

enum { MOST = 20000, CHUNK = 32 };

static int n_vocab;
static int32_t text[MOST];

static int setup(void **unused)
{
    (void)unused;
    reattn_model_info info;
    tiny_load("llama", &info);
    n_vocab = info.n_vocab;
    test_rng rng = {test_seed()};
    for (int i = 0; i < MOST; i++) text[i] = (int32_t)test_int(&rng, 10, 220);
    return 0;
}

static reattn_session_params params(const char *policy)
{
    reattn_session_params p = reattn_session_params_default();
    snprintf(p.policy, sizeof p.policy, "%s", policy);
    p.chunk = CHUNK;
    p.tail = 16;
    p.n_threads = 1;
    p.keep = 8;
    p.local = 64;
    p.recall_span = 8;
    p.recall_max = 6;
    p.pot = 200;
    p.pot_keep = 100;
    return p;
}

static reattn_session *open_session(const reattn_session_params *p)
{
    reattn_error err = {0};
    reattn_session *s;
    static const int32_t catalyst[] = {40, 41, 42, 43, 44, 45, 46, 47};
    if (reattn_session_create(model, p, &s, &err)) fail_msg("%s", err.msg);
    if (reattn_policy_drops(p->policy) && reattn_session_set_catalyst(s, catalyst, 8, &err)) fail_msg("%s", err.msg);
    return s;
}

static void prompt(reattn_session *s, const int32_t *tokens, int64_t n)
{
    reattn_error err = {0};
    if (reattn_session_prompt(s, tokens, n, NULL, NULL, &err)) fail_msg("%s", err.msg);
}

static void decode(reattn_session *s, int n)
{
    reattn_error err = {0};
    for (int i = 0; i < n; i++)
        if (reattn_session_decode(s, 30 + i % 90, &err)) fail_msg("%s", err.msg);
}

/* Logits now and after three forced tokens: [4][n_vocab]. */
static float *run_on(reattn_session *s)
{
    float *out = test_floats(4 * (int64_t)n_vocab);
    for (int i = 0;; i++) {
        memcpy(out + (int64_t)i * n_vocab, reattn_session_logits(s), (size_t)n_vocab * sizeof *out);
        if (i == 3) return out;
        decode(s, 1);
    }
}

static void expect_same(const float *a, const float *b)
{
    assert_memory_equal(a, b, 4 * (size_t)n_vocab * sizeof *a);
}

static void expect_within(const reattn_session *s)
{
    for (int l = 0; l < s->n_layer; l++) {
        assert_int_equal(reattn__store_length(s->store, l), reattn__session_held(s));
        assert_true(reattn__store_length(s->store, l) + s->pot.n_catalyst <= s->params.pot);
    }
    assert_int_equal(reattn__store_bytes(s->store),
                     reattn__store_bytes_for(s->layers, s->n_layer, s->params.type_k, s->params.type_v, s->params.pot));
}

static bool check_within(int64_t done, int64_t total, void *user)
{
    (void)done;
    (void)total;
    expect_within(user);
    return true;
}

/* 20,000 tokens through a pot of 200, for each type of store: never more, and the first token is never lost. */
static void memory_stays_within_the_budget(void **unused)
{
    (void)unused;
    static const int types[][2] = {
        {REATTN_SPLIT, REATTN_F16}, {REATTN_F16, REATTN_F16}, {REATTN_Q8_0, REATTN_Q8_0}, {REATTN_F32, REATTN_F32}};
    for (int i = 0; i < 4; i++) {
        reattn_error err = {0};
        reattn_session_params p = params("infinipot");
        reattn_memory memory;
        reattn_stats stats;
        float first[3][32], key[32];
        p.type_k = types[i][0];
        p.type_v = types[i][1];
        reattn_session *s = open_session(&p);
        int64_t n = i == 0 ? MOST : 1500;
        prompt(s, text, 20);
        for (int l = 0; l < 3; l++) reattn__store_read_k(s->store, l, 1, 0, 1, first[l], 1);
        if (reattn_session_prompt(s, text + 20, n - 20, check_within, s, &err)) fail_msg("%s", err.msg);
        assert_int_equal(reattn_session_length(s), n);
        reattn_session_get_stats(s, &stats);
        /* 92 tokens a time, of 192 at first; the tail may need one before its time. */
        assert_in_range(stats.distillations, (n - 192) / 92, (n - 192) / 92 + 2);
        assert_true(stats.scope_max <= 200);
        assert_true(reattn__all_finite(reattn_session_logits(s), n_vocab));
        assert_int_equal(reattn_session_memory(model, &p, n, &memory, &err), 0);
        assert_int_equal(memory.store_bytes, stats.store_bytes);
        for (int j = 0; j < 250; j++) {
            decode(s, 1);
            expect_within(s);
        }
        int64_t before = stats.distillations;
        reattn_session_get_stats(s, &stats);
        assert_true(stats.distillations > before);
        for (int l = 0; l < 3; l++) {
            reattn__store_read_k(s->store, l, 1, 0, 1, key, 1);
            assert_memory_equal(key, first[l], sizeof key);
        }
        assert_int_equal(reattn_session_length(s), n + 250);
        assert_memory_equal(reattn_session_tokens(s), text, (size_t)n * sizeof *text);
        reattn_session_free(s);
    }
}

typedef struct taken {
    float *logits; /* [n][n_vocab] */
} taken;

static bool take(int64_t position, const float *logits, void *user)
{
    memcpy(((taken *)user)->logits + position * n_vocab, logits, (size_t)n_vocab * sizeof *logits);
    return true;
}

/* What fits into the pot beside the catalyst is read as under `full`, bit for bit; and each token's novelty is -log p.
 */
static void short_texts_are_full_attention(void **unused)
{
    (void)unused;
    enum { N = 192 };
    reattn_error err = {0};
    reattn_session_params p = params("infinipot"), f = params("full");
    reattn_session *s = open_session(&p), *full = open_session(&f);
    reattn_stats stats;
    taken a = {test_floats(N * (int64_t)n_vocab)}, b = {test_floats(N * (int64_t)n_vocab)};
    if (reattn_session_score(full, text, N, take, &b, &err)) fail_msg("%s", err.msg);
    for (int64_t at = 0; at < N; at += CHUNK) {
        if (reattn_session_score(s, text + at, CHUNK, take, &a, &err)) fail_msg("%s", err.msg);
        for (int64_t t = 0; t < CHUNK; t++) {
            const float *row = b.logits + (at + t - 1) * n_vocab;
            double sum = 0;
            if (at + t == 0) {
                assert_true(isinf(s->pot.nats[t]));
                continue;
            }
            for (int i = 0; i < n_vocab; i++) sum += exp((double)row[i]);
            assert_true(fabs(log(sum) - (double)row[text[at + t]] - (double)s->pot.nats[t]) <= 1e-4);
        }
    }
    assert_memory_equal(a.logits, b.logits, (size_t)N * (size_t)n_vocab * sizeof(float));
    reattn_session_get_stats(s, &stats);
    assert_int_equal(stats.distillations, 0);
    decode(s, 1); /* one more does not fit */
    reattn_session_get_stats(s, &stats);
    assert_int_equal(stats.distillations, 1);
    assert_int_equal(reattn__session_held(s), 101);
    free(a.logits);
    free(b.logits);
    reattn_session_free(s);
    reattn_session_free(full);
}

/* The share of novelty: all of it gives every head the same tokens, none of it gives them their own. */
static void the_share_of_novelty(void **unused)
{
    (void)unused;
    for (int percent = 0; percent <= 100; percent += 50) {
        reattn_session_params p = params("infinipot");
        p.pot_novelty = percent;
        reattn_session *s = open_session(&p);
        prompt(s, text, 1000);
        bool same = true, ascending = true;
        int lists = 0;
        for (int l = 0; l < s->n_layer; l++) lists += s->layers[l].Hk;
        for (int i = 0; i < lists; i++) {
            same = same && memcmp(s->pot.kept, s->pot.kept + i * 100, 100 * sizeof *s->pot.kept) == 0;
            for (int j = 1; j < 100; j++)
                ascending = ascending && s->pot.kept[i * 100 + j] > s->pot.kept[i * 100 + j - 1];
        }
        assert_int_equal(same, percent == 100);
        assert_true(ascending);
        reattn_session_free(s);
    }
}

static void threads_give_the_same_bits(void **unused)
{
    (void)unused;
    static const char *const policies[] = {"infinipot", "infllm"};
    for (int i = 0; i < 2; i++) {
        float *out[2];
        for (int threads = 1; threads <= 2; threads++) {
            reattn_session_params p = params(policies[i]);
            p.n_threads = threads;
            reattn_session *s = open_session(&p);
            prompt(s, text, 700);
            out[threads - 1] = run_on(s);
            reattn_session_free(s);
        }
        expect_same(out[0], out[1]);
        free(out[0]);
        free(out[1]);
    }
}

/* Reads text[0 .. n) and a question on a fresh session, and `more` tokens after it. */
static float *fresh(const reattn_session_params *p, int64_t n, const int32_t *question, int64_t n_question, int more)
{
    int32_t *all = malloc((size_t)(n + n_question) * sizeof *all);
    memcpy(all, text, (size_t)n * sizeof *all);
    memcpy(all + n, question, (size_t)n_question * sizeof *all);
    reattn_session *s = open_session(p);
    prompt(s, all, n + n_question);
    decode(s, more);
    float *out = run_on(s);
    reattn_session_free(s);
    free(all);
    return out;
}

/* Three questions about a text of n tokens, one after the other, the last a tail longer: how often was gone back to a
 * part of the text. */
static int ask(reattn_session *s, int64_t n, int64_t n_first)
{
    enum { MORE = 100 }; /* so that the pot is full once more */
    int back = 0;
    assert_int_equal(reattn_session_rewind(s, 0, NULL), 0);
    for (int q = 0; q < 3; q++) {
        int64_t n_question = n_first + (q == 2 ? 16 : 0);
        const int32_t *question = text + 5000 + 100 * q;
        int32_t all[1000];
        memcpy(all, text, (size_t)n * sizeof *all);
        memcpy(all + n, question, (size_t)n_question * sizeof *all);
        int64_t from = reattn_session_anchor(s, n);
        assert_int_equal(from % CHUNK, 0);
        assert_int_equal(reattn_session_rewind(s, from, NULL), 0);
        /* At once, and after answers that emptied the pot. */
        prompt(s, all + from, n + n_question - from);
        decode(s, q == 2 ? MORE : 0);
        float *mine = run_on(s), *want = fresh(&s->params, n, question, n_question, q == 2 ? MORE : 0);
        expect_same(mine, want);
        free(mine);
        free(want);
        back += from > 0;
    }
    return back;
}

/* What is gone back to gives the bits of reading it all, or there is nothing to go back to but the start. */
static void many_questions(void **unused)
{
    (void)unused;
    static const char *const policies[] = {"infinipot", "infllm"};
    for (int i = 0; i < 2; i++) {
        reattn_session_params p = params(policies[i]);
        reattn_session *s = open_session(&p);
        int back = 0, anew = 0;
        for (int64_t n = 470; n < 660; n += 19) back += ask(s, n, 25), anew += 2;
        /* The tail begins at a chunk boundary, which is not one to go back to if the pot was emptied for the tail. */
        for (int64_t n = 486; n < 660; n += 32) back += ask(s, n, 10), anew += 2;
        anew -= back;
        printf("%s: %d went back, %d read anew\n", policies[i], back, anew);
        assert_true(back > 0 && anew >= 0);
        assert_int_equal(anew > 0, i == 0);
        reattn_session_free(s);
    }
}

static void what_cannot_be_gone_back_to(void **unused)
{
    (void)unused;
    reattn_error err = {0};
    reattn_session_params p = params("infinipot");
    reattn_session *s = open_session(&p);
    prompt(s, text, 1000);
    int64_t floor = s->pot.floor;
    assert_true(floor > 800 && floor <= 1000);
    assert_int_equal(reattn_session_rewind(s, floor - 1, &err), REATTN_E_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "infinipot"));
    assert_int_equal(reattn_session_length(s), 1000);
    assert_non_null(reattn_session_logits(s));
    assert_int_equal(reattn_session_rewind(s, 990, &err), 0); /* not bit for bit, but it goes on */
    decode(s, 3);
    expect_within(s);
    assert_int_equal(reattn_session_rewind(s, 0, &err), 0);
    prompt(s, text, 300);
    float *again = run_on(s), *want = fresh(&p, 300, text, 0, 0);
    expect_same(again, want);
    free(again);
    free(want);
    /* How new the first token behind an anchor is, is known by the logits that were kept there. */
    taken t = {test_floats(700 * (int64_t)n_vocab)};
    assert_int_equal(reattn_session_rewind(s, 0, &err), 0);
    assert_int_equal(reattn_session_score(s, text, 512, take, &t, &err), 0);
    int64_t from = reattn_session_anchor(s, 511);
    assert_int_equal(from, 480);
    float nats = s->pot.nats[0];
    assert_true(nats > 0);
    assert_int_equal(reattn_session_rewind(s, from, &err), 0);
    assert_int_equal(reattn_session_score(s, text + from, 32, take, &t, &err), 0);
    assert_memory_equal(&nats, &s->pot.nats[0], sizeof nats);
    free(t.logits);
    /* 652 tokens fill it: the tail, from 644 on, is not cut there. One of 652 just fits. */
    assert_int_equal(reattn_session_rewind(s, 0, &err), 0);
    prompt(s, text, 660);
    assert_int_equal(s->pot.floor, 644);
    assert_int_equal(reattn__session_held(s), 116);
    assert_int_equal(reattn_session_rewind(s, 0, &err), 0);
    prompt(s, text, 652);
    assert_int_equal(s->pot.floor, 560);
    assert_int_equal(reattn__session_held(s), 192);
    reattn_session_free(s);
}

static bool stop_at(int64_t done, int64_t total, void *user)
{
    (void)total;
    return done < *(int64_t *)user;
}

/* Stopped between steps, wherever that is, and continued: the bits of reading it all. */
static void stopping_and_going_on(void **unused)
{
    (void)unused;
    static const char *const policies[] = {"infinipot", "infllm"};
    for (int i = 0; i < 2; i++) {
        reattn_error err = {0};
        reattn_session_params p = params(policies[i]);
        float *want = fresh(&p, 500, text, 0, 0);
        for (int64_t stop = 90; stop < 400; stop += 70) {
            reattn_session *s = open_session(&p);
            assert_int_equal(reattn_session_prompt(s, text, 500, stop_at, &stop, &err), REATTN_E_CANCELLED);
            int64_t n = reattn_session_length(s);
            assert_true(n >= stop && n < stop + CHUNK);
            prompt(s, text + n, 500 - n);
            float *got = run_on(s);
            expect_same(got, want);
            free(got);
            reattn_session_free(s);
        }
        free(want);
    }
}

static void catalysts(void **unused)
{
    (void)unused;
    reattn_error err = {0};
    reattn_session_params p = params("infinipot"), f = params("full");
    reattn_session *s, *full = open_session(&f);
    int32_t many[100] = {0};
    for (int i = 0; i < 100; i++) many[i] = 50;
    if (reattn_session_create(model, &p, &s, &err)) fail_msg("%s", err.msg);
    assert_true(s->pot.n_catalyst > 8); /* the policy's own */
    assert_int_equal(reattn_session_set_catalyst(s, many, 0, &err), REATTN_E_ARG);
    assert_int_equal(reattn_session_set_catalyst(s, &(int32_t){-1}, 1, &err), REATTN_E_ARG);
    assert_int_equal(reattn_session_set_catalyst(s, many, 100, &err), REATTN_E_ARG); /* 100 stay, of 200 */
    assert_int_equal(reattn_session_set_catalyst(full, many, 8, &err), REATTN_E_ARG);
    assert_int_equal(reattn_session_set_catalyst(s, many, 40, &err), 0); /* more than a chunk */
    prompt(s, text, 400);
    assert_int_equal(reattn_session_set_catalyst(s, many, 8, &err), REATTN_E_ARG); /* not empty */
    /* Another catalyst, another choice. */
    float *a = run_on(s), *b = fresh(&p, 400, text, 0, 0);
    assert_true(test_difference(a, b, n_vocab) > 1e-3);
    free(a);
    free(b);
    reattn_session_free(s);
    reattn_session_free(full);
    p.pot_keep = 195;
    assert_int_equal(reattn_session_create(model, &p, &s, &err), REATTN_E_ARG);
    assert_non_null(strstr(err.msg, "195"));
}

/* infllm: past the trained length the text grows, the scope does not. */
static void longer_than_trained(void **unused)
{
    (void)unused;
    reattn_session_params p = params("infllm");
    reattn_session *s = open_session(&p);
    reattn_stats stats;
    prompt(s, text, 1500);
    decode(s, 50);
    reattn_session_get_stats(s, &stats);
    /* First tokens, blocks, the window, and what of the remainder lies outside of it. */
    assert_in_range(stats.scope_max, 8 + 6 * 8 + 64, 8 + 6 * 8 + 64 + 8 + CHUNK);
    assert_true(reattn__all_finite(reattn_session_logits(s), n_vocab));
    reattn_session_free(s);
}

static void count(const reattn_mass *mass, void *user)
{
    (void)mass;
    ++*(int64_t *)user;
}

/* The catalyst's steps give no logits: attention is not measured there. */
static void catalysts_are_not_measured(void **unused)
{
    (void)unused;
    reattn_session_params p = params("infinipot");
    reattn_session *s = open_session(&p);
    reattn_stats stats;
    int64_t calls = 0;
    prompt(s, text, 150);
    reattn_session_set_mass(s, count, &calls);
    decode(s, 120);
    reattn_session_get_stats(s, &stats);
    assert_true(stats.distillations > 0);
    assert_int_equal(calls, 120 * s->n_layer);
    reattn_session_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_stays_within_the_budget),
        cmocka_unit_test(short_texts_are_full_attention),
        cmocka_unit_test(the_share_of_novelty),
        cmocka_unit_test(threads_give_the_same_bits),
        cmocka_unit_test(many_questions),
        cmocka_unit_test(what_cannot_be_gone_back_to),
        cmocka_unit_test(stopping_and_going_on),
        cmocka_unit_test(catalysts),
        cmocka_unit_test(longer_than_trained),
        cmocka_unit_test(catalysts_are_not_measured),
    };
    return cmocka_run_group_tests(tests, setup, tiny_free);
}
