/* random.h - the same numbers for the same seed on every machine (SplitMix64). */
#ifndef RANDOM_H
#define RANDOM_H

#include <stdint.h>

typedef struct rng {
    uint64_t state;
} rng;

/* Streams of different purposes have nothing to do with each other. */
rng rng_start(int64_t seed, const char *purpose);
uint64_t rng_next(rng *r);
/* 0 .. n-1 */
int64_t rng_below(rng *r, int64_t n);
/* A random order of 0 .. n-1 in order [n]. */
void rng_order(rng *r, int *order, int n);

#endif
