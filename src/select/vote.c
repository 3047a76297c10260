/* vote.c - counts votes in a hash table as large as the hits, not as the text, then keeps the m best. */
#include "vote.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct tally {
    int64_t pos; /* -1: empty slot */
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

static tally *slot_of(tally *table, uint64_t mask, int64_t pos)
{
    uint64_t i = ((uint64_t)pos * 0x9e3779b97f4a7c15u) >> 20;
    while (table[i & mask].pos != pos && table[i & mask].pos >= 0) i++;
    return &table[i & mask];
}

static void cast(tally *table, uint64_t mask, const reattn_hit *hit, double weight)
{
    tally *t = slot_of(table, mask, hit->pos);
    if (t->pos < 0) *t = (tally){hit->pos, 0, hit->score};
    t->votes += weight;
    if (hit->score > t->best) t->best = hit->score;
}

static void cast_query(tally *table, uint64_t mask, const reattn_hit *hits, int top_k, reattn_vote vote, double scale)
{
    double sum = 0, top = -INFINITY;
    if (vote == REATTN_VOTE_COUNT) {
        for (int i = 0; i < top_k; i++)
            if (hits[i].pos >= 0) cast(table, mask, &hits[i], 1);
        return;
    }
    for (int i = 0; i < top_k; i++)
        if (hits[i].pos >= 0 && hits[i].score > top) top = hits[i].score;
    for (int i = 0; i < top_k; i++)
        if (hits[i].pos >= 0) sum += exp(scale * (hits[i].score - top));
    for (int i = 0; i < top_k; i++) {
        if (hits[i].pos < 0) continue;
        cast(table, mask, &hits[i], exp(scale * (hits[i].score - top)) / sum);
    }
}

int reattn__votes(const reattn_hit *hits, int64_t n_query, int top_k, reattn_vote vote, double scale, int64_t m,
                  int64_t *kept, int64_t *n_kept, reattn__buffer *work, reattn_error *err)
{
    uint64_t size = 16, n = 0;
    while (size < (uint64_t)(2 * n_query * top_k)) size *= 2;
    tally *table = reattn__buffer_need(work, size * sizeof *table);
    if (!table) return reattn__fail(err, REATTN_E_NOMEM, "out of memory: votes need %zu bytes", size * sizeof *table);
    for (uint64_t i = 0; i < size; i++) table[i].pos = -1;
    for (int64_t q = 0; q < n_query; q++) cast_query(table, size - 1, hits + q * top_k, top_k, vote, scale);

    for (uint64_t i = 0; i < size; i++)
        if (table[i].pos >= 0) table[n++] = table[i];
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
        return reattn__fail(err, REATTN_E_ARG, "reattn_votes: n_query %lld, top_k %d, m %lld", (long long)n_query, top_k,
                            (long long)m);
    if (vote != REATTN_VOTE_COUNT && vote != REATTN_VOTE_MASS)
        return reattn__fail(err, REATTN_E_ARG, "reattn_votes: unknown vote %d", (int)vote);
    int code = reattn__votes(hits, n_query, top_k, vote, scale, m, kept, n_kept, &work, err);
    reattn__buffer_free(&work);
    return code;
}
