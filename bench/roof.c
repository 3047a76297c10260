/* roof.c - see roof.h. Compiled with contraction: a * b + c is one instruction where there is one. */
#include "roof.h"

#include <stdio.h>
#include <string.h>

#include "base/base.h"

enum { PASSES = 5, PIECE = 1 << 20, STEPS = 1 << 17, CHAINS = 12 };

/* From the kernel: what sysconf says is wrong in some virtual machines. */
int64_t bench_cache_bytes(void)
{
    int64_t most = 0;
    for (int i = 0; i < 8; i++) {
        char path[64];
        long long kib = 0;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
        FILE *f = fopen(path, "r");
        if (f && fscanf(f, "%lldK", &kib) == 1 && kib * 1024 > most)
            most = kib * 1024;
        if (f)
            fclose(f);
    }
    return most ? most : (int64_t)32 << 20;
}

int bench_roof_open(bench_roof *roof, int n_threads, reattn_error *err)
{
    *roof = (bench_roof){.n_threads = n_threads, .bytes = REATTN__MAX((int64_t)256 << 20, 4 * bench_cache_bytes())};
    roof->bytes = roof->bytes / PIECE * PIECE;
    roof->memory = reattn__alloc((size_t)roof->bytes);
    if (!roof->memory)
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory: measuring its speed takes %lld MiB",
                            (long long)(roof->bytes >> 20));
    memset(roof->memory, 1, (size_t)roof->bytes);
    return REATTN_OK;
}

void bench_roof_close(bench_roof *roof)
{
    reattn__free(roof->memory);
}

/* -------------------------------------------------------------------------------------------- memory --------- */

static int read_piece(void *ctx, int64_t task, int worker)
{
    typedef uint64_t line __attribute__((vector_size(64)));
    const bench_roof *roof = ctx;
    const line *p = (const line *)((const char *)roof->memory + task * PIECE);
    line a = {0}, b = {0};
    (void)worker;
    for (int i = 0; i < PIECE / 64; i += 2) {
        a += p[i];
        b += p[i + 1];
    }
    a ^= b;
    __asm__ volatile("" : : "m"(a)); /* the sum is wanted, as far as the compiler knows */
    return 0;
}

static double read_rate(bench_roof *roof)
{
    double start = reattn__now_ms();
    reattn__parallel(roof->n_threads, roof->bytes / PIECE, read_piece, roof);
    return (double)roof->bytes / (reattn__now_ms() - start) * 1e3;
}

/* ---------------------------------------------------------------------------------------- operations --------- */

/* STEPS multiply-adds on CHAINS independent vectors that never leave the registers. */
#define CHAIN(NAME, TARGET, VL)                                                                                        \
    TARGET static int NAME(void *ctx, int64_t task, int worker)                                                        \
    {                                                                                                                  \
        typedef float vec __attribute__((vector_size((VL)*4)));                                                        \
        vec x[CHAINS], m = (vec){0} + 0.5f, a = (vec){0} + (float)task;                                                \
        (void)ctx;                                                                                                     \
        (void)worker;                                                                                                  \
        for (int c = 0; c < CHAINS; c++)                                                                               \
            x[c] = a + (float)c;                                                                                       \
        for (int i = 0; i < STEPS; i++)                                                                                \
            for (int c = 0; c < CHAINS; c++)                                                                           \
                x[c] = x[c] * m + a;                                                                                   \
        for (int c = 1; c < CHAINS; c++)                                                                               \
            x[0] += x[c];                                                                                              \
        __asm__ volatile("" : : "m"(x[0]));                                                                            \
        return 0;                                                                                                      \
    }

CHAIN(chain_4, , 4)
#ifdef __x86_64__
CHAIN(chain_8, __attribute__((target("avx2,fma"))), 8)
CHAIN(chain_16, __attribute__((target("avx512f,prefer-vector-width=512"))), 16)
#endif

static double flop_rate(int n_threads, reattn__task_fn chain, int width)
{
    int64_t tasks = 4 * (int64_t)n_threads;
    double start = reattn__now_ms();
    reattn__parallel(n_threads, tasks, chain, NULL);
    return 2.0 * STEPS * CHAINS * width * (double)tasks / (reattn__now_ms() - start) * 1e3;
}

static void raise_to(double *best, double rate)
{
    if (rate > *best)
        *best = rate;
}

void bench_roof_measure(bench_roof *roof)
{
    for (int i = 0; i < PASSES; i++) {
        raise_to(&roof->read, read_rate(roof));
        raise_to(&roof->flops, flop_rate(roof->n_threads, chain_4, 4));
#ifdef __x86_64__
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
            raise_to(&roof->flops, flop_rate(roof->n_threads, chain_8, 8));
        if (__builtin_cpu_supports("avx512f"))
            raise_to(&roof->flops, flop_rate(roof->n_threads, chain_16, 16));
#endif
    }
}
