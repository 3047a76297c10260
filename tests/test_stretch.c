/* test_stretch.c - methods that change rotations: frequencies against golden values in float64; the file of CLEX. */
#include "test_util.h"

#include "clex_file.h"
#include "policy/clex_ode.h"
#include "policy/ropes.h"
#include "session/params.h"

/* A session's policy on one layer of heads with n_rot dimensions; step by hand. */
static int start(const char *policy, reattn_session_params *p, const reattn__layer *layer, int64_t N, void **state,
                 reattn_error *err)
{
    snprintf(p->policy, sizeof p->policy, "%s", policy);
    int code = reattn__params_resolve(p, N, err);
    if (code == REATTN_OK) code = reattn__policy_find(policy)->create(p, layer, 1, state, err);
    return code;
}

static reattn__layer layer_of(int n_rot, double base)
{
    return (reattn__layer){1, 1, n_rot, n_rot, 1, {REATTN_ROPE_NEOX, n_rot, 0, (float)base, 1, 0, 1, 32, 1, NULL}};
}

/* Plans for n tokens and reads frequencies and the size of cos and sin off the angles of position 1 (`size` over all
 * pairs alike). */
static void frequencies(const char *policy, void *state, const reattn_session_params *p, const reattn__layer *layer,
                        int64_t n, double *freq, double *size, reattn__plan *plan)
{
    reattn_error err = {0};
    reattn__step step = {.params = p, .shape = layer, .T = 1, .n = n};
    float cs[512];
    assert_int_equal(reattn__policy_find(policy)->plan(state, &step, plan, &err), 0);
    assert_int_equal(plan->n_list, 1);
    const reattn_rope *rope = &plan->lists[0].rope->rope;
    int pairs = rope->n_rot / 2;
    reattn__rope_angles(rope, 1, cs);
    *size = hypot(cs[0], cs[pairs]);
    for (int i = 0; i < pairs; i++) {
        freq[i] = atan2(cs[pairs + i], cs[i]);
        assert_true(fabs(hypot(cs[i], cs[pairs + i]) - *size) <= 1e-6);
    }
}

static void expect(const char *what, double got, double want)
{
    /* powf, a running product of up to 64 factors and the ramp, in f32 */
    if (!(fabs(got - want) <= 1e-5 * fabs(want))) fail_msg("%s: %.9g, not %.9g", what, got, want);
}

static void stretched(FILE *f)
{
    char word[64], policy[24], what[128];
    reattn_session_params p = reattn_session_params_default();
    reattn_error err = {0};
    void *state = NULL;
    assert_true(golden_word(f, word));
    snprintf(policy, sizeof policy, "%.23s", word);
    const int n_rot = (int)golden_int(f);
    const double base = golden_num(f);
    const int64_t N = golden_int(f), scale = golden_int(f), n = golden_int(f);
    const double want_size = golden_num(f);
    int64_t pairs;
    double *want = golden_array(f, "freq", &pairs), got[256], size;
    const reattn__layer layer = layer_of(n_rot, base);
    reattn__plan plan = {0};
    p.scale = scale;
    assert_int_equal(start(policy, &p, &layer, N, &state, &err), 0);
    /* whatever came before */
    frequencies(policy, state, &p, &layer, 7 * N, got, &size, &plan);
    frequencies(policy, state, &p, &layer, n, got, &size, &plan);
    for (int64_t i = 0; i < pairs; i++) {
        snprintf(what, sizeof what, "%s %d N %d scale %d n %d pair %d", policy, n_rot, (int)N, (int)scale, (int)n,
                 (int)i);
        expect(what, got[i], want[i]);
    }
    expect(policy, size, want_size);
    reattn__plan_free(&plan);
    reattn__policy_find(policy)->destroy(state);
    free(want);
}

/* ------------------------------------------------------------------------------------------- the file -------- */

static void learned(FILE *f)
{
    const int pairs = (int)golden_int(f), hidden = (int)golden_int(f);
    const bool silu = golden_int(f) != 0;
    const double base = golden_num(f);
    const int max_t = (int)golden_int(f);
    int64_t n;
    float *up = golden_floats(f, "up", &n), *down = golden_floats(f, "down", &n);
    double *want = golden_array(f, "z", &n);
    const reattn__clex_net net = {up, down, pairs, hidden, silu};
    double *z = malloc((size_t)n * sizeof *z);
    reattn_error err = {0};
    assert_int_equal(n, max_t * pairs);
    assert_int_equal(reattn__clex_solve(&net, base, max_t, z, &err), 0);
    for (int64_t i = 0; i < n; i++)
        if (!(fabs(z[i] - want[i]) <= 1e-8)) fail_msg("z[%d] is %.12g, not %.12g", (int)i, z[i], want[i]);

    /* The policy, from a file: t is the length over N, rounded up, and no more than the file knows. */
    reattn_session_params p = reattn_session_params_default();
    const reattn__layer layer = layer_of(2 * pairs, base);
    reattn__plan plan = {0};
    void *state = NULL;
    const int64_t N = 1000;
    const int64_t size = (int64_t)pairs * hidden;
    clex_write("clex.gguf", up, size, down, size, silu ? "silu" : "tanh", max_t, 1);
    assert_int_equal(reattn_option_set(&p, "clex", "clex.gguf", &err), 0);
    if (start("clex", &p, &layer, N, &state, &err)) fail_msg("%s", err.msg);
    for (int t = 1; t <= max_t + 2; t++) {
        for (int64_t length = (t - 1) * N + 1; length <= t * N; length += N - 1) {
            double got[256], size;
            frequencies("clex", state, &p, &layer, length, got, &size, &plan);
            expect("size", size, 1);
            const double *now = want + (int64_t)(REATTN__MIN(t, max_t) - 1) * pairs;
            for (int i = 0; i < pairs; i++)
                if (exp(now[i]) < 3) expect("clex", got[i], exp(now[i])); /* else it turns more than half around */
            if (t == 1) assert_null(plan.q_scale);
            else assert_true(fabs(plan.q_scale[0] - log((double)length) / log(1000.0)) <= 1e-6);
        }
    }
    reattn__plan_free(&plan);
    reattn__policy_find("clex")->destroy(state);
    remove("clex.gguf");
    free(up);
    free(down);
    free(want);
    free(z);
}

static void golden(void **unused)
{
    (void)unused;
    FILE *f = golden_open("stretch", 1);
    char word[64];
    int n_stretch = 0, n_clex = 0;
    while (golden_word(f, word)) {
        if (strcmp(word, "stretch") == 0) {
            stretched(f);
            n_stretch++;
        } else {
            assert_string_equal(word, "clex");
            learned(f);
            n_clex++;
        }
    }
    assert_int_equal(n_stretch, 54);
    assert_int_equal(n_clex, 3);
    fclose(f);
}

/* Nothing learned, D = 8, t = 4, base 10000: the values of the paper's rule, worked out by hand. */
static void untrained_clex_is_ntk(void **unused)
{
    (void)unused;
    static const double want[] = {1, 0.0522758, 0.00273276, 0.000142857};
    float up[32], down[32] = {0};
    double z[16];
    reattn_error err = {0};
    for (int i = 0; i < 32; i++) up[i] = (float)i / 8;
    const reattn__clex_net net = {up, down, 4, 8, false};
    assert_int_equal(reattn__clex_solve(&net, 10000, 4, z, &err), 0);
    for (int c = 0; c < 4; c++) {
        assert_true(fabs(exp(z[12 + c]) - want[c]) <= 5e-6 * want[c]);
        assert_true(fabs(exp(z[c]) - pow(10000, -c / 4.0)) <= 1e-12);
        assert_true(fabs(exp(z[12 + c]) - pow(10000 * pow(7, 8.0 / 6), -c / 4.0)) <= 1e-10);
    }
}

static void clex_refuses(const char *path, int code, const char *text)
{
    reattn_session_params p = reattn_session_params_default();
    const reattn__layer layer = layer_of(8, 10000);
    reattn_error err = {0};
    void *state = NULL;
    assert_int_equal(reattn_option_set(&p, "clex", path, &err), 0);
    assert_int_equal(start("clex", &p, &layer, 1000, &state, &err), code);
    if (!strstr(err.msg, text)) fail_msg("expected '%s' in: %s", text, err.msg);
    assert_null(state);
}

static void clex_files_that_will_not_do(void **unused)
{
    (void)unused;
    float x[32] = {0}, bad[32] = {NAN};
    FILE *f;
    clex_refuses("no-such-file.gguf", REATTN_E_IO, "no-such-file.gguf");
    assert_non_null(f = fopen("clex.gguf", "wb"));
    clex_put(f, "GGUF\3\0\0\0", 8);
    fclose(f);
    clex_refuses("clex.gguf", REATTN_E_FORMAT, "cut short");
    clex_write("clex.gguf", x, 32, x, 16, "tanh", 4, 1);
    clex_refuses("clex.gguf", REATTN_E_FORMAT, "32 numbers");
    clex_write("clex.gguf", x, 30, x, 30, "tanh", 4, 1);
    clex_refuses("clex.gguf", REATTN_E_FORMAT, "4 pairs");
    clex_write("clex.gguf", x, 32, bad, 32, "tanh", 4, 1);
    clex_refuses("clex.gguf", REATTN_E_FORMAT, "finite");
    clex_write("clex.gguf", x, 32, x, 32, "relu", 4, 1);
    clex_refuses("clex.gguf", REATTN_E_FORMAT, "tanh or silu");
    clex_write("clex.gguf", x, 32, x, 32, "silu", 0, 1);
    clex_refuses("clex.gguf", REATTN_E_FORMAT, "clex.max_t 0");
    assert_non_null(f = fopen("clex.gguf", "wb"));
    clex_put(f, "GGUF", 4);
    clex_put_u32(f, 3);
    clex_put_u64(f, 0);
    clex_put_u64(f, 1);
    clex_put_number(f, "clex.max_t", 4);
    fclose(f);
    clex_refuses("clex.gguf", REATTN_E_ARG, "--clex FILE");
    remove("clex.gguf");
}

/* YaRN on a model whose positions are scaled already, NTK on two rotated dimensions: refused, with the layer. */
static void rotations_that_will_not_do(void **unused)
{
    (void)unused;
    reattn_session_params p = reattn_session_params_default();
    reattn__layer layer = layer_of(8, 10000);
    reattn_error err = {0};
    void *state = NULL;
    layer.rope.freq_scale = 0.25f;
    assert_int_equal(start("yarn", &p, &layer, 1000, &state, &err), REATTN_E_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "layer 0"));
    layer = layer_of(2, 10000);
    assert_int_equal(start("ntk", &p, &layer, 1000, &state, &err), REATTN_E_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "rotates 2"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden),
        cmocka_unit_test(untrained_clex_is_ntk),
        cmocka_unit_test(clex_files_that_will_not_do),
        cmocka_unit_test(rotations_that_will_not_do),
    };
    return cmocka_run_group_tests_name("stretch", tests, NULL, NULL);
}
