/* attend.h - attention over a scope on the device: keys and values straight from the store, rotated on the way.
 *
 * Key i of the scope is a token; it sits at position i (or at its token's, with `original`). The last T keys are the
 * queries' own tokens: query t sees keys 0 .. count - T + t. */
#ifndef REATTN_CUDA_ATTEND_H
#define REATTN_CUDA_ATTEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "reattn/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Without `tokens` key i is token i, or i + skip from key `head` on, and there are `most` of them. */
typedef struct reattn__cuda_scope {
    const int32_t *tokens;    /* [lists][room], device; or NULL */
    const int32_t *count;     /* [lists], device; or NULL with tokens */
    const int32_t *positions; /* [lists][room], device; or NULL: those of an `original` scope are `tokens` */
    int64_t room, head, skip;
    int64_t most; /* no list has more keys */
    int64_t sure; /* so many last tokens are in all of them. A single query attends to these while the plan before it
                     is still being made (plan.h: `along`): queries, keys and values must be there already, then */
    const reattn_span *likely; /* [lists][likely_room], device, or NULL: what lists will probably have, and... */
    const int32_t *n_likely;   /* ...[lists] how many spans: it does no harm to be wrong */
    int64_t likely_room;
    int64_t ring; /* not 0: `tokens` are rows of k and v, and of the last tokens t is in row t % ring (tier.h)... */
    int64_t rows; /* ...of so many */
    int lists;    /* 1, or the number of KV heads */
    int alike;    /* 1: these hold the same keys, one is as good as another but for where they are */
    int original; /* 1: positions are those of the text */
} reattn__cuda_scope;

typedef struct reattn__cuda_attend_args {
    const float *q;     /* [T][H][D], device, not rotated */
    const void *k, *v;  /* [tokens][Hk][D], device, aligned to 16, of type `type` (reattn__cuda_type) */
    int type, H, Hk, D; /* D 64, 96, 128 or 256 */
    int64_t T, n;       /* queries, tokens held; T <= keys of any list */
    float scale;
    /* Rotations: value pairs of a head are (2i, 2i+1), or with `neox` (i, i + n_rot/2), those past n_rot likewise among
     * themselves. cs [positions][D], device: the cosines of the D/2 pairs, then the sines; 1 and 0 past n_rot. */
    const float *cs;
    int neox, n_rot;
    reattn__cuda_scope scope;
    float *out; /* written, device: value d of head h of query t at t * out_stride_token + h * out_stride_head + d */
    int64_t out_stride_token, out_stride_head;
    float *lse; /* [T][H], device, written unless NULL */
    void *work; /* reattn__cuda_attend_bytes(...), aligned to 256 */
    size_t work_bytes;
    int among; /* single queries that are attended to at the same time and share the device; 0 is 1. The scope is cut
                  accordingly, which the last bits of the output depend on, whoever the others are */
} reattn__cuda_attend_args;

size_t reattn__cuda_attend_bytes(const reattn__cuda_attend_args *args);
/* Queues two kernels for one query, two or three for more. Errors: E_ARG, E_UNSUPPORTED, E_INTERNAL. */
int reattn__cuda_attend(const reattn__cuda_attend_args *args, void *stream, reattn_error *err);
/* Up to REATTN__CUDA_MANY single queries of several sessions in one launch of each kernel, all alike, of `among` or
 * fewer. */
bool reattn__cuda_attend_together(const reattn__cuda_attend_args *a, const reattn__cuda_attend_args *b);
int reattn__cuda_attend_many(const reattn__cuda_attend_args *args, int n, void *stream, reattn_error *err);

#ifdef __cplusplus
}
#endif
#endif
