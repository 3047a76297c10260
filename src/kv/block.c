/* block.c - keys in blocks. f32 and f16: [D][16]. q8_0: [D/32][16] half scales, then [D][16] bytes. */
#include "block.h"

#include <math.h>
#include <string.h>

#include "cpu/half.h"
#include "cpu/kernels.h"
#include "kv/row.h"
#include "reattn/reattn.h"

enum { N = REATTN__BLOCK };

static void put_q8(int D, const float *x, unsigned char *block, int lane)
{
    uint16_t *scale = (uint16_t *)block;
    int8_t *q = (int8_t *)(block + (size_t)D / 32 * N * sizeof *scale);
    for (int b = 0; b < D / 32; b++) {
        int8_t bytes[32];
        scale[b * N + lane] = reattn__q8_encode(x + b * 32, bytes);
        for (int i = 0; i < 32; i++) q[(b * 32 + i) * N + lane] = bytes[i];
    }
}

void reattn__block_put(int type, int D, const float *x, void *block, int lane)
{
    if (type == REATTN_Q8_0) {
        put_q8(D, x, block, lane);
    } else if (type == REATTN_F16) {
        uint16_t half[512];
        reattn__cpu()->f32_to_f16(x, half, D);
        for (int d = 0; d < D; d++) ((uint16_t *)block)[d * N + lane] = half[d];
    } else {
        for (int d = 0; d < D; d++) ((float *)block)[d * N + lane] = x[d];
    }
}

static void get_q8(int D, const unsigned char *block, int lo, int hi, float *out, int64_t stride)
{
    const uint16_t *scale = (const uint16_t *)block;
    const int8_t *q = (const int8_t *)(block + (size_t)D / 32 * N * sizeof *scale);
    float s[N];
    for (int d = 0; d < D; d++) {
        if (d % 32 == 0)
            for (int i = 0; i < N; i++) s[i] = reattn__half_to_float(scale[d / 32 * N + i]);
        for (int i = lo; i < hi; i++) out[d * stride + i - lo] = s[i] * (float)q[d * N + i];
    }
}

void reattn__block_get(int type, int D, const void *block, int lo, int hi, float *out, int64_t stride)
{
    if (type == REATTN_Q8_0) {
        get_q8(D, block, lo, hi, out, stride);
    } else if (type == REATTN_F16 && hi - lo == N) {
        reattn__cpu()->f16_block(block, D, out, stride);
    } else if (type == REATTN_F16) {
        float whole[512 * N];
        reattn__cpu()->f16_block(block, D, whole, N);
        for (int d = 0; d < D; d++) memcpy(out + d * stride, whole + d * N + lo, (size_t)(hi - lo) * sizeof *out);
    } else {
        for (int d = 0; d < D; d++)
            memcpy(out + d * stride, (const float *)block + d * N + lo, (size_t)(hi - lo) * sizeof *out);
    }
}

void reattn__block_move(int type, int D, const void *from, int a, void *to, int b)
{
    if (type == REATTN_Q8_0) {
        const uint16_t *scale = from;
        uint16_t *scale_to = to;
        const int8_t *q = (const int8_t *)(scale + D / 32 * N);
        int8_t *q_to = (int8_t *)(scale_to + D / 32 * N);
        for (int i = 0; i < D / 32; i++) scale_to[i * N + b] = scale[i * N + a];
        for (int d = 0; d < D; d++) q_to[d * N + b] = q[d * N + a];
    } else if (type == REATTN_F16) {
        for (int d = 0; d < D; d++) ((uint16_t *)to)[d * N + b] = ((const uint16_t *)from)[d * N + a];
    } else {
        for (int d = 0; d < D; d++) ((float *)to)[d * N + b] = ((const float *)from)[d * N + a];
    }
}
