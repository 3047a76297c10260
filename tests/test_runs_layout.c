/* How a plan's runs are laid out for a device: walking the layout as the kernels of src/cuda/runs_many.cu and
 * attend_few.cu do must let each query meet the keys that the runs name, at the positions that they name, as often as
 * they do; and a block of rows has no tile that none of its queries sees. No device is needed. */
#include "test_util.h"

#include "cuda/runs_layout.h"
#include "test_runs.h"

enum { N_CASE = 3000, MOST = 400 };

/* Meetings of a query with a key, by where both sit: a sum over them that hardly two different sets share. */
static uint64_t meeting(int64_t token, int64_t k_pos, int64_t q_pos)
{
    test_rng hash = {(uint64_t)(token * 1000003 + k_pos * 7919 + q_pos)};
    return test_u64(&hash) | 1;
}

static uint64_t by_runs(const reattn__run_list *list, int64_t q_first, int64_t T, int64_t t, int64_t *n)
{
    uint64_t sum = 0;
    *n = 0;
    for (int64_t r = 0; r < list->n; r++) {
        const reattn_run *run = &list->runs[r];
        if (t < run->t_min || t >= reattn__run_end(run, T))
            continue;
        for (int64_t c = 0; c < run->count; c++) {
            const int64_t token = run->first + c, distance = q_first + t - token;
            if (distance < run->dist_min || distance > run->dist_max)
                continue;
            sum += meeting(token, reattn__run_k_pos(run, c), reattn__run_q_pos(run, t));
            ++*n;
        }
    }
    return sum;
}

/* The token and position of a row, as find_row has it. */
static void find_row(const reattn__cuda_layout *l, int list, int32_t row, int64_t *token, int64_t *position)
{
    int32_t found = -1;
    for (int32_t i = l->segment_first[list]; i < l->segment_first[list + 1]; i++)
        if (l->segments[i].row <= row && row < l->segments[i].row + l->segments[i].count) {
            assert_int_equal(found, -1);
            found = i;
        }
    assert_true(found >= 0);
    const reattn__cuda_segment *s = &l->segments[found];
    *token = s->token + row - s->row;
    *position = (s->k_pos + (row - s->row) * s->k_step) / s->k_div;
    assert_true(*position >= 0 && *position < l->positions[list]);
}

static uint64_t by_parts(const reattn__cuda_layout *l, const reattn__cuda_layout_args *a, int list, int64_t row,
                         int64_t *n)
{
    const int32_t block = (int32_t)(row / a->rows), *first = l->part_first + list * l->blocks + block;
    const int64_t t = row / a->g, q_first = a->n - a->T;
    uint64_t sum = 0;
    int32_t tiles = 0, turn = 0;
    *n = 0;
    for (int32_t i = first[0]; i < first[1]; i++) {
        const reattn__cuda_part *p = &l->parts[i];
        assert_true(p->count > 0 && p->tile == tiles && p->tile_end == tiles + (p->count + a->tile - 1) / a->tile);
        assert_true(p->turn >= turn && p->turn < l->turn_first[list + 1] - l->turn_first[list]);
        assert_true(p->row >= 0 && p->row + p->count <= l->rows[list]);
        tiles = p->tile_end, turn = p->turn;
        const reattn__cuda_turn *way = &l->turns[l->turn_first[list] + p->turn];
        for (int32_t c = 0; c < p->count; c++) {
            int64_t token, position, distance = q_first + t - (p->token + c);
            find_row(l, list, p->row + c, &token, &position);
            assert_int_equal(token, p->token + c);
            if (t < p->t_min || t >= p->t_end || distance < p->dist_min || distance > p->dist_max)
                continue;
            const int64_t q_pos = (way->q_pos + t * way->q_step) / way->q_div;
            assert_true(q_pos >= 0 && q_pos < l->positions[list]);
            sum += meeting(token, position, q_pos);
            ++*n;
        }
    }
    assert_true(tiles <= l->tiles_most);
    return sum;
}

static uint64_t by_cuts(const reattn__cuda_layout *l, int list, int64_t *n)
{
    uint64_t sum = 0;
    *n = 0;
    for (int i = 0; i < l->n_cut; i++) {
        const reattn__cuda_cut *c = &l->cuts[list * l->n_cut + i];
        assert_true(c->begin <= c->end && c->begin >= 0 && c->end <= l->rows[list]);
        assert_true(c->q_pos >= 0 && c->q_pos < l->positions[list]);
        for (int32_t row = c->begin; row < c->end; row++) {
            int64_t token, position;
            find_row(l, list, row, &token, &position);
            sum += meeting(token, position, c->q_pos);
            ++*n;
        }
    }
    return sum;
}

static void layouts_name_what_runs_name(void **state)
{
    (void)state;
    test_rng rng = {test_seed()};
    reattn__cuda_layout l = {0};
    reattn_error err = {0, ""};
    int64_t met = 0, shared = 0;
    for (int i = 0; i < N_CASE; i++) {
        const int64_t T = test_one_in(&rng, 4) ? 1 : test_int(&rng, 2, 60), n = test_int(&rng, T, MOST);
        reattn_run runs[3][8];
        reattn__run_list lists[3];
        reattn__cuda_layout_args a = {.lists = lists, .n_list = (int)test_int(&rng, 1, 3), .T = T, .n = n};
        a.g = (int)test_int(&rng, 1, 5), a.rows = (int)test_int(&rng, 1, 40), a.tile = (int)test_int(&rng, 1, 16);
        a.cuts = (int)test_int(&rng, 1, 12);
        for (int list = 0; list < a.n_list; list++) {
            lists[list] = (reattn__run_list){runs[list], test_int(&rng, 0, 8), NULL};
            for (int64_t r = 0; r < lists[list].n; r++)
                runs[list][r] = r > 0 && test_one_in(&rng, 5) ? runs[list][r - 1] : test_run(&rng, T, n, true);
        }
        if (reattn__cuda_layout_make(&l, &a, &err))
            fail_msg("%s", err.msg);
        int64_t seen = 0;
        for (int list = 0; list < a.n_list; list++) {
            int64_t n_runs = 0, n_layout;
            for (int64_t row = 0; row < T * a.g; row++) {
                const uint64_t want = by_runs(&lists[list], n - T, T, row / a.g, &n_runs);
                const uint64_t got = T == 1 ? by_cuts(&l, list, &n_layout) : by_parts(&l, &a, list, row, &n_layout);
                if (want != got || n_runs != n_layout)
                    fail_msg("case %d, list %d, row %" PRId64 ": %" PRId64 " keys, the runs name %" PRId64, i, list,
                             row, n_layout, n_runs);
                met += n_runs;
            }
            seen = REATTN__MAX(seen, n_runs);
            for (int64_t r = 0; r < lists[list].n; r++)
                shared += lists[list].runs[r].count;
            shared -= l.rows[list];
            assert_true(l.rows[list] <= l.rows_most);
        }
        assert_int_equal(l.seen, seen);
    }
    reattn__cuda_layout_free(&l);
    printf("%d layouts: %" PRId64 " meetings of a query and a key\n", N_CASE, met);
    assert_true(met > 1000000 && shared > 0);
}

static reattn__cuda_layout made_of(const reattn_run *runs, int64_t n_run, int64_t T, int64_t n, int cuts)
{
    reattn__cuda_layout l = {0};
    reattn_error err = {0, ""};
    const reattn__run_list list = {runs, n_run, NULL};
    const reattn__cuda_layout_args a = {&list, 1, T, n, 1, 16, 8, cuts};
    if (reattn__cuda_layout_make(&l, &a, &err))
        fail_msg("%s", err.msg);
    return l;
}

/* What is not seen is not there: keys, tiles, copies. */
static void nothing_too_much(void **state)
{
    (void)state;
    /* 32 queries, the last of 1000 tokens, see 100 tokens back, and the first 10. */
    const reattn_run near[] = {{.count = 10, .q_pos = 100, .dist_min = 100, .dist_max = INT64_MAX},
                               {.first = 0, .count = 1000, .k_step = 1, .q_pos = 968, .q_step = 1, .dist_max = 99}};
    reattn__cuda_layout l = made_of(near, 2, 32, 1000, 0);
    assert_int_equal(l.blocks, 2);
    assert_int_equal(l.rows[0], 10 + 131);
    assert_int_equal(l.part_first[2], 4);
    assert_int_equal(l.tiles_most, 2 + (100 + 15 + 7) / 8); /* 16 queries see 115 keys in all */
    assert_int_equal(l.seen, 110);
    reattn__cuda_layout_free(&l);
    /* Two chunks of queries see the same keys at the same places: one copy. */
    const reattn_run chunks[] = {
        {.count = 500, .k_step = 1, .q_pos = 700, .dist_max = INT64_MAX, .t_end = 16},
        {.count = 500, .k_step = 1, .q_pos = 800, .dist_max = INT64_MAX, .t_min = 16, .t_end = 32},
        {.first = 500, .count = 300, .k_pos = 500, .k_step = 1, .q_pos = 800, .dist_max = INT64_MAX, .t_min = 16}};
    l = made_of(chunks, 3, 32, 1000, 0);
    assert_int_equal(l.rows[0], 800);
    assert_int_equal(l.segment_first[1], 1);
    assert_int_equal(l.turn_first[1], 2);
    reattn__cuda_layout_free(&l);
    /* A query: cuts of equal length, none with two turns. */
    const reattn_run one[] = {{.count = 600, .k_step = 1, .q_pos = 700, .dist_max = INT64_MAX},
                              {.first = 600, .count = 300, .q_pos = 800, .dist_max = INT64_MAX}};
    l = made_of(one, 2, 1, 1000, 9);
    assert_int_equal(l.n_cut, 9);
    for (int i = 0; i < 9; i++) {
        assert_int_equal(l.cuts[i].end - l.cuts[i].begin, 100);
        assert_int_equal(l.cuts[i].q_pos, i < 6 ? 700 : 800);
    }
    reattn__cuda_layout_free(&l);
}

static void refusals(void **state)
{
    (void)state;
    const reattn_run good = {.count = 50, .k_step = 1, .q_pos = 40, .q_step = 1, .dist_max = INT64_MAX};
    const reattn_run bad[] = {
        {.first = -1, .count = 5, .dist_max = 9},  {.first = 46, .count = 5, .dist_max = 99},
        {.count = 5, .k_pos = -1, .dist_max = 99}, {.count = 5, .k_pos = 3, .k_step = -1, .dist_max = 99},
        {.count = 5, .q_pos = -1, .dist_max = 99}, {.count = 5, .q_pos = 5, .q_step = -1, .dist_max = 99},
        {.count = 5, .k_div = -1, .dist_max = 99}, {.count = 5, .q_div = -1, .dist_max = 99},
        {.count = 5, .t_min = -1, .dist_max = 99}, {.count = 5, .q_pos = INT64_C(1) << 40, .dist_max = 99},
    };
    reattn__cuda_layout l = {0};
    for (int i = -1; i < (int)(sizeof bad / sizeof *bad); i++) {
        reattn_error err = {0, ""};
        const reattn__run_list list = {i < 0 ? &good : &bad[i], 1, NULL};
        const reattn__cuda_layout_args a = {&list, 1, 10, 50, 1, 16, 8, 0};
        const int code = reattn__cuda_layout_make(&l, &a, &err);
        if (code != (i < 0 ? REATTN_OK : REATTN_E_ARG))
            fail_msg("run %d: %d %s", i, code, err.msg);
        assert_true(i < 0 || err.msg[0] != 0);
    }
    reattn__cuda_layout_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(layouts_name_what_runs_name),
                                       cmocka_unit_test(nothing_too_much), cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
