/* random.c - see random.h. */
#include "random.h"

rng rng_start(int64_t seed, const char *purpose)
{
    uint64_t h = 14695981039346656037u; /* FNV-1a */
    for (const unsigned char *s = (const unsigned char *)purpose; *s; s++)
        h = (h ^ *s) * 1099511628211u;
    rng r = {h ^ (uint64_t)seed};
    r.state = rng_next(&r);
    return r;
}

uint64_t rng_next(rng *r)
{
    uint64_t z = r->state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

int64_t rng_below(rng *r, int64_t n)
{
    uint64_t range = (uint64_t)n, limit = UINT64_MAX - UINT64_MAX % range, x;
    while ((x = rng_next(r)) >= limit)
        ;
    return (int64_t)(x % range);
}

void rng_order(rng *r, int *order, int n)
{
    for (int i = 0; i < n; i++) {
        int j = (int)rng_below(r, i + 1);
        order[i] = order[j];
        order[j] = i;
    }
}
