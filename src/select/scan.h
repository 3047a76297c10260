/* scan.h - how an exact top-k is cut into tasks, shared by topk.c and the two ways of scanning.
 *
 * A KV head's queries are rows (row = t * g + query head in its group). A task is (KV head, block of rows, range of
 * keys), or all KV heads at once: the range is the whole for a chunk of many queries and a part for a few (decode),
 * whose lists are then joined. The order of keys is total, so the joined list is the same whatever the cut. No score
 * matrix is stored. */
#ifndef REATTN_SCAN_H
#define REATTN_SCAN_H

#include <stdatomic.h>

#include "cpu/kernels.h"
#include "select/topk.h"

typedef struct reattn__scan_f32 {
    int lanes;                   /* rows of a group */
    int64_t groups;              /* of a KV head */
    float *qt;                   /* [Hk][groups][D][lanes], few: [Hk][groups][lanes][D] */
    double *q_norm;              /* [Hk][groups * lanes] */
    float *tiles;                /* [n_threads][tile_floats] */
    int64_t tile_floats;
} reattn__scan_f32;

/* What a scan of split keys knows of a query. */
typedef struct reattn__int_query {
    double unit;         /* q is about unit * (128 high + low) */
    double norm;         /* |q|, rounded up */
    double rest8, rest15; /* |q - unit * 128 high|, |q - unit * (128 high + low)|, rounded up */
    double mean;         /* q . mean key */
} reattn__int_query;

typedef struct reattn__scan_split {
    int Dp, planes;
    int8_t *q;               /* [Hk][rows][2][Dp] */
    int32_t *sum;            /* [Hk][rows][2] */
    reattn__int_query *info; /* [Hk][rows] */
    double *mean_norm;       /* [Hk] */
    struct reattn__row *state; /* [splits][Hk][rows] */
    double *best;            /* [splits][Hk][rows][top_k] */
    float *thr;              /* [splits][Hk][rows] */
    int32_t *allow;          /* [splits][Hk][rows] */
} reattn__scan_split;

typedef struct reattn__scan_plan {
    const reattn__topk_args *a;
    const reattn__kernels *cpu;
    int Hk, g, D, Dv;
    bool few;                     /* so few rows that vectors run along the keys */
    int task_heads;               /* KV heads of a task: one, or all */
    int64_t rows, block_rows, blocks; /* query rows of a KV head, of a task, tasks that they make */
    int64_t splits, split_keys;   /* ranges of keys, and their size */
    _Atomic double *floor;        /* [Hk][rows] no score below it can win; rises while parts of the keys are scanned */
    reattn_hit *part;             /* [splits][T][H][top_k]; the caller's hits if there is one split */
    reattn__scan_f32 f32;
    reattn__scan_split split;
    atomic_llong rescored;
} reattn__scan_plan;

/* The heads, rows and keys of a task. */
typedef struct reattn__scan_part {
    int head0, head1;
    int64_t split, lo, hi, row0, row1;
} reattn__scan_part;

static inline reattn__scan_part reattn__scan_part_of(const reattn__scan_plan *p, int64_t task)
{
    reattn__scan_part part = {.head0 = (int)(task / p->splits / p->blocks) * p->task_heads, .split = task % p->splits};
    part.head1 = part.head0 + p->task_heads;
    part.row0 = task / p->splits % p->blocks * p->block_rows;
    part.row1 = REATTN__MIN(p->rows, part.row0 + p->block_rows);
    part.lo = REATTN__MAX(p->a->lo, (p->a->lo / p->split_keys + part.split) * p->split_keys);
    part.hi = REATTN__MIN(p->a->hi, (p->a->lo / p->split_keys + part.split + 1) * p->split_keys);
    return part;
}

static inline reattn_hit *reattn__scan_hits(const reattn__scan_plan *p, int64_t split, int head, int64_t row)
{
    int64_t t = row / p->g, h = (int64_t)head * p->g + row % p->g;
    return p->part + ((split * p->a->T + t) * p->a->H + h) * p->a->top_k;
}

static inline const float *reattn__scan_query(const reattn__scan_plan *p, int head, int64_t row)
{
    return p->a->q + ((row / p->g) * p->a->H + (int64_t)head * p->g + row % p->g) * p->D;
}

/* The law (ops.h), for a key whose values are `step` apart: a float64 sum in the order of d. */
static inline double reattn__scan_law(const float *q, const float *k, int64_t step, int D, const double *weight)
{
    double s = 0;
    for (int d = 0; d < D; d++) s += (double)q[d] * (double)k[d * step];
    return weight ? s * *weight : s;
}

/* The k-th best score of a row's seeds, -infinity without: at least k keys score that much, so nothing below wins. */
double reattn__scan_floor(const reattn__scan_plan *p, int head, int64_t row);

/* Each way: the size of a task (block_rows, task_heads), the room it needs in the work buffer from `at` on (a new `at`
 * is returned), and the tasks: pack (one for each KV head and block of rows; sets the rows' floors), scan. */
void reattn__scan_f32_cut(reattn__scan_plan *p);
size_t reattn__scan_f32_place(reattn__scan_plan *p, unsigned char *base, size_t at);
int reattn__scan_f32_pack(void *plan, int64_t task, int worker);
int reattn__scan_f32_task(void *plan, int64_t task, int worker);

void reattn__scan_split_cut(reattn__scan_plan *p);
size_t reattn__scan_split_place(reattn__scan_plan *p, unsigned char *base, size_t at);
int reattn__scan_split_pack(void *plan, int64_t task, int worker);
int reattn__scan_split_task(void *plan, int64_t task, int worker);
/* Afterwards, one for each KV head and block of rows: asks the law about what is left. */
int reattn__scan_split_decide(void *plan, int64_t task, int worker);

#endif
