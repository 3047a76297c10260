/* row.h - one row of a head in each of the store's types. */
#ifndef REATTN_ROW_H
#define REATTN_ROW_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of a row of D values; 0 when the type cannot hold such a row. */
size_t reattn__row_bytes(int type, int D);
/* n rows, contiguous on both sides. */
void reattn__row_encode(int type, int D, const float *src, int64_t n, void *dst);
void reattn__row_decode(int type, int D, const void *src, int64_t n, float *dst);
/* 32 values as q8_0: writes the bytes, returns the half scale. */
uint16_t reattn__q8_encode(const float *x, int8_t *q);
/* Largest absolute value that the type holds as a finite number. */
float reattn__row_max(int type);
/* "f32", "f16", "q8_0". */
const char *reattn__row_name(int type);

#endif
