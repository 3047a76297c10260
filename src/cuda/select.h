/* select.h - exact top-k on a CUDA device: same positions and same bits of the score as reattn_topk.
 *
 * All arrays are device memory, but for keys that are far; everything is queued on a stream and no launcher waits. Keys are bfloat16 or f16 as a
 * model leaves them. An index beside them holds what makes a scan fast and provably exact: norms, and if wanted an
 * 8-bit copy of the keys ("plane"). How a search works:
 *   prepare   queries are rounded to the type of the scan; what that loses is measured
 *   scan      tensor cores score all keys; a key is written down as a candidate unless its score plus the proved error
 *             is below the k-th best score minus its proved error (scan.cuh)
 *   decide    candidates are scored by the law (float64, in order of d) and the k best are written
 *   brute     rows with too many candidates (ties, numbers near overflow) are searched by the law alone:
 *             by several blocks each, if they are few among many queries */
#ifndef REATTN_CUDA_SELECT_H
#define REATTN_CUDA_SELECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "reattn/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum reattn__cuda_type { REATTN__CUDA_BF16 = 0, REATTN__CUDA_F16 = 1 } reattn__cuda_type;

/* Keys of one layer. Key j of KV head h starts at element j * stride_key + h * stride_head of k; both strides are
 * multiples of 8, k is aligned to 16 bytes. D is 64, 96, 128 or 256. */
typedef struct reattn__cuda_keys {
    const void *k;
    int64_t M, stride_key, stride_head;
    int64_t capacity; /* keys that the index has room for, >= M */
    void *index;      /* reattn__cuda_index_bytes(capacity, ...) bytes, aligned to 256 */
    int type, Hk, D;
    int plane;               /* 1: the index has an 8-bit plane */
    unsigned long long *far; /* k is memory of the host, so that few keys are read, and those row by row; [0], on the
                                device, gets how many decide read. NULL: k is memory of the device */
} reattn__cuda_keys;

size_t reattn__cuda_index_bytes(int64_t capacity, int Hk, int D, int plane);

/* Brings the index up to date after keys [from, M) were appended or changed. from = 0 makes it anew. */
int reattn__cuda_index_make(const reattn__cuda_keys *keys, int64_t from, void *stream, reattn_error *err);

/* Rows of keys of which key j is in row (first + j) % rows. */
typedef struct reattn__cuda_ring {
    const void *k;       /* as those of reattn__cuda_keys, with its strides */
    int64_t first, rows; /* rows 0: there is none */
} reattn__cuda_ring;
/* The same from a ring on the device that has them, for keys that are far. */
int reattn__cuda_index_make_of(const reattn__cuda_keys *keys, const reattn__cuda_ring *ring, int64_t from, void *stream,
                               reattn_error *err);

typedef enum reattn__cuda_path {
    REATTN__CUDA_AUTO = 0,
    REATTN__CUDA_MMA = 1,   /* few queries; any device from sm_80 */
    REATTN__CUDA_WGMMA = 2, /* many queries; sm_90 */
    REATTN__CUDA_BRUTE = 3  /* the law alone */
} reattn__cuda_path;

typedef struct reattn__cuda_select_args {
    reattn__cuda_keys keys;
    const float *q;   /* [T][H][D] */
    reattn_hit *hits; /* [T][H][top_k], written */
    void *work;       /* reattn__cuda_select_bytes(...), aligned to 256; its content means nothing between calls */
    size_t work_bytes;
    int64_t T;
    int H, top_k; /* top_k 1 .. 32 */
    int plane;    /* 1: scan the 8-bit plane */
    int path;     /* reattn__cuda_path */
} reattn__cuda_select_args;

/* Bytes of scratch for the shape in args; grows with T * H, not with the keys. */
size_t reattn__cuda_select_bytes(const reattn__cuda_select_args *args);
int reattn__cuda_select(const reattn__cuda_select_args *args, void *stream, reattn_error *err);
/* Up to REATTN__CUDA_MANY searches in one launch of each kernel: all alike, of few queries, their keys on the device.
 * The hits are those of each search by itself. */
#define REATTN__CUDA_MANY 8
bool reattn__cuda_select_together(const reattn__cuda_select_args *a, const reattn__cuda_select_args *b);
int reattn__cuda_select_many(const reattn__cuda_select_args *args, int n, void *stream, reattn_error *err);

/* What a search came across; waits for the stream. E_NAN if a query or a key was not finite (hits are then
 * undefined). */
typedef struct reattn__cuda_report {
    int64_t candidates; /* written down by the scan */
    int64_t brute_rows; /* (query, head) pairs searched by the law alone */
} reattn__cuda_report;
int reattn__cuda_select_report(const reattn__cuda_select_args *args, void *stream, reattn__cuda_report *report,
                               reattn_error *err);

/* Devices that can run this; 0 where there is no driver or no GPU. */
int reattn__cuda_devices(void);

#ifdef __cplusplus
}
#endif
#endif
