/* test_methods.c - methods that are rules of positions: the distance at which every query meets every key, against
 * rules written down here as the papers have them, and against rows worked out by hand. */
#include "test_util.h"

#include "policy/policy.h"
#include "session/params.h"

enum { MOST = 400 };

typedef struct method {
    reattn_session_params params;
    const reattn__policy *policy;
    void *state;
    reattn__layer layer;
    reattn__plan plan;
} method;

/* options: "name=value ..." */
static void open_method(method *m, const char *policy, int64_t N, const char *options)
{
    reattn_error err = {0};
    *m = (method){.params = reattn_session_params_default(), .policy = reattn__policy_find(policy),
                  .layer = {2, 1, 8, 8, 1, {REATTN_ROPE_NEOX, 8, 0, 10000, 1, 0, 1, 32, 1, NULL}}};
    assert_non_null(m->policy);
    snprintf(m->params.policy, sizeof m->params.policy, "%s", policy);
    char text[256], *rest = text;
    snprintf(text, sizeof text, "%s", options);
    for (char *word = strtok_r(text, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        char *value = strchr(word, '=');
        assert_non_null(value);
        *value++ = 0;
        if (reattn_option_set(&m->params, word, value, &err)) fail_msg("%s", err.msg);
    }
    if (reattn__params_resolve(&m->params, N, &err)) fail_msg("%s: %s", policy, err.msg);
    if (m->policy->create) assert_int_equal(m->policy->create(&m->params, &m->layer, 1, &m->state, &err), 0);
}

static void close_method(method *m)
{
    if (m->policy->destroy) m->policy->destroy(m->state);
    reattn__plan_free(&m->plan);
}

/* A step of the last T of n tokens. None of these policies looks at the keys. */
static void plan(method *m, int64_t n, int64_t T, bool last)
{
    reattn_error err = {0};
    reattn__step step = {.params = &m->params, .shape = &m->layer, .decode = last && T == 1, .last = last, .T = T,
                         .n = n};
    if (m->policy->plan(m->state, &step, &m->plan, &err)) fail_msg("%s: %s", m->policy->info.name, err.msg);
    assert_int_equal(m->plan.n_list, 1);
}

/* The distances of query t, in the order of tokens; returns how many. Every key is met at most once, none that comes
 * later. seen [n] or NULL. */
static int64_t row_of(const method *m, int64_t n, int64_t T, int64_t t, int64_t *distance, int *seen)
{
    int *count = calloc((size_t)n, sizeof *count);
    int64_t got = reattn__plan_distances(m->plan.lists, n - T, t, distance, n), sum = 0;
    reattn__plan_coverage(m->plan.lists, n - T, t, n, count);
    for (int64_t j = 0; j < n; j++) {
        assert_in_range(count[j], 0, j <= n - T + t);
        sum += count[j];
        if (seen) seen[j] = count[j];
    }
    assert_int_equal(sum, got);
    free(count);
    return got;
}

static float scale_of(const method *m, int64_t t)
{
    return m->plan.q_scale ? m->plan.q_scale[t] : 1;
}

/* ------------------------------------------------------------------------------------------ by hand ---------- */

static void rows_by_hand(void **unused)
{
    (void)unused;
    static const struct {
        const char *policy, *options;
        int64_t N, n;
        int row[16], n_row;
    } cases[] = {
        {"lm-infinite", "keep=2 local=4", 32, 10, {4, 4, 3, 2, 1, 0}, 6},
        {"selfextend", "group=2 local=4", 32, 10, {6, 6, 5, 5, 4, 4, 3, 2, 1, 0}, 10},
        {"dca", "local=4", 14, 14, {10, 9, 8, 7, 6, 5, 7, 6, 5, 4, 3, 2, 1, 0}, 14}, /* s 10, cl 6 */
        {"string", "shift=3 local=1", 9, 9, {6, 5, 4, 3, 2, 1, 2, 1, 0}, 9},
        {"mesa", "group=2 local=4 chunk=4 tail=1 keep=2", 9, 10, {6, 6, 5, 5, 4, 4, 3, 2, 1, 0}, 10},
        {"mesa", "group=1 local=4 chunk=4 tail=1 keep=2", 9, 10, {9, 8, 7, 6, 5, 4, 3, 2, 1, 0}, 10},
        {"yarn", "", 4, 5, {4, 3, 2, 1, 0}, 5},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        method m;
        int64_t distance[MOST];
        open_method(&m, cases[c].policy, cases[c].N, cases[c].options);
        plan(&m, cases[c].n, 1, true);
        int64_t n = row_of(&m, cases[c].n, 1, 0, distance, NULL);
        assert_int_equal(n, cases[c].n_row);
        for (int64_t j = 0; j < n; j++)
            if (distance[j] != cases[c].row[j])
                fail_msg("%s %s: key %d is at %d, not %d", cases[c].policy, cases[c].options, (int)j, (int)distance[j],
                         cases[c].row[j]);
        close_method(&m);
    }
}

/* A stair that begins at once: no option asks for it, but the rule has it. */
static void a_stair_without_a_near_zone(void **unused)
{
    (void)unused;
    static const int row[] = {4, 4, 3, 3, 2, 2, 1, 1, 0, 0};
    int64_t distance[10];
    method m;
    open_method(&m, "mesa", 9, "group=2 local=4 chunk=4 tail=1 keep=2");
    m.params.local = 0;
    plan(&m, 10, 1, true);
    assert_int_equal(row_of(&m, 10, 1, 0, distance, NULL), 10);
    for (int j = 0; j < 10; j++) assert_int_equal(distance[j], row[j]);
    close_method(&m);
}

static int64_t largest(const char *policy, int64_t N, const char *options, int64_t n)
{
    method m;
    int64_t *distance = malloc((size_t)n * sizeof *distance), most = 0;
    open_method(&m, policy, N, options);
    plan(&m, n, 1, true);
    int64_t got = row_of(&m, n, 1, 0, distance, NULL);
    for (int64_t j = 0; j < got; j++) most = REATTN__MAX(most, distance[j]);
    free(distance);
    close_method(&m);
    return most;
}

static void largest_distances(void **unused)
{
    (void)unused;
    assert_int_equal(largest("string", 131072, "", 131072), 87946); /* S 43253, W 128 */
    assert_int_equal(largest("mesa", 2048, "local=561 keep=100", 4096), 631);
    assert_int_equal(largest("lm-infinite", 4096, "", 50000), 4096);
    assert_int_equal(largest("dca", 4096, "", 50000), 3072);
    assert_true(largest("selfextend", 4096, "group=8", (4096 - 1024) * 8 + 1024) < 4096);
    assert_true(largest("selfextend", 4096, "ctx-size=100000", 100000) < 4096);
}

/* --------------------------------------------------------------------------------------- by the rule --------- */

/* The distance at which query i of a text meets key j <= i, or -1: not at all. */
typedef int64_t (*rule)(const reattn_session_params *p, int64_t i, int64_t j);

static int64_t rule_lm_infinite(const reattn_session_params *p, int64_t i, int64_t j)
{
    return i - j < p->local ? i - j : j < p->keep ? p->local : -1;
}

static int64_t rule_selfextend(const reattn_session_params *p, int64_t i, int64_t j)
{
    return i - j < p->local ? i - j : i / p->group + p->local - p->local / p->group - j / p->group;
}

static int64_t rule_dca(const reattn_session_params *p, int64_t i, int64_t j)
{
    int64_t s = 3 * p->ctx_train / 4, len = s - p->local, apart = i / len - j / len;
    int64_t at = apart == 0 ? i % len : apart == 1 ? REATTN__MIN(i % len + len, s) : REATTN__MIN(2 * len - 1, s);
    return at - j % len;
}

static int64_t rule_string(const reattn_session_params *p, int64_t i, int64_t j)
{
    return i - j < p->shift ? i - j : i - j - p->shift + p->local;
}

static int64_t rule_plain(const reattn_session_params *p, int64_t i, int64_t j)
{
    (void)p;
    return i - j;
}

/* A prompt's chunks in mesa: the first G, and the chunk of N - G that i is in. */
static int64_t rule_mesa(const reattn_session_params *p, int64_t i, int64_t j)
{
    int64_t len = p->ctx_train - p->keep, chunk = i < p->keep ? 0 : (i - p->keep) / len;
    if (j < p->keep) return i - chunk * len - j;
    return (j - p->keep) / len == chunk ? i - j : -1;
}

static const struct {
    const char *policy;
    rule rule;
} rules[] = {{"lm-infinite", rule_lm_infinite}, {"selfextend", rule_selfextend}, {"dca", rule_dca},
             {"string", rule_string},           {"ntk", rule_plain},             {"dynamic-ntk", rule_plain},
             {"yarn", rule_plain},              {"mesa", rule_mesa}};
enum { N_RULE = sizeof rules / sizeof *rules };

/* Options at random that the method takes. */
static void random_method(method *m, test_rng *rng, const char *policy)
{
    char options[200];
    int64_t N = test_int(rng, 16, 60), local = test_int(rng, 1, 11), chunk = test_int(rng, 1, local);
    snprintf(options, sizeof options, "keep=%d local=%d chunk=%d tail=%d group=%d shift=%d", (int)test_int(rng, 0, 9),
             (int)local, (int)chunk, (int)test_int(rng, 0, chunk), (int)test_int(rng, 1, 7),
             (int)test_int(rng, local, 40));
    open_method(m, policy, N, options);
}

/* Every query of every step: the rule's distances, whatever the step; so decoding equals reading. */
static void distances_follow_the_rule(void **unused)
{
    (void)unused;
    test_rng rng = {test_seed()};
    int64_t distance[MOST];
    int seen[MOST];
    for (int round = 0; round < 100 * N_RULE; round++) {
        method m, one;
        const int which = round % N_RULE;
        random_method(&m, &rng, rules[which].policy);
        one = m;
        one.plan = (reattn__plan){0};
        for (int step = 0; step < 6; step++) {
            int64_t n = test_int(&rng, 1, MOST), most = test_one_in(&rng, 3) ? 1 : 90;
            int64_t T = test_int(&rng, 1, REATTN__MIN(n, most));
            plan(&m, n, T, false);
            for (int64_t t = 0; t < T; t++) {
                int64_t i = n - T + t, got = row_of(&m, n, T, t, distance, seen), at = 0;
                for (int64_t j = 0; j <= i; j++) {
                    int64_t want = rules[which].rule(&m.params, i, j);
                    assert_int_equal(seen[j], want >= 0);
                    if (want < 0) continue;
                    if (distance[at] != want)
                        fail_msg("%s: token %d meets %d at %d, not %d (n %d, T %d)", rules[which].policy, (int)i,
                                 (int)j, (int)distance[at], (int)want, (int)n, (int)T);
                    at++;
                }
                assert_int_equal(at, got);
                if (rules[which].rule == rule_plain || rules[which].rule == rule_mesa) continue;
                plan(&one, i + 1, 1, false);
                assert_true(scale_of(&one, 0) == scale_of(&m, t)); /* nor does the scale depend on the step */
            }
        }
        reattn__plan_free(&one.plan);
        close_method(&m);
    }
}

/* The end of a prompt and the answer in mesa: all keys; the last query's own stair, the others on the same one. */
static void mesa_climbs_a_stair(void **unused)
{
    (void)unused;
    test_rng rng = {test_seed() + 1};
    int64_t distance[MOST];
    for (int round = 0; round < 300; round++) {
        method m;
        random_method(&m, &rng, "mesa");
        int64_t N = m.params.ctx_train, L = m.params.local, E = m.params.group;
        int64_t n = test_int(&rng, 1, MOST), T = test_int(&rng, 1, REATTN__MIN(n, L));
        plan(&m, n, T, true);
        for (int64_t t = 0; t < T; t++) {
            int64_t i = n - T + t, back = T - 1 - t;
            assert_int_equal(row_of(&m, n, T, t, distance, NULL), i + 1);
            for (int64_t j = 0; j <= i; j++) {
                int64_t d = n - 1 - j, want = n <= N ? i - j : d <= L ? d - back : L + (d - L) / E - back;
                assert_int_equal(distance[j], want);
            }
            double scale = n <= N ? 1 : fmax(1, log((double)i + 1) / log((double)N));
            assert_true(fabs(scale_of(&m, t) - scale) <= 1e-6);
        }
        close_method(&m);
    }
}

/* While the text is short a method is plain attention: true distances, nothing scaled, the model's own rotations. */
static void short_texts_are_plain(void **unused)
{
    (void)unused;
    static const struct {
        const char *policy;
        int64_t n; /* with N 64 and the options below */
    } cases[] = {{"lm-infinite", 16}, {"selfextend", 16}, {"string", 20}, {"dca", 49}, {"mesa", 64},
                 {"ntk", 64},         {"dynamic-ntk", 64}, {"yarn", 64},  {"full", 1000}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        for (int64_t T = 1; T <= 16; T += 5) {
            method m;
            int64_t distance[1000];
            open_method(&m, cases[c].policy, 64, "keep=4 local=16 chunk=16 tail=8 shift=20");
            plan(&m, cases[c].n, T, T != 6);
            for (int64_t t = 0; t < T; t++) {
                int64_t i = cases[c].n - T + t;
                assert_int_equal(row_of(&m, cases[c].n, T, t, distance, NULL), i + 1);
                for (int64_t j = 0; j <= i; j++) assert_int_equal(distance[j], i - j);
            }
            assert_null(m.plan.q_scale);
            const reattn__rope_table *rope = m.plan.lists[0].rope;
            assert_true(!rope || reattn__rope_same(&rope->rope, &m.layer.rope));
            if (strcmp(cases[c].policy, "full") != 0) { /* and one token later, or two, something is not */
                bool changed = false;
                for (int64_t n = cases[c].n + 1; n <= cases[c].n + 2; n++) {
                    plan(&m, n, 1, true);
                    rope = m.plan.lists[0].rope;
                    changed |= m.plan.q_scale || (rope && !reattn__rope_same(&rope->rope, &m.layer.rope));
                    int64_t got = row_of(&m, n, 1, 0, distance, NULL);
                    changed |= got < n || distance[0] != n - 1 || distance[1] != n - 2;
                }
                assert_true(changed);
            }
            close_method(&m);
        }
    }
}

/* STRING with S = W shifts nothing; with a scale it only sharpens. */
static void string_edges(void **unused)
{
    (void)unused;
    method m;
    int64_t distance[MOST];
    open_method(&m, "string", 64, "shift=7 local=7 scale=2");
    plan(&m, 50, 3, false);
    for (int64_t t = 0; t < 3; t++) {
        assert_int_equal(row_of(&m, 50, 3, t, distance, NULL), 48 + t);
        for (int64_t j = 0; j <= 47 + t; j++) assert_int_equal(distance[j], 47 + t - j);
        assert_true(fabs(scale_of(&m, t) - 1.1434) <= 1e-4);
    }
    close_method(&m);
}

/* DCA: cos and sin grow by 1 + 0.05 ln(n / N) past the trained length. */
static void dca_scales_with_the_length(void **unused)
{
    (void)unused;
    method m;
    open_method(&m, "dca", 64, "");
    plan(&m, 100, 100, false);
    for (int t = 0; t < 100; t++) {
        double turn = t + 1 > 64 ? 1 + 0.05 * log((t + 1) / 64.0) : 1;
        assert_true(fabs(scale_of(&m, t) - turn * turn) <= 1e-6);
    }
    close_method(&m);
}

/* ----------------------------------------------------------------------------------------- options ----------- */

static void defaults_follow_the_trained_length(void **unused)
{
    (void)unused;
    static const struct {
        const char *policy;
        int64_t N, local, shift, group, chunk; /* a chunk need not fit a local part that is not all that it sees */
    } cases[] = {{"lm-infinite", 4096, 4096, 0, 0, 512}, {"selfextend", 4096, 1024, 0, 8, 512},
                 {"selfextend", 1024, 256, 0, 8, 512},   {"dca", 4096, 512, 0, 0, 512},
                 {"dca", 1024, 128, 0, 0, 512},          {"string", 131072, 128, 43253, 0, 512},
                 {"string", 300, 99, 99, 0, 150},        {"mesa", 2048, 512, 0, 50, 512},
                 {"mesa", 1024, 256, 0, 50, 256},        {"ntk", 8192, 4096, 0, 0, 512},
                 {"ntk", 300, 150, 0, 0, 150}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        method m;
        open_method(&m, cases[c].policy, cases[c].N, "");
        assert_int_equal(m.params.local, cases[c].local);
        assert_int_equal(m.params.shift, cases[c].shift);
        assert_int_equal(m.params.group, cases[c].group);
        assert_int_equal(m.params.chunk, cases[c].chunk);
        assert_int_equal(m.params.ctx_train, cases[c].N);
        reattn_session_params again = m.params;
        reattn_error err = {0};
        assert_int_equal(reattn__params_resolve(&again, 77, &err), 0); /* what is resolved stays */
        assert_memory_equal(&again, &m.params, sizeof again);
        close_method(&m);
    }
}

static void refused(const char *policy, const char *name, const char *value, const char *text)
{
    reattn_session_params p = reattn_session_params_default();
    reattn_error err = {0};
    snprintf(p.policy, sizeof p.policy, "%s", policy);
    assert_int_equal(reattn_option_set(&p, name, value, &err), 0);
    assert_int_equal(reattn__params_resolve(&p, 4096, &err), REATTN_E_ARG);
    assert_non_null(strstr(err.msg, text));
    assert_non_null(strstr(err.msg, value));
}

static void nonsense_is_refused(void **unused)
{
    (void)unused;
    refused("lm-infinite", "local", "5000", "trained on 4096");
    refused("selfextend", "local", "4096", "less than the trained length");
    refused("dca", "local", "3072", "1 .. 3071");
    refused("string", "local", "2000", "--shift 1351");
    refused("mesa", "local", "100", "--chunk 512");
    refused("mesa", "keep", "4096", "less than the trained length");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_by_hand),
        cmocka_unit_test(a_stair_without_a_near_zone),
        cmocka_unit_test(largest_distances),
        cmocka_unit_test(distances_follow_the_rule),
        cmocka_unit_test(mesa_climbs_a_stair),
        cmocka_unit_test(short_texts_are_plain),
        cmocka_unit_test(string_edges),
        cmocka_unit_test(dca_scales_with_the_length),
        cmocka_unit_test(defaults_follow_the_trained_length),
        cmocka_unit_test(nonsense_is_refused),
    };
    return cmocka_run_group_tests_name("methods", tests, NULL, NULL);
}
