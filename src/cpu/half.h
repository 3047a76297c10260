/* half.h - IEEE half <-> single in integer and float arithmetic, for machines without conversion instructions. Bit for
 * bit what F16C does (NaN payloads aside: the store holds finite values only). */
#ifndef REATTN_HALF_H
#define REATTN_HALF_H

#include <stdint.h>
#include <string.h>

static inline float reattn__bits_f32(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint32_t reattn__f32_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

/* A bfloat16 is the upper half of a float. */
static inline float reattn__bf16_to_float(uint16_t h)
{
    return reattn__bits_f32((uint32_t)h << 16);
}

static inline float reattn__half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = (uint32_t)(h & 0x7fffu) << 13;
    /* Moving the bits leaves the exponent 112 too small; the product with 2^112 mends that, and subnormals with it. */
    float value = reattn__bits_f32(rest) * 0x1p112f;
    if ((h & 0x7c00u) == 0x7c00u) value = reattn__bits_f32(0x7f800000u | rest);
    return reattn__bits_f32(reattn__f32_bits(value) | sign);
}

static inline uint16_t reattn__float_to_half(float f)
{
    uint32_t bits = reattn__f32_bits(f), sign = (bits >> 16) & 0x8000u, mag = bits & 0x7fffffffu;
    if (mag >= 0x47800000u) return (uint16_t)(sign | (mag > 0x7f800000u ? 0x7e00u : 0x7c00u));
    if (mag < 0x38800000u) { /* subnormal half: let the float adder round at 2^-24 */
        float r = reattn__bits_f32(mag) + 0.5f;
        return (uint16_t)(sign | (reattn__f32_bits(r) - 0x3f000000u));
    }
    mag += 0xfffu + ((mag >> 13) & 1u); /* round to nearest even at bit 13; a carry moves the exponent, as it should */
    return (uint16_t)(sign | ((mag - 0x38000000u) >> 13));
}

#endif
