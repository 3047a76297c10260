/* kernels.h - the one dispatch table of the CPU: what a level (base, avx2, avx512, ...) must provide.
 *
 * Everything works on f32. Queries are packed in *lane groups*: `lanes` query rows side by side, value d of row r at
 * qt[d * lanes + r], so that a vector holds one value of many queries. Softmax and top-k then run down the keys with no
 * sum across a vector, keys are read in their natural order, and one pass of a key serves every query of the group.
 *
 * A level is kernels_impl.h compiled with that level's flags; level_scalar.c is the same in plain loops over ref
 * arithmetic. No kernel's result depends on how many groups or threads there are. */
#ifndef REATTN_KERNELS_H
#define REATTN_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

/* Most keys that one call of a tile kernel takes; the caller's score scratch is [REATTN__TILE][lanes]. */
#define REATTN__TILE 64
/* Most lanes of any level. */
#define REATTN__LANES_MAX 32

/* A scan found scores that reach their row's threshold: keys key .. key + n_key - 1, scores [n_key][lanes]. The callee
 * may raise thr (the array given to the scan) at once. */
typedef void (*reattn__hit_fn)(void *ctx, int key, int n_key, const float *scores);

/* One tile of flash attention: n_key keys on one lane group, folded into the running state (o, m, l). Scores are in
 * units of log 2: scale * log2(e) is already in qt. */
typedef struct reattn__tile {
    const float *qt; /* [D][lanes], rotated and scaled */
    const float *k;  /* [n_key][D], rotated */
    const float *v;  /* [n_key][Dv] */
    int n_key, D, Dv;
    const int32_t *lo, *hi; /* [lanes] lane r sees keys lo[r] <= key < hi[r]; NULL: all see all */
    float *o;               /* [Dv][lanes] sum of p v */
    float *m;               /* [lanes] highest score so far, -inf at the start */
    float *l;               /* [lanes] sum of p */
    float *p;               /* scratch [REATTN__TILE][lanes] */
} reattn__tile;

typedef struct reattn__kernels {
    const char *name;
    int lanes;
    /* IEEE half <-> single, round to nearest even. */
    void (*f16_to_f32)(const uint16_t *src, float *dst, int64_t n);
    void (*f32_to_f16)(const float *src, uint16_t *dst, int64_t n);
    /* Scores of n_key keys [n_key][D] against one lane group; reports those >= thr[row]. The f32 score differs from the
     * exact one by at most reattn__dot_error(D) * |q| * |k|; the caller's thr allows for that. */
    void (*scan)(const float *qt, const float *k, int n_key, int D, const float *thr, reattn__hit_fn hit, void *ctx);
    void (*attend)(const reattn__tile *tile);
} reattn__kernels;

/* Bound on the relative error of an f32 dot product of length D in any order of summation, with or without fused
 * multiply-add, against |q| |k| (Higham's gamma_D with room to spare). */
static inline double reattn__dot_error(int D)
{
    return (double)(D + 4) * 6.0e-8;
}

/* The best level that this CPU has (or the one forced), chosen once. */
const reattn__kernels *reattn__cpu(void);
/* Tests only: forces a level by name ("scalar", "base", "avx2", "avx512"), NULL goes back to the best. Returns 0, or
 * REATTN_E_ARG when this build or this CPU does not have it. Not thread-safe. */
int reattn__cpu_force_level(const char *name);

#endif
