/* clex_file.h - writes a GGUF file with what CLEX learned, for the tests of --clex. */
#ifndef CLEX_FILE_H
#define CLEX_FILE_H

#include "test_util.h"

static inline void clex_put(FILE *f, const void *x, size_t n)
{
    assert_int_equal(fwrite(x, 1, n, f), n);
}

static inline void clex_put_u32(FILE *f, uint32_t x) { clex_put(f, &x, 4); }
static inline void clex_put_u64(FILE *f, uint64_t x) { clex_put(f, &x, 8); }

static inline void clex_put_text(FILE *f, const char *text)
{
    clex_put_u64(f, strlen(text));
    clex_put(f, text, strlen(text));
}

static inline void clex_put_floats(FILE *f, const char *key, const float *x, int64_t n)
{
    clex_put_text(f, key);
    clex_put_u32(f, 9); /* an array */
    clex_put_u32(f, 6); /* of f32 */
    clex_put_u64(f, (uint64_t)n);
    clex_put(f, x, (size_t)n * sizeof *x);
}

static inline void clex_put_number(FILE *f, const char *key, uint32_t x)
{
    clex_put_text(f, key);
    clex_put_u32(f, 4);
    clex_put_u32(f, x);
}

/* A GGUF file with what CLEX learned. */
static inline void clex_write(const char *path, const float *up, int64_t n_up, const float *down, int64_t n_down,
                              const char *act, int max_t, int log_scale)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    clex_put(f, "GGUF", 4);
    clex_put_u32(f, 3);
    clex_put_u64(f, 0); /* tensors */
    clex_put_u64(f, 5);
    clex_put_floats(f, "clex.up", up, n_up);
    clex_put_floats(f, "clex.down", down, n_down);
    clex_put_text(f, "clex.act");
    clex_put_u32(f, 8); /* a string */
    clex_put_text(f, act);
    clex_put_number(f, "clex.max_t", (uint32_t)max_t);
    clex_put_number(f, "clex.log_scale", (uint32_t)log_scale);
    assert_int_equal(fclose(f), 0);
}

#endif
