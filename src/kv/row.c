/* row.c - encoding and decoding rows. q8_0 is ggml's: blocks of 32 values, a half scale d and 32 bytes q, x = d q. */
#include "row.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "cpu/half.h"
#include "cpu/kernels.h"
#include "reattn/reattn.h"

enum { Q8_BLOCK = 32, Q8_BYTES = 2 + Q8_BLOCK };

size_t reattn__row_bytes(int type, int D)
{
    switch (type) {
    case REATTN_F32:
        return (size_t)D * 4;
    case REATTN_F16:
        return (size_t)D * 2;
    case REATTN_Q8_0:
        return D % Q8_BLOCK == 0 ? (size_t)D / Q8_BLOCK * Q8_BYTES : 0;
    }
    return 0;
}

float reattn__row_max(int type)
{
    return type == REATTN_F32     ? FLT_MAX
           : type == REATTN_F16   ? 65504.0f
           : type == REATTN_SPLIT ? 1e30f
                                  : 65504.0f * 127.0f;
}

const char *reattn__row_name(int type)
{
    return type == REATTN_F32 ? "f32" : type == REATTN_F16 ? "f16" : type == REATTN_SPLIT ? "split" : "q8_0";
}

uint16_t reattn__q8_encode(const float *x, int8_t *q)
{
    float top = 0;
    for (int i = 0; i < Q8_BLOCK; i++) top = fmaxf(top, fabsf(x[i]));
    uint16_t d = reattn__float_to_half(top / 127.0f);
    float scale = reattn__half_to_float(d), inverse = scale > 0 ? 1.0f / scale : 0;
    for (int i = 0; i < Q8_BLOCK; i++) q[i] = (int8_t)fmaxf(-127.0f, fminf(127.0f, rintf(x[i] * inverse)));
    return d;
}

static void q8_encode(const float *x, uint8_t *dst)
{
    uint16_t d = reattn__q8_encode(x, (int8_t *)dst + sizeof d);
    memcpy(dst, &d, sizeof d);
}

static void q8_decode(const uint8_t *src, float *x)
{
    uint16_t d;
    memcpy(&d, src, sizeof d);
    float scale = reattn__half_to_float(d);
    for (int i = 0; i < Q8_BLOCK; i++) x[i] = scale * (float)(int8_t)src[2 + i];
}

void reattn__row_encode(int type, int D, const float *src, int64_t n, void *dst)
{
    int64_t count = n * D;
    if (type == REATTN_F32) memcpy(dst, src, (size_t)count * 4);
    else if (type == REATTN_F16) reattn__cpu()->f32_to_f16(src, dst, count);
    else
        for (int64_t b = 0; b < count / Q8_BLOCK; b++) q8_encode(src + b * Q8_BLOCK, (uint8_t *)dst + b * Q8_BYTES);
}

void reattn__row_decode(int type, int D, const void *src, int64_t n, float *dst)
{
    int64_t count = n * D;
    if (type == REATTN_F32) memcpy(dst, src, (size_t)count * 4);
    else if (type == REATTN_F16) reattn__cpu()->f16_to_f32(src, dst, count);
    else
        for (int64_t b = 0; b < count / Q8_BLOCK; b++)
            q8_decode((const uint8_t *)src + b * Q8_BYTES, dst + b * Q8_BLOCK);
}
