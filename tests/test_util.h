/* test_util.h - what the tests share: a seeded generator, fenced arrays, CPU levels, golden files. */
#ifndef REATTN_TEST_UTIL_H
#define REATTN_TEST_UTIL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/kernels.h"

/* ------------------------------------------------------------------------------------------- generator ------- */

typedef struct test_rng {
    uint64_t state;
} test_rng;

/* The seed of this run: REATTN_TEST_SEED, or a fixed one. Printed, so that a failure can be repeated. */
static inline uint64_t test_seed(void)
{
    const char *text = getenv("REATTN_TEST_SEED");
    const uint64_t seed = text ? strtoull(text, NULL, 0) : 20240722;
    printf("seed %" PRIu64 " (REATTN_TEST_SEED overrides)\n", seed);
    return seed;
}

/* splitmix64 */
static inline uint64_t test_u64(test_rng *rng)
{
    uint64_t z = rng->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Uniform in lo .. hi, both included. */
static inline int64_t test_int(test_rng *rng, int64_t lo, int64_t hi)
{
    return lo + (int64_t)(test_u64(rng) % (uint64_t)(hi - lo + 1));
}

static inline bool test_one_in(test_rng *rng, int n)
{
    return test_int(rng, 1, n) == 1;
}

/* Uniform in [0, 1). */
static inline double test_unit(test_rng *rng)
{
    return (double)(test_u64(rng) >> 11) * 0x1p-53;
}

/* Near enough to a standard normal: variance 1, |x| < 3.5. */
static inline float test_normal(test_rng *rng)
{
    double sum = -2.0;
    for (int i = 0; i < 4; i++)
        sum += test_unit(rng);
    return (float)(sum * 1.7320508075688772);
}

static inline void test_fill_normal(test_rng *rng, float *x, int64_t n, float size)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = size * test_normal(rng);
}

/* |a - b| / |b| of n values: how far logits are apart. */
static inline double test_difference(const float *a, const float *b, int n)
{
    double diff = 0, norm = 0;
    for (int i = 0; i < n; i++) {
        diff += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return sqrt(diff / norm);
}

/* -------------------------------------------------------------------------------------- fenced arrays ------- */

#define TEST_FENCE 64
#define TEST_FENCE_BYTE 0xA5

/* bytes of memory between two fences, aligned to 16; filled with 0xFF, which is NaN as a float. */
static inline void *fenced_alloc(size_t bytes)
{
    unsigned char *base = malloc(bytes + 2 * TEST_FENCE);
    assert_non_null(base);
    memset(base, TEST_FENCE_BYTE, TEST_FENCE);
    memset(base + TEST_FENCE, 0xFF, bytes);
    memset(base + TEST_FENCE + bytes, TEST_FENCE_BYTE, TEST_FENCE);
    return base + TEST_FENCE;
}

/* Frees it; fails if a byte outside was written. `bytes` as it was given to fenced_alloc. */
static inline void fenced_free(void *ptr, size_t bytes)
{
    unsigned char *base = (unsigned char *)ptr - TEST_FENCE;
    for (size_t i = 0; i < TEST_FENCE; i++) {
        assert_int_equal(base[i], TEST_FENCE_BYTE);
        assert_int_equal(base[TEST_FENCE + bytes + i], TEST_FENCE_BYTE);
    }
    free(base);
}

/* An array of floats, plain. At least one, so that an empty array has an address. */
static inline float *test_floats(int64_t n)
{
    float *x = malloc((size_t)(n > 0 ? n : 1) * sizeof *x);
    assert_non_null(x);
    return x;
}

/* ------------------------------------------------------------------------------------------ CPU levels ------- */

static const char *const test_levels[] = {"scalar", "base", "avx2", "avx512", "neon"};
enum { TEST_N_LEVEL = sizeof test_levels / sizeof test_levels[0] };

/* Forces a level; false when this build or this CPU does not have it. Every build has "scalar". */
static inline bool test_use_level(int i)
{
    const bool present = reattn__cpu_force_level(test_levels[i]) == 0;
    if (i == 0)
        assert_true(present);
    return present;
}

/* ---------------------------------------------------------------------------------------- golden files ------- */

#ifndef REATTN_TEST_DATA
#define REATTN_TEST_DATA "tests/data"
#endif

/* Opens tests/data/<kind>.txt, whose first line must be "reattn-golden <kind> <version>". Then come white space and
 * words; a line that starts with '#' is a comment. Floats have all the digits they need. */
static inline FILE *golden_open(const char *kind, int version)
{
    char path[512], head[64] = "", want[64];
    snprintf(path, sizeof path, "%s/%s.txt", REATTN_TEST_DATA, kind);
    snprintf(want, sizeof want, "reattn-golden %s %d\n", kind, version);
    FILE *f = fopen(path, "r");
    if (!f)
        fail_msg("%s: %s (run from the repository root, or set REATTN_TEST_DATA when compiling)", path,
                 strerror(errno));
    if (!fgets(head, sizeof head, f) || strcmp(head, want) != 0)
        fail_msg("%s: first line is not \"%.*s\"; regenerate with: python3 tests/golden/%s.py > %s", path,
                 (int)strlen(want) - 1, want, kind, path);
    return f;
}

/* The next word that is no comment; false at the end. */
static inline bool golden_word(FILE *f, char word[64])
{
    while (fscanf(f, "%63s", word) == 1) {
        if (word[0] != '#')
            return true;
        int c;
        do
            c = fgetc(f);
        while (c != '\n' && c != EOF);
    }
    return false;
}

static inline double golden_num(FILE *f)
{
    char word[64], *end;
    if (!golden_word(f, word))
        fail_msg("golden file ends too early");
    const double x = strtod(word, &end);
    if (*end)
        fail_msg("golden file: \"%s\" is not a number", word);
    return x;
}

static inline int64_t golden_int(FILE *f)
{
    return (int64_t)golden_num(f);
}

/* Fails unless the next word is this one. */
static inline void golden_expect(FILE *f, const char *name)
{
    char word[64];
    if (!golden_word(f, word) || strcmp(word, name) != 0)
        fail_msg("golden file: \"%s\" expected, found \"%s\"", name, word);
}

/* "<name> <count> <values>" into a new array. */
static inline double *golden_array(FILE *f, const char *name, int64_t *n)
{
    golden_expect(f, name);
    *n = golden_int(f);
    double *x = malloc((size_t)(*n + 1) * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < *n; i++)
        x[i] = golden_num(f);
    return x;
}

static inline float *golden_floats(FILE *f, const char *name, int64_t *n)
{
    double *x = golden_array(f, name, n);
    float *y = test_floats(*n);
    for (int64_t i = 0; i < *n; i++)
        y[i] = (float)x[i];
    free(x);
    return y;
}

static inline int64_t *golden_ints(FILE *f, const char *name, int64_t *n)
{
    double *x = golden_array(f, name, n);
    int64_t *y = malloc((size_t)(*n + 1) * sizeof *y);
    assert_non_null(y);
    for (int64_t i = 0; i < *n; i++)
        y[i] = (int64_t)x[i];
    free(x);
    return y;
}

#endif
