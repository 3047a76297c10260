/* place.h - lays arrays out one after the other in a scratch buffer: once without a base to learn the size, once with
 * it. */
#ifndef REATTN_PLACE_H
#define REATTN_PLACE_H

#include <stddef.h>

/* Points `ptr` at room for `count` elements, aligned to 64 bytes, if there is a base; moves on in any case. Uses the
 * variables `unsigned char *base` and `size_t at` of the function. */
#define REATTN__PLACE(ptr, count)                                                                                      \
    do {                                                                                                               \
        if (base) (ptr) = (void *)(base + at);                                                                         \
        at += ((size_t)(count) * sizeof *(ptr) + 63) / 64 * 64;                                                        \
    } while (0)

#endif
