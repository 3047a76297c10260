/* Decode steps of several sessions in one launch of each kernel, beside each session stepped by itself. If attention is
 * cut as for several, too, these are the same bits: so that what the others hold, and whether one of them fails, is
 * nothing to a session. If not, it is the same plan, and attention within what a sum's order does. That plans and
 * attention of steps by themselves are right is test_cuda_step.c. Skipped (77) without a CUDA build or
 * without a device. REATTN_TEST_CASES sets how many groups. */
#include "test_util.h"

#ifndef REATTN_HAVE_CUDA
int main(void)
{
    puts("skipped: built without CUDA");
    return 77;
}
#else

#include "base/base.h"
#include "cuda/step.h"
#include "test_cuda.h"

enum { N_CASE = 60, STEPS = 6, SPANS = 40, MANY = REATTN__CUDA_MANY };
enum { TOGETHER, APART, ALONE, WAYS }; /* APART: by itself, cut as for several */

/* One session, three times. */
typedef struct member {
    reattn_session_params params;
    reattn__cuda_context *context[WAYS];
    cudaStream_t stream[WAYS];
    int64_t n, fails_at; /* tokens held; its room ends there, -1: it does not */
    float *out[WAYS];    /* device */
} member;

typedef struct group {
    reattn__layer layer;
    int type, plane, n;
    member members[MANY];
} group;

/* Random rows on the device; the caller frees. */
static float *rows(test_rng *rng, const group *g, int64_t T, int heads)
{
    const int64_t n = T * heads * g->layer.D;
    float *x = test_floats(n);
    for (int64_t i = 0; i < n; i++)
        x[i] = rounded(test_normal(rng), g->type);
    float *there = on_device(x, sizeof *x * (size_t)n);
    free(x);
    return there;
}

typedef struct text {
    float *q, *k, *v;
} text;

static text text_of(test_rng *rng, const group *g, int64_t T)
{
    return (text){rows(rng, g, T, g->layer.H), rows(rng, g, T, g->layer.Hk), rows(rng, g, T, g->layer.Hk)};
}

static void text_free(text *t)
{
    cudaFree(t->q), cudaFree(t->k), cudaFree(t->v);
}

static reattn__cuda_step_args step_of(const group *g, const text *t, int64_t T, bool decode, float *out)
{
    const int D = g->layer.D, q = g->layer.H * D, kv = g->layer.Hk * D;
    return (reattn__cuda_step_args){
        .T = T, .decode = decode, .q = {t->q, 0, q, D}, .k = {t->k, 0, kv, D}, .v = {t->v, 0, kv, D}, .out = out};
}

static void open_member(test_rng *rng, group *g, member *m, bool fails)
{
    reattn_error err = {0, ""};
    reattn_session_params *p = &m->params;
    *p = reattn_session_params_default();
    p->keep = test_int(rng, 0, 40), p->chunk = 300;
    p->local = test_one_in(rng, 6) ? 1 : test_int(rng, 20, 200);
    p->local_per = REATTN_LOCAL_PER_QUERY;
    p->recall_from = test_one_in(rng, 4) ? test_int(rng, 0, 600) : 0;
    p->recall_k = 4, p->recall_span = test_int(rng, 1, 50), p->recall_max = test_int(rng, 1, SPANS);
    p->recall_window = test_one_in(rng, 3) ? test_int(rng, 1, 5) : 32;
    p->recall_per_head = g->members[0].params.recall_per_head;
    if (test_one_in(rng, 5)) /* not like the others */
        p->recall_k = 3;
    if (test_one_in(rng, 5))
        p->recall_per_head = !p->recall_per_head;
    if (test_one_in(rng, 6))
        p->recall_vote = REATTN_VOTE_MASS;
    p->positions = test_one_in(rng, 4);
    const int64_t length = test_one_in(rng, 4) ? test_int(rng, 1, 300) : test_int(rng, 300, 3000);
    if (test_one_in(rng, 5)) /* begins to recall on the way */
        p->recall_from = length + test_int(rng, 0, STEPS);
    m->fails_at = fails ? length + test_int(rng, 0, STEPS - 1) : -1;
    m->n = length;
    const int policy = test_one_in(rng, 8)   ? REATTN__CUDA_STREAMING
                       : test_one_in(rng, 8) ? REATTN__CUDA_FULL
                                             : REATTN__CUDA_REATTENTION;
    for (int way = 0; way < WAYS; way++) {
        const int64_t room = fails ? m->fails_at : length + STEPS;
        const reattn__cuda_context_args args = {&g->layer, 1, p, policy, g->type, g->plane, room, 0};
        if (reattn__cuda_context_create(&args, &m->context[way], &err))
            fail_msg("%s", err.msg);
        assert_int_equal(cudaStreamCreateWithFlags(&m->stream[way], cudaStreamNonBlocking), cudaSuccess);
        m->out[way] = on_device(NULL, sizeof(float) * (size_t)(g->layer.H * g->layer.D));
    }
}

/* The prompt, chunk by chunk. */
static void read_prompt(test_rng *rng, const group *g, member *m)
{
    reattn_error err = {0, ""};
    for (int64_t done = 0; done < m->n;) {
        const int64_t T = REATTN__MIN(m->n - done, 300);
        text mine = text_of(rng, g, T);
        float *out = on_device(NULL, sizeof(float) * (size_t)(T * g->layer.H * g->layer.D));
        const reattn__cuda_step_args args = step_of(g, &mine, T, false, out);
        for (int way = 0; way < WAYS; way++)
            if (reattn__cuda_step(m->context[way], &args, m->stream[way], &err) ||
                reattn__cuda_check(m->context[way], m->stream[way], &err))
                fail_msg("%s", err.msg);
        text_free(&mine), cudaFree(out);
        done += T;
    }
}

static void same_plans(const group *g, member *m, int way)
{
    reattn_error err = {0, ""};
    for (int list = 0; list < (m->params.recall_per_head ? g->layer.Hk : 1); list++) {
        reattn_span spans[WAYS][SPANS];
        int64_t n[WAYS], scope[WAYS];
        for (int i = TOGETHER; i <= way; i += way)
            if (reattn__cuda_spans(m->context[i], 0, list, spans[i], SPANS, &n[i], &scope[i], m->stream[i], &err))
                fail_msg("%s", err.msg);
        assert_int_equal(n[way], n[TOGETHER]);
        assert_int_equal(scope[way], scope[TOGETHER]);
        assert_memory_equal(spans[way], spans[TOGETHER], sizeof(reattn_span) * (size_t)n[way]);
    }
}

/* The same bits together and apart; returns how far they are from what came out alone. */
static double compare(const group *g, const member *m)
{
    const int n = g->layer.H * g->layer.D;
    const size_t bytes = sizeof(float) * (size_t)n;
    float *out[WAYS];
    for (int way = 0; way < WAYS; way++) {
        out[way] = test_floats(n);
        assert_int_equal(cudaMemcpy(out[way], m->out[way], bytes, cudaMemcpyDeviceToHost), cudaSuccess);
    }
    assert_memory_equal(out[APART], out[TOGETHER], bytes);
    const double d = test_difference(out[TOGETHER], out[ALONE], n);
    for (int way = 0; way < WAYS; way++)
        free(out[way]);
    return d;
}

/* A token of each. Returns how many took it. */
static int step_all(test_rng *rng, group *g, double *worst)
{
    reattn__cuda_member members[WAYS][MANY];
    reattn_error errs[WAYS][MANY] = {0};
    text texts[MANY];
    int fine = 0;
    for (int i = 0; i < g->n; i++) {
        member *m = &g->members[i];
        texts[i] = text_of(rng, g, 1);
        for (int way = 0; way < WAYS; way++)
            members[way][i] = (reattn__cuda_member){m->context[way], step_of(g, &texts[i], 1, true, m->out[way]),
                                                    m->stream[way], 0, &errs[way][i]};
        reattn__cuda_member *alone = &members[ALONE][i];
        alone->code = reattn__cuda_step(alone->context, &alone->args, alone->stream, alone->err);
        reattn__cuda_step_many(&members[APART][i], 1, g->n);
    }
    reattn__cuda_step_many(members[TOGETHER], g->n, g->n);
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
    for (int i = 0; i < g->n; i++) {
        member *m = &g->members[i];
        const int wanted = m->fails_at == m->n ? REATTN_E_LIMIT : REATTN_OK;
        for (int way = 0; way < WAYS; way++) {
            if (members[way][i].code != wanted)
                fail_msg("session %d of %d, way %d: %s", i, g->n, way, errs[way][i].msg);
            assert_int_equal(reattn__cuda_length(m->context[way], 0), m->n + (wanted == REATTN_OK));
            if (reattn__cuda_check(m->context[way], m->stream[way], &errs[way][i]))
                fail_msg("session %d of %d, way %d: %s", i, g->n, way, errs[way][i].msg);
        }
        text_free(&texts[i]);
        if (wanted != REATTN_OK)
            continue;
        same_plans(g, m, APART);
        same_plans(g, m, ALONE);
        *worst = fmax(*worst, compare(g, m));
        m->n++;
        fine++;
    }
    return fine;
}

static void test_groups(void **state)
{
    (void)state;
    test_rng rng = {test_seed()};
    static const int dims[] = {64, 96, 128, 256}, groups[] = {1, 2, 3, 4, 8, 9};
    const char *cases = getenv("REATTN_TEST_CASES");
    const int n = cases ? atoi(cases) : N_CASE;
    int64_t steps = 0;
    double worst = 0;
    for (int i = 0; i < n; i++) {
        group g = {.type = (int)test_int(&rng, 0, 1), .plane = (int)test_int(&rng, 0, 1)};
        const int D = dims[test_int(&rng, 0, 3)], Hk = (int)test_int(&rng, 1, 4), H = Hk * groups[test_int(&rng, 0, 5)];
        g.layer = (reattn__layer){
            H, Hk, D, D, 1 / sqrtf((float)D), {test_one_in(&rng, 2), D, 0, 10000, 1, 0, 1, 32, 1, NULL}};
        g.n = (int)test_int(&rng, 2, MANY);
        const int fails = test_one_in(&rng, 2) ? (int)test_int(&rng, 1, g.n - 1) : -1;
        for (int j = 0; j < g.n; j++) {
            open_member(&rng, &g, &g.members[j], j == fails);
            read_prompt(&rng, &g, &g.members[j]);
        }
        for (int t = 0; t < STEPS; t++)
            steps += step_all(&rng, &g, &worst);
        for (int j = 0; j < g.n; j++)
            for (int way = 0; way < WAYS; way++) {
                reattn__cuda_context_free(g.members[j].context[way]);
                cudaStreamDestroy(g.members[j].stream[way]);
                cudaFree(g.members[j].out[way]);
            }
    }
    printf("%d groups, %" PRId64 " steps: the same bits apart, the same plans alone, attention at most %.1e from it\n",
           n, steps, worst);
    assert_true(worst < 1e-5); /* what test_cuda_step.c allows where 16 bits would be exact */
}

int main(void)
{
    if (reattn__cuda_devices() == 0) {
        puts("skipped: no CUDA device");
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_groups)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
