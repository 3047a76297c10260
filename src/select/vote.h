/* vote.h - what many queries choose together. */
#ifndef REATTN_VOTE_H
#define REATTN_VOTE_H

#include "base/base.h"
#include "reattn/ops.h"

/* reattn_votes (ops.h) on scratch that the caller keeps. */
int reattn__votes(const reattn_hit *hits, int64_t n_query, int top_k, reattn_vote vote, double scale, int64_t m,
                  int64_t *kept, int64_t *n_kept, reattn__buffer *work, reattn_error *err);

/* Bytes of that scratch, for so many hits. */
size_t reattn__votes_scratch(int64_t n_hit);

#endif
