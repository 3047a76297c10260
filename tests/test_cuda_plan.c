/* Votes, clip and spans on a CUDA device equal vote.c and span.c: few and many hits, ties, one list and several.
 * Skipped (77) without a CUDA build or without a device. */
#include "test_util.h"

#ifndef REATTN_HAVE_CUDA
int main(void)
{
    puts("skipped: built without CUDA");
    return 77;
}
#else

#include "base/base.h"
#include "cuda/plan.h"
#include "test_cuda.h"

enum { N_PLAN = 400 };

static void test_plans(void **state)
{
    (void)state;
    test_rng rng = {test_seed()};
    int64_t total = 0;
    for (int c = 0; c < N_PLAN; c++) {
        reattn_error err = {0, ""};
        const int lists = (int)test_int(&rng, 1, 3), H = lists * (int)test_int(&rng, 1, 4),
                  k = (int)test_int(&rng, 1, 8);
        const int64_t n_query = test_one_in(&rng, 4) ? test_int(&rng, 1, 2000) : test_int(&rng, 1, 100);
        const int64_t keep = test_int(&rng, 0, 50), local = test_int(&rng, 1, 600);
        const int64_t middle = test_one_in(&rng, 2) ? test_int(&rng, 1, 200) : test_int(&rng, 1, 300000);
        const int64_t m = test_one_in(&rng, 8) ? test_int(&rng, 1, 4096) : test_int(&rng, 1, 150),
                      span = test_int(&rng, 1, 60);
        const bool ties = test_one_in(&rng, 2), mass = !ties && test_one_in(&rng, 3);
        const int64_t n = keep + middle + local, room = keep + m * span + local, n_hit = n_query * H * k;
        reattn_hit *hits = malloc(sizeof *hits * (size_t)n_hit);
        for (int64_t i = 0; i < n_hit; i++) {
            const int64_t pos =
                test_one_in(&rng, 2) ? test_int(&rng, 0, REATTN__MIN(middle, 40) - 1) : test_int(&rng, 0, middle - 1);
            hits[i] = (reattn_hit){pos, ties ? 0.0 * (double)test_int(&rng, -1, 1) + (double)test_int(&rng, -1, 1)
                                             : (double)test_normal(&rng)};
            if (test_one_in(&rng, 20))
                hits[i] = (reattn_hit){-1, -INFINITY};
        }
        const bool decode = test_one_in(&rng, 2); /* a few queries come last, and older ones have voted before */
        const int64_t few = test_int(&rng, 0, 2), n_fresh = decode && few < n_query ? few : n_query;
        reattn__cuda_plan_args args = {.n_query = n_query,
                                       .fresh = test_int(&rng, 0, n_query - n_fresh),
                                       .n_fresh = n_fresh,
                                       .H = H,
                                       .top_k = k,
                                       .lists = lists,
                                       .vote = mass,
                                       .scale = 0.7,
                                       .m = m,
                                       .span = span,
                                       .n = n,
                                       .keep = keep,
                                       .local = local,
                                       .room = room};
        args.hits = on_device(hits, sizeof *hits * (size_t)n_hit);
        args.tokens = on_device(NULL, sizeof(int32_t) * (size_t)(lists * room));
        args.count = on_device(NULL, sizeof(int32_t) * (size_t)lists);
        args.n_span = on_device(NULL, sizeof(int32_t) * (size_t)lists);
        args.spans = on_device(NULL, sizeof(reattn_span) * (size_t)(lists * m));
        args.work_bytes = reattn__cuda_plan_bytes(&args);
        args.work = on_device(NULL, args.work_bytes);
        if (reattn__cuda_plan(&args, NULL, &err))
            fail_msg("%s", err.msg);
        int32_t *tokens = malloc(sizeof *tokens * (size_t)(lists * room)), count[3], n_span[3];
        reattn_span *spans = malloc(sizeof *spans * (size_t)(lists * m));
        assert_int_equal(
            cudaMemcpy(tokens, args.tokens, sizeof *tokens * (size_t)(lists * room), cudaMemcpyDeviceToHost), 0);
        assert_int_equal(cudaMemcpy(count, args.count, sizeof(int32_t) * (size_t)lists, cudaMemcpyDeviceToHost), 0);
        assert_int_equal(cudaMemcpy(n_span, args.n_span, sizeof(int32_t) * (size_t)lists, cudaMemcpyDeviceToHost), 0);
        assert_int_equal(cudaMemcpy(spans, args.spans, sizeof *spans * (size_t)(lists * m), cudaMemcpyDeviceToHost), 0);

        const int per = H / lists * k;
        reattn_hit *mine = malloc(sizeof *mine * (size_t)(n_query * per));
        int64_t *kept = malloc(sizeof *kept * (size_t)m), n_kept, want_spans;
        reattn_span *want = malloc(sizeof *want * (size_t)m);
        for (int list = 0; list < lists; list++) {
            for (int64_t i = 0; i < n_query; i++)
                memcpy(mine + i * per, hits + i * H * k + list * per, sizeof *mine * (size_t)per);
            assert_int_equal(reattn_votes(mine, n_query * (H / lists), k, mass ? REATTN_VOTE_MASS : REATTN_VOTE_COUNT,
                                          0.7, m, kept, &n_kept, &err),
                             0);
            for (int64_t i = 0; i < n_kept; i++)
                kept[i] += keep;
            assert_int_equal(reattn_spans(kept, n_kept, span, keep, n - local, want, &want_spans, &err), 0);
            bool same = n_span[list] == want_spans;
            int64_t at = 0;
            const int32_t *token = tokens + list * room;
            for (int64_t i = 0; i < keep; i++)
                same &= token[at++] == i;
            for (int64_t r = 0; same && r < want_spans; r++) {
                same = spans[list * m + r].first == want[r].first && spans[list * m + r].count == want[r].count;
                for (int64_t i = 0; i < want[r].count; i++)
                    same &= token[at++] == want[r].first + i;
            }
            for (int64_t i = 0; same && i < local; i++)
                same &= token[at++] == n - local + i;
            if (!same || count[list] != at)
                fail_msg("case %d list %d: n_query %" PRId64 " H %d k %d middle %" PRId64 " m %" PRId64 " span %" PRId64
                         " mass %d ties %d: %d spans, %d keys; the CPU has %" PRId64 ", %" PRId64,
                         c, list, n_query, H, k, middle, m, span, mass, ties, n_span[list], count[list], want_spans,
                         at);
            total++;
        }
        free(hits), free(tokens), free(spans), free(mine), free(kept), free(want);
        cudaFree((void *)args.hits), cudaFree(args.tokens), cudaFree(args.count), cudaFree(args.n_span);
        cudaFree(args.spans), cudaFree(args.work);
    }
    printf("%" PRId64 " plans equal the CPU's\n", total);
}

int main(void)
{
    if (reattn__cuda_devices() == 0) {
        puts("skipped: no CUDA device");
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_plans)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
