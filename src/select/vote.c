/* vote.c - counts votes in a hash table as large as the hits, not as the text, then keeps the m best. */
#include "vote.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct tally {
    int64_t pos;
    double votes, best;
} tally;

/* Votes down, then best score down, then position up: a total order. */
static bool before(const tally *a, const tally *b)
{
    if (a->votes != b->votes) return a->votes > b->votes;
    if (a->best != b->best) return a->best > b->best;
    return a->pos < b->pos;
}

/* Moves the m that come first to the front, in any order (quickselect). */
static void keep_first(tally *t, int64_t n, int64_t m)
{
    int64_t lo = 0, hi = n - 1;
    while (lo < hi) {
        tally pivot = t[lo + (hi - lo) / 2];
        int64_t i = lo - 1, j = hi + 1;
        for (;;) {
            while (before(&t[++i], &pivot)) continue;
            while (before(&pivot, &t[--j])) continue;
            if (i >= j) break;
            tally swap = t[i];
            t[i] = t[j];
            t[j] = swap;
        }
        if (j + 1 == m) return;
        if (j + 1 > m) hi = j; /* of the two halves, the one that the m-th lies in */
        else lo = j + 1;
    }
}

static int by_value(const void *x, const void *y)
{
    int64_t a = *(const int64_t *)x, b = *(const int64_t *)y;
    return a < b ? -1 : a > b;
}

/* Tallies in the order in which their positions came up, and a hash table of where each is. */
typedef struct ballot {
    tally *tallies;
    int32_t *slots; /* [size] number of a tally, -1: empty */
    uint64_t size, n;
} ballot;

static void cast(ballot *b, const reattn_hit *hit, double weight)
{
    uint64_t i = ((uint64_t)hit->pos * 0x9e3779b97f4a7c15u) >> 20 & (b->size - 1);
    while (b->slots[i] >= 0 && b->tallies[b->slots[i]].pos != hit->pos) i = (i + 1) & (b->size - 1);
    if (b->slots[i] < 0) {
        b->slots[i] = (int32_t)b->n;
        b->tallies[b->n++] = (tally){hit->pos, 0, hit->score};
    }
    tally *t = &b->tallies[b->slots[i]];
    t->votes += weight;
    if (hit->score > t->best) t->best = hit->score;
}

static void cast_query(ballot *b, const reattn_hit *hits, int top_k, reattn_vote vote, double scale)
{
    double sum = 0, top = -INFINITY;
    if (vote == REATTN_VOTE_COUNT) {
        for (int i = 0; i < top_k; i++)
            if (hits[i].pos >= 0) cast(b, &hits[i], 1);
        return;
    }
    for (int i = 0; i < top_k; i++)
        if (hits[i].pos >= 0 && hits[i].score > top) top = hits[i].score;
    for (int i = 0; i < top_k; i++)
        if (hits[i].pos >= 0) sum += exp(scale * (hits[i].score - top));
    for (int i = 0; i < top_k; i++) {
        if (hits[i].pos < 0) continue;
        cast(b, &hits[i], exp(scale * (hits[i].score - top)) / sum);
    }
}

static uint64_t table_size(uint64_t n_hit)
{
    uint64_t size = 16;
    while (size < 2 * n_hit) size *= 2;
    return size;
}

size_t reattn__votes_scratch(int64_t n_hit)
{
    return (size_t)n_hit * sizeof(tally) + table_size((uint64_t)n_hit) * sizeof(int32_t);
}

int reattn__votes(const reattn_hit *hits, int64_t n_query, int top_k, reattn_vote vote, double scale, int64_t m,
                  int64_t *kept, int64_t *n_kept, reattn__buffer *work, reattn_error *err)
{
    uint64_t hits_max = (uint64_t)(n_query * top_k);
    ballot b = {.size = table_size(hits_max)};
    size_t bytes = reattn__votes_scratch(n_query * top_k);
    b.tallies = reattn__buffer_need(work, bytes);
    if (!b.tallies || hits_max > INT32_MAX)
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory: votes need %zu bytes", bytes);
    b.slots = (int32_t *)(b.tallies + hits_max);
    memset(b.slots, 0xff, b.size * sizeof *b.slots);
    for (int64_t q = 0; q < n_query; q++) cast_query(&b, hits + q * top_k, top_k, vote, scale);

    tally *table = b.tallies;
    uint64_t n = b.n;
    if (n > (uint64_t)m) {
        keep_first(table, (int64_t)n, m);
        n = (uint64_t)m;
    }
    for (uint64_t i = 0; i < n; i++) kept[i] = table[i].pos;
    qsort(kept, n, sizeof *kept, by_value);
    *n_kept = (int64_t)n;
    return REATTN_OK;
}

int reattn_votes(const reattn_hit *hits, int64_t n_query, int top_k, reattn_vote vote, double scale, int64_t m,
                 int64_t *kept, int64_t *n_kept, reattn_error *err)
{
    reattn__buffer work = {0};
    if (n_query < 0 || top_k < 1 || m < 0 || !n_kept || (m > 0 && !kept) || (n_query > 0 && !hits))
        return reattn__fail(err, REATTN_E_ARG, "reattn_votes: n_query %lld, top_k %d, m %lld", (long long)n_query,
                            top_k, (long long)m);
    if (vote != REATTN_VOTE_COUNT && vote != REATTN_VOTE_MASS)
        return reattn__fail(err, REATTN_E_ARG, "reattn_votes: unknown vote %d", (int)vote);
    int code = reattn__votes(hits, n_query, top_k, vote, scale, m, kept, n_kept, &work, err);
    reattn__buffer_free(&work);
    return code;
}
