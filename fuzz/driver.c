/* driver.c - runs a fuzz target without libFuzzer: driver [FILE...]. With files, on these; without, on its seeds and on
 * what comes of changing them at random, REATTN_FUZZ_RUNS times (default 4000), from REATTN_TEST_SEED. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

enum { MOST = 4096, PIECE = 64 };

static uint64_t state;
static uint8_t data[MOST];
static size_t size;

/* Keeps the input that ended it, for `TARGET fuzz_failed.bytes`. */
static void on_end(int number)
{
    FILE *f = fopen("fuzz_failed.bytes", "wb");
    if (f) {
        fwrite(data, 1, size, f);
        fclose(f);
    }
    fputs("the input is kept as fuzz_failed.bytes\n", stderr);
    signal(number, SIG_DFL);
    raise(number);
}

/* Returns what the target returned. */
static int run(const uint8_t *from, size_t n)
{
    size = n < MOST ? n : MOST;
    memmove(data, from, size);
    return LLVMFuzzerTestOneInput(data, size);
}

static uint64_t next(void) /* splitmix64 */
{
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static size_t below(size_t n)
{
    return n ? (size_t)(next() % n) : 0;
}

/* One change: a byte, a bit, a piece left out, a piece twice, a byte that means something put in, the end cut off. */
static size_t change(void)
{
    static const char marks[] = "0123456789-+.,:;=\"'{}[]\n\r\t \\%KMG\0\xc3\xff";
    const size_t at = below(size), n = below(PIECE < size - at ? PIECE : size - at);
    switch (below(size ? 6 : 1)) {
    case 0:
        if (size == MOST)
            return size;
        memmove(data + at + 1, data + at, size - at);
        data[at] = (uint8_t)marks[below(sizeof marks - 1)];
        return size + 1;
    case 1:
        data[at] = (uint8_t)next();
        return size;
    case 2:
        data[at] ^= (uint8_t)(1 << below(8));
        return size;
    case 3:
        memmove(data + at, data + at + n, size - at - n);
        return size - n;
    case 4:
        if (size + n > MOST)
            return size;
        memmove(data + at + n, data + at, size - at);
        return size + n;
    default:
        return at;
    }
}

static int run_file(const char *path)
{
    static uint8_t bytes[MOST];
    FILE *f = fopen(path, "rb");
    if (!f) {
        fprintf(stderr, "%s: cannot be opened\n", path);
        return 1;
    }
    const size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    return run(bytes, n);
}

int main(int argc, char **argv)
{
    const char *seed = getenv("REATTN_TEST_SEED"), *runs = getenv("REATTN_FUZZ_RUNS");
    size_t n_seed = 0;
    for (int i = 1; i < argc; i++)
        if (run_file(argv[i]))
            return 1;
    if (argc > 1)
        return 0;
    signal(SIGABRT, on_end);
    signal(SIGSEGV, on_end);
    state = seed ? strtoull(seed, NULL, 0) : 20240722;
    printf("seed %" PRIu64 " (REATTN_TEST_SEED overrides)\n", state);
    for (; fuzz_seeds[n_seed].bytes; n_seed++)
        if (run((const uint8_t *)fuzz_seeds[n_seed].bytes, fuzz_seeds[n_seed].n))
            return 1;
    for (long i = runs ? atol(runs) : 4000; i > 0; i--) {
        const fuzz_seed *from = &fuzz_seeds[below(n_seed)];
        size = from->n < MOST ? from->n : MOST;
        memcpy(data, from->bytes, size);
        for (size_t k = 1 + below(8); k > 0; k--)
            size = change();
        run(data, size);
    }
    return 0;
}
