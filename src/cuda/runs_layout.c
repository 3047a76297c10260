/* runs_layout.c - see runs_layout.h. */
#include "cuda/runs_layout.h"

#include <stdlib.h>
#include <string.h>

#include "base/place.h"

/* No distance between two tokens is larger: what a run allows is cut to it, so that it fits 32 bits. */
#define FAR_AWAY ((int64_t)1 << 30)

/* A run, or what its queries see of it: tokens [lo, hi). */
typedef struct seen {
    const reattn_run *run;
    int64_t lo, hi, t_min, t_end;
    int64_t base; /* key of token j sits at (base + j k_step) / k_div */
    int64_t k_step, k_div;
    int32_t turn, segment;
} seen;

typedef struct making {
    const reattn__cuda_layout_args *a;
    reattn__cuda_layout *l;
    seen *seen; /* [n] of the list at hand, in the order of runs */
    seen **by_turn, **by_key;
    int64_t n, cuts_room; /* runs that are seen; cuts of a list at most */
} making;

/* ------------------------------------------------------------------------------------------------ one list ------- */

/* Tokens of [lo, hi) that a query of t_min .. t_end - 1 sees. */
static void see(const making *m, const reattn_run *run, int64_t t_min, int64_t t_end, int64_t *lo, int64_t *hi)
{
    const int64_t q_first = m->a->n - m->a->T, from = q_first + t_min, to = q_first + t_end - 1;
    if (run->dist_max < from - *lo)
        *lo = from - run->dist_max;
    if (run->dist_min > to - (*hi - 1))
        *hi = to - run->dist_min + 1;
}

static int check(const making *m, const reattn_run *run, int64_t t_end, int64_t i, reattn_error *err)
{
    const int64_t k_last = run->k_pos + (run->count - 1) * run->k_step;
    const int64_t q0 = run->q_pos + run->t_min * run->q_step, q1 = run->q_pos + (t_end - 1) * run->q_step;
    if (run->first < 0 || run->k_pos < 0 || k_last < 0 || q0 < 0 || q1 < 0 || run->k_div < 0 || run->q_div < 0 ||
        run->t_min < 0 || run->t_end < 0)
        return reattn__fail(err, REATTN_E_ARG, "run %lld has a negative token, position, divisor or query",
                            (long long)i);
    if (run->first + run->count > m->a->n)
        return reattn__fail(err, REATTN_E_ARG, "run %lld ends at token %lld, %lld are held", (long long)i,
                            (long long)(run->first + run->count), (long long)m->a->n);
    return REATTN_OK;
}

/* The turn of a run, a new one if no run of the list had it. */
static int32_t turn_of(const making *m, int list, const reattn_run *run)
{
    reattn__cuda_layout *l = m->l;
    const reattn__cuda_turn turn = m->a->T == 1
                                       ? (reattn__cuda_turn){reattn__run_q_pos(run, 0), 0, 1}
                                       : (reattn__cuda_turn){run->q_pos, run->q_step, REATTN__MAX(run->q_div, 1)};
    int32_t i = l->turn_first[list];
    for (; i < l->turn_first[list + 1]; i++) {
        const reattn__cuda_turn *t = &l->turns[i];
        if (t->q_pos == turn.q_pos && t->q_step == turn.q_step && t->q_div == turn.q_div)
            return i - l->turn_first[list];
    }
    l->turns[i] = turn;
    l->turn_first[list + 1]++;
    return i - l->turn_first[list];
}

/* What is seen of the list's runs, and how their queries turn. */
static int look(making *m, int list, reattn_error *err)
{
    const reattn__cuda_layout_args *a = m->a;
    const reattn__run_list *runs = &a->lists[list];
    int64_t highest = 0, last = 0;
    m->n = 0;
    for (int64_t i = 0; i < runs->n; i++) {
        const reattn_run *run = &runs->runs[i];
        const int64_t t_end = reattn__run_end(run, a->T);
        if (run->count <= 0 || run->dist_min > run->dist_max || run->t_min >= t_end)
            continue;
        const int code = check(m, run, t_end, i, err);
        if (code != REATTN_OK)
            return code;
        seen s = {.run = run, .lo = run->first, .hi = run->first + run->count, .t_min = run->t_min, .t_end = t_end};
        see(m, run, s.t_min, s.t_end, &s.lo, &s.hi);
        if (s.lo >= s.hi)
            continue;
        s.k_step = run->k_step;
        s.k_div = REATTN__MAX(run->k_div, 1);
        s.base = run->k_pos - run->first * run->k_step;
        s.turn = turn_of(m, list, run);
        const int64_t k0 = (s.base + s.lo * s.k_step) / s.k_div, k1 = (s.base + (s.hi - 1) * s.k_step) / s.k_div;
        const int64_t q0 = reattn__run_q_pos(run, s.t_min), q1 = reattn__run_q_pos(run, s.t_end - 1);
        highest = REATTN__MAX(highest, REATTN__MAX(REATTN__MAX(k0, k1), REATTN__MAX(q0, q1)));
        if (s.t_end == a->T) {
            int64_t lo = s.lo, hi = s.hi;
            see(m, run, a->T - 1, a->T, &lo, &hi);
            last += REATTN__MAX(hi - lo, (int64_t)0);
        }
        m->seen[m->n++] = s;
    }
    if (highest >= INT32_MAX)
        return reattn__fail(err, REATTN_E_ARG, "position %lld is out of range", (long long)highest);
    m->l->positions[list] = (int32_t)highest + 1;
    m->l->seen = REATTN__MAX(m->l->seen, last);
    return REATTN_OK;
}

static int compare(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int by_turn(const void *a, const void *b)
{
    const seen *x = *(seen *const *)a, *y = *(seen *const *)b;
    const int order = compare(x->turn, y->turn);
    return order ? order : compare(x - y, 0);
}

/* Keys that rotate alike together, in the order of tokens. */
static int by_key(const void *a, const void *b)
{
    const seen *x = *(seen *const *)a, *y = *(seen *const *)b;
    int order = compare(x->k_step, y->k_step);
    order = order ? order : compare(x->k_div, y->k_div);
    order = order ? order : compare(x->base, y->base);
    order = order ? order : compare(x->lo, y->lo);
    return order ? order : compare(x - y, 0);
}

static reattn__cuda_segment *add_segment(making *m, int list, const seen *s)
{
    reattn__cuda_layout *l = m->l;
    reattn__cuda_segment *to = &l->segments[l->segment_first[list + 1]++];
    *to = (reattn__cuda_segment){.k_pos = s->base + s->lo * s->k_step,
                                 .k_step = s->k_step,
                                 .k_div = s->k_div,
                                 .token = (int32_t)s->lo,
                                 .row = l->rows[list],
                                 .count = (int32_t)(s->hi - s->lo)};
    return to;
}

/* Segments for many queries: shared where runs overlap or touch. */
static int share_keys(making *m, int list, reattn_error *err)
{
    reattn__cuda_layout *l = m->l;
    reattn__cuda_segment *at = NULL;
    const seen *before = NULL;
    int64_t rows = 0;
    for (int64_t i = 0; i < m->n; i++) {
        seen *s = m->by_key[i];
        const bool alike =
            before && before->k_step == s->k_step && before->k_div == s->k_div && before->base == s->base;
        if (alike && s->lo <= at->token + (int64_t)at->count) {
            const int64_t more = s->hi - (at->token + (int64_t)at->count);
            at->count += (int32_t)REATTN__MAX(more, (int64_t)0);
            rows += REATTN__MAX(more, (int64_t)0);
        } else {
            l->rows[list] = (int32_t)rows;
            at = add_segment(m, list, s);
            rows += s->hi - s->lo;
        }
        s->segment = (int32_t)(at - l->segments);
        before = s;
        if (rows > INT32_MAX)
            return reattn__fail(err, REATTN_E_ARG, "a plan names more than %d keys", INT32_MAX);
    }
    l->rows[list] = (int32_t)rows;
    return REATTN_OK;
}

/* ------------------------------------------------------------------------------------------- many queries -------- */

static void add_parts(making *m, int list, int block)
{
    const reattn__cuda_layout_args *a = m->a;
    reattn__cuda_layout *l = m->l;
    const int64_t first = (int64_t)block * a->rows, last = REATTN__MIN(first + a->rows, a->T * a->g) - 1;
    int32_t *end = &l->part_first[list * l->blocks + block + 1], tiles = 0;
    *end = end[-1];
    for (int64_t i = 0; i < m->n; i++) {
        const seen *s = m->by_turn[i];
        const int64_t t0 = REATTN__MAX(s->t_min, first / a->g), t1 = REATTN__MIN(s->t_end, last / a->g + 1);
        int64_t lo = s->lo, hi = s->hi;
        if (t0 >= t1)
            continue;
        see(m, s->run, t0, t1, &lo, &hi);
        if (lo >= hi)
            continue;
        const reattn__cuda_segment *segment = &l->segments[s->segment];
        const int32_t count = (int32_t)(hi - lo), more = (count + a->tile - 1) / a->tile;
        l->parts[(*end)++] = (reattn__cuda_part){.token = (int32_t)lo,
                                                 .row = segment->row + (int32_t)(lo - segment->token),
                                                 .count = count,
                                                 .tile = tiles,
                                                 .tile_end = tiles + more,
                                                 .turn = s->turn,
                                                 .t_min = (int32_t)s->t_min,
                                                 .t_end = (int32_t)s->t_end,
                                                 .dist_min = (int32_t)REATTN__MAX(s->run->dist_min, -FAR_AWAY),
                                                 .dist_max = (int32_t)REATTN__MIN(s->run->dist_max, FAR_AWAY)};
        tiles += more;
    }
    l->tiles_most = REATTN__MAX(l->tiles_most, tiles);
}

/* ---------------------------------------------------------------------------------------------- one query -------- */

/* Cuts that keys of these turns fall into, if none is longer than `longest`. */
static int64_t cuts_of(const int64_t *keys, int64_t n_turn, int64_t longest)
{
    int64_t n = 0;
    for (int64_t i = 0; i < n_turn; i++)
        n += (keys[i] + longest - 1) / longest;
    return n;
}

/* Rows in the order of turns, and their cuts: as short as they can be while they are no more than wanted, or one a
 * turn. */
static int cut(making *m, int list, int64_t *keys, reattn_error *err)
{
    reattn__cuda_layout *l = m->l;
    const int64_t n_turn = l->turn_first[list + 1] - l->turn_first[list];
    int64_t rows = 0, made = 0;
    memset(keys, 0, (size_t)n_turn * sizeof *keys);
    for (int64_t i = 0; i < m->n; i++) {
        const seen *s = m->by_turn[i];
        l->rows[list] = (int32_t)rows;
        add_segment(m, list, s);
        keys[s->turn] += s->hi - s->lo;
        rows += s->hi - s->lo;
        if (rows > INT32_MAX)
            return reattn__fail(err, REATTN_E_ARG, "a plan names more than %d keys", INT32_MAX);
    }
    l->rows[list] = (int32_t)rows;
    int64_t lo = 1, hi = REATTN__MAX(rows, (int64_t)1);
    while (lo < hi) {
        const int64_t middle = (lo + hi) / 2;
        if (cuts_of(keys, n_turn, middle) <= m->a->cuts)
            hi = middle;
        else
            lo = middle + 1;
    }
    reattn__cuda_cut *to = l->cuts + (int64_t)list * m->cuts_room;
    int64_t at = 0;
    for (int64_t i = 0; i < n_turn; i++) {
        const reattn__cuda_turn *turn = &l->turns[l->turn_first[list] + i];
        const int64_t parts = (keys[i] + lo - 1) / lo, end = at + keys[i];
        for (int64_t p = 0, from = at; p < parts; p++) {
            const int64_t until = at + keys[i] * (p + 1) / parts;
            to[made++] = (reattn__cuda_cut){(int32_t)from, (int32_t)until, (int32_t)turn->q_pos, 0};
            from = until;
        }
        at = end;
    }
    l->n_cut = REATTN__MAX(l->n_cut, (int)made);
    for (; made < m->cuts_room; made++)
        to[made] = (reattn__cuda_cut){0, 0, 0, 0};
    return REATTN_OK;
}

/* ---------------------------------------------------------------------------------------------------- all -------- */

static size_t place_image(reattn__cuda_layout *l, unsigned char *base, int64_t runs, int64_t cuts)
{
    size_t at = 0;
    REATTN__PLACE(l->segment_first, l->n_list + 1);
    REATTN__PLACE(l->turn_first, l->n_list + 1);
    REATTN__PLACE(l->rows, l->n_list);
    REATTN__PLACE(l->positions, l->n_list);
    REATTN__PLACE(l->segments, runs);
    REATTN__PLACE(l->turns, runs);
    REATTN__PLACE(l->cuts, l->n_list * cuts);
    REATTN__PLACE(l->part_first, (int64_t)l->n_list * l->blocks + 1);
    REATTN__PLACE(l->parts, runs * l->blocks); /* the last: what is left over is not copied */
    return at;
}

static size_t place_work(making *m, int64_t **keys, unsigned char *base, int64_t runs)
{
    size_t at = 0;
    REATTN__PLACE(m->seen, runs);
    REATTN__PLACE(m->by_turn, runs);
    REATTN__PLACE(m->by_key, runs);
    REATTN__PLACE(*keys, runs);
    return at;
}

static int make_list(making *m, int list, int64_t *keys, reattn_error *err)
{
    reattn__cuda_layout *l = m->l;
    l->segment_first[list + 1] = l->segment_first[list];
    l->turn_first[list + 1] = l->turn_first[list];
    int code = look(m, list, err);
    if (code != REATTN_OK)
        return code;
    for (int64_t i = 0; i < m->n; i++)
        m->by_turn[i] = m->by_key[i] = &m->seen[i];
    qsort(m->by_turn, (size_t)m->n, sizeof *m->by_turn, by_turn);
    if (m->a->T == 1) {
        code = cut(m, list, keys, err);
    } else {
        qsort(m->by_key, (size_t)m->n, sizeof *m->by_key, by_key);
        code = share_keys(m, list, err);
        for (int block = 0; block < l->blocks && code == REATTN_OK; block++)
            add_parts(m, list, block);
    }
    l->rows_most = REATTN__MAX(l->rows_most, l->rows[list]);
    l->turns_most = REATTN__MAX(l->turns_most, l->turn_first[list + 1] - l->turn_first[list]);
    return code;
}

int reattn__cuda_layout_make(reattn__cuda_layout *l, const reattn__cuda_layout_args *a, reattn_error *err)
{
    making m = {.a = a, .l = l};
    int64_t runs = 0, longest = 0, *keys = NULL;
    for (int i = 0; i < a->n_list; i++) {
        runs += a->lists[i].n;
        longest = REATTN__MAX(longest, a->lists[i].n);
    }
    l->n_list = a->n_list;
    l->blocks = a->T == 1 ? 0 : (int)((a->T * a->g + a->rows - 1) / a->rows);
    m.cuts_room = a->T == 1 ? REATTN__MAX((int64_t)a->cuts, longest) : 0;
    l->n_cut = 0;
    l->rows_most = l->turns_most = l->tiles_most = 0;
    l->seen = 0;
    unsigned char *image = reattn__buffer_need(&l->image, place_image(l, NULL, runs, m.cuts_room));
    unsigned char *work = reattn__buffer_need(&l->work, place_work(&m, &keys, NULL, longest));
    if (!image || !work)
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory for a plan of %lld runs", (long long)runs);
    place_image(l, image, runs, m.cuts_room);
    place_work(&m, &keys, work, longest);
    l->segment_first[0] = l->turn_first[0] = l->part_first[0] = 0;
    int code = REATTN_OK;
    for (int list = 0; list < a->n_list && code == REATTN_OK; list++)
        code = make_list(&m, list, keys, err);
    for (int list = 1; list < a->n_list && code == REATTN_OK; list++) /* as many a list as the longest needs */
        memmove(l->cuts + (int64_t)list * l->n_cut, l->cuts + list * m.cuts_room, (size_t)l->n_cut * sizeof *l->cuts);
    l->bytes = (size_t)((unsigned char *)(l->parts + l->part_first[a->n_list * l->blocks]) - image);
    return code;
}

void reattn__cuda_layout_free(reattn__cuda_layout *l)
{
    reattn__buffer_free(&l->image);
    reattn__buffer_free(&l->work);
    *l = (reattn__cuda_layout){0};
}
