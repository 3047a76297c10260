/* mspoe.h - how Ms-PoE ranks heads; for its tests. */
#ifndef REATTN_MSPOE_H
#define REATTN_MSPOE_H

#include <stdint.h>

/* How many of the n keys have a softmax weight of more than three times the mean, 1/n. */
int64_t reattn__mspoe_standouts(const float *score, int64_t n);
/* Heads by falling share of such keys: rank[h] is the place of head h, 0 the first. Equal shares: in their order. */
void reattn__mspoe_rank(const double *share, int n, int *rank);
/* The ratio of a rank among n heads. */
double reattn__mspoe_ratio(int rank, int n);

#endif
