/* kernels.h - the one dispatch table of the CPU: what a level (base, avx2, avx512, ...) must provide.
 *
 * Everything works on f32. A *tile* is up to REATTN__TILE keys, dimension by dimension: k[d * REATTN__TILE + key]; its
 * values are rows, v[key * Dv + d]. Queries come in one of two ways:
 *   many  a *lane group*: `lanes` query rows side by side, value d of row r at qt[d * lanes + r]. A vector holds one value
 *         of many queries, softmax and top-k run down the keys with no sum across a vector, and one pass of a key
 *         serves every query of the group. For prefill.
 *   few   up to REATTN__FEW rows, q[row * D + d]. A vector holds one dimension of many keys. For decode.
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

/* Most rows of the few. */
#define REATTN__FEW 4

/* A scan found scores that may reach their row's threshold: key key + i and row r have scores[i * key_step + r *
 * row_step]. Keys may reach beyond the n_key of the scan; those mean nothing. The callee may raise thr (the array given
 * to the scan) at once. */
typedef void (*reattn__hit_fn)(void *ctx, int key, int n_key, int n_row, const float *scores, int key_step, int row_step);

/* One tile of flash attention: n_key keys on one lane group or a few rows, folded into the running state (o, m, l).
 * Scores are in units of log 2: scale * log2(e) is already in q. */
typedef struct reattn__tile {
    const float *q; /* many: [D][lanes], few: [n_row][D]; rotated and scaled */
    const float *k; /* [D][REATTN__TILE], rotated */
    const float *v; /* [n_key][Dv] */
    int n_key, n_row, D, Dv;
    const int32_t *lo, *hi; /* [rows] row r sees keys lo[r] <= key < hi[r]; NULL: all see all */
    float *o;               /* many: [Dv][lanes], few: [n_row][Dv]; sum of p v */
    float *m;               /* [rows] highest score so far, -inf at the start */
    float *l;               /* [rows] sum of p */
    float *p;               /* scratch, REATTN__TILE scores of every row */
} reattn__tile;

/* What the keys of a tile got of rows whose softmax is known: exp2(score - lse), scores as in a reattn__tile. */
typedef struct reattn__mass_tile {
    const float *q; /* many: [D][lanes], few: [n_row][D] */
    const float *k; /* [D][REATTN__TILE] */
    int n_key, n_row, D;
    const int32_t *lo, *hi; /* [rows] row r sees keys lo[r] <= key < hi[r] */
    const float *lse;       /* [rows] in units of log 2; infinity: the row gives nothing */
    float *sum;             /* many: [REATTN__TILE][lanes], few: [n_row][REATTN__TILE]; added to */
} reattn__mass_tile;

/* A scan of split keys (kv/split.h) by rows of integers. A query is about unit * (128 high + low) with high and low in
 * -127 .. 127; with one plane the scan reads high alone. Row r hits key i if
 *     (high . key's high (+ low . key's high / 128, with two planes, all times 128) + allow[r]) * scale[i] >= thr[r]
 * The sums are exact; what the caller proved about them is in allow and thr. */
typedef struct reattn__scan8 {
    const uint8_t *high;    /* [n_block][Dp / 4][16][4] */
    const uint16_t *scale;  /* [16 n_block] bfloat16 */
    int n_block, Dp, n_row, planes;
    const int8_t *q;        /* [n_row][2][Dp] */
    const int32_t *sum;     /* [n_row][2] sum of a row's high, of its low */
    const int32_t *allow;   /* [n_row] */
    const float *thr;       /* [n_row] may be raised by a hit */
    void (*hit)(void *ctx, int block, int row, unsigned keys); /* bit i of keys: key 16 * block + i */
    void *ctx;
} reattn__scan8;

/* Attention in 16-bit integers. Rows are scaled so that no sum of products can leave 32 bits: |key| <= 65000 and
 * |query| <= 32700 (Cauchy-Schwarz), values and weights as below. Pairs of neighbours along a sum lie together, as integer
 * dot products take them; the dimensions of a rotated row come in the order a of all pairs, b of all pairs, the rest.
 * Dh is D / 2 rounded up. */
#define REATTN__KEY16 65000.0f
#define REATTN__QUERY16 32700.0f

/* A few rows on up to REATTN__TILE consecutive tokens, whose keys are kept rotated in blocks of 16. */
typedef struct reattn__tile16 {
    const int16_t *const *k;     /* [n_block] blocks [Dh][16][2] */
    const float *const *k_scale; /* [n_block] of 16 */
    const uint16_t *v;           /* [16 n_block][Dv] halves */
    const int16_t *next_k;       /* what the next call will begin with: asked for ahead, as spans lie here and there */
    const uint16_t *next_v;
    int n_block, n_row, Dh, Dv;
    const int16_t *q;            /* [n_row][2 Dh] */
    const float *q_scale;        /* [n_row] score = q_scale * k_scale * sum, in units of log 2 */
    const int32_t *lo, *hi;      /* [n_row] row r sees keys lo[r] <= key < hi[r] */
    float *o, *m, *l, *p;        /* as in a tile of few rows */
} reattn__tile16;

/* A lane group on a tile of up to REATTN__TILE keys. Weights are rounded to 13 bits of the tile's highest, values to 12
 * bits of the tile's largest. */
typedef struct reattn__many16 {
    const int16_t *q;         /* [Dh][lanes][2] */
    const float *q_scale;     /* [lanes] */
    const int16_t *k;         /* [Dh][REATTN__TILE][2] */
    const int16_t *v;         /* [REATTN__TILE / 2][Dv][2] */
    float k_scale, v_scale;
    int n_key, Dh, Dv;
    const int32_t *lo, *hi;   /* as in a tile */
    float *o, *m, *l;         /* as in a tile of many rows */
    float *p;                 /* scratch, 2 * REATTN__TILE scores of every lane */
} reattn__many16;

typedef struct reattn__kernels {
    const char *name;
    int lanes;
    /* IEEE half <-> single, round to nearest even. */
    void (*f16_to_f32)(const uint16_t *src, float *dst, int64_t n);
    void (*f32_to_f16)(const float *src, uint16_t *dst, int64_t n);
    /* A block of half-precision keys [D][16] into columns of a tile: out[d * stride + i], i < 16. */
    void (*f16_block)(const uint16_t *block, int D, float *out, int64_t stride);
    /* Rotates n keys of a tile, k[d * REATTN__TILE + i]. Pair p is dimensions a = p * step and b = a + apart; its cosines
     * are cos[p * cs_stride + i], and sines alike. */
    void (*rope)(float *k, int n, int n_pair, int step, int apart, const float *cos, const float *sin, int64_t cs_stride);
    /* Scores of a tile's keys against a lane group, or n_row <= REATTN__FEW rows; reports those >= thr[row]. The f32
     * score differs from the exact one by at most reattn__dot_error(D) * |q| * |k|; the caller's thr allows for that. */
    void (*scan)(const float *qt, const float *k, int n_key, int D, const float *thr, reattn__hit_fn hit, void *ctx);
    void (*scan_few)(const float *q, int n_row, const float *k, int n_key, int D, const float *thr, reattn__hit_fn hit,
                     void *ctx);
    void (*scan8)(const reattn__scan8 *scan);
    /* Products of one row of integers with the 15-bit integers of a block of split keys; exact but for the rounding of
     * the result. sum as in a scan. */
    void (*dot15)(const uint8_t *high, const uint8_t *low, int Dp, const int8_t *q, const int32_t *sum, float out[16]);
    /* A block of split keys as f32: out[d * stride + i], i < 16. mean [D] or NULL. */
    void (*split_block)(const uint8_t *high, const uint8_t *low, const uint16_t *scale, const float *mean, int D, float *out,
                        int64_t stride);
    void (*attend)(const reattn__tile *tile);
    void (*attend_few)(const reattn__tile *tile);
    void (*mass)(const reattn__mass_tile *tile);
    void (*mass_few)(const reattn__mass_tile *tile);
    /* Rotates a row q [2 Dh] (a of all pairs, b, rest) and rounds it: out = q turned * factor. */
    void (*turn_row)(const float *q, const float *cos, const float *sin, int n_pair, int Dh, float factor, int16_t *out);
    /* 16 rotated keys of a tile, k[d * REATTN__TILE + i], into a block; pair p is dimensions p * step and that + apart. */
    void (*pack_block)(const float *k, int D, int n_pair, int step, int apart, int16_t *out, float *scale);
    void (*attend_row16)(const reattn__tile16 *tile);
    /* For levels where 16-bit products are faster than f32, else NULL: a whole rotated tile (natural order of dimensions)
     * and its values [n][Dv], and attention on them. The scale is one for the tile. */
    void (*pack_keys)(const float *k, int n, int D, int16_t *out, float *scale);
    void (*pack_values)(const float *v, int n, int Dv, int16_t *out, float *scale);
    void (*attend16)(const reattn__many16 *tile);
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
