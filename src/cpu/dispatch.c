/* dispatch.c - picks the best level that this build has and this CPU (and its operating system) can run. */
#include <stdatomic.h>
#include <string.h>

#include "kernels.h"
#include "reattn/error.h"
#include "reattn/ops.h"

extern const reattn__kernels reattn__kernels_scalar, reattn__kernels_base;
#ifdef REATTN_HAVE_AVX2
extern const reattn__kernels reattn__kernels_avx2;
#endif
#ifdef REATTN_HAVE_AVX512
extern const reattn__kernels reattn__kernels_avx512;
#endif
#ifdef REATTN_HAVE_NEON
extern const reattn__kernels reattn__kernels_neon;
#ifdef __linux__
#include <sys/auxv.h>
static bool has_dotprod(void) { return getauxval(AT_HWCAP) & 1ul << 20; }
#else
static bool has_dotprod(void) { return true; } /* every Arm Mac */
#endif
#endif

/* __builtin_cpu_supports reads CPUID and, through XGETBV, whether the system saves the wide registers. */
static const reattn__kernels *level(int i)
{
    switch (i) {
    case 0:
        return &reattn__kernels_scalar;
    case 1:
        return &reattn__kernels_base;
#ifdef REATTN_HAVE_AVX2
    case 2:
        /* Every CPU with AVX2 has F16C; not every compiler can ask for it. */
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &reattn__kernels_avx2 : NULL;
#endif
#ifdef REATTN_HAVE_AVX512
    case 3:
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                       __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                       __builtin_cpu_supports("avx512vnni")
                   ? &reattn__kernels_avx512
                   : NULL;
#endif
#ifdef REATTN_HAVE_NEON
    case 2:
        return has_dotprod() ? &reattn__kernels_neon : NULL;
#endif
    }
    return NULL;
}

enum { LEVELS = 4 };

static _Atomic(const reattn__kernels *) chosen;

const reattn__kernels *reattn__cpu(void)
{
    const reattn__kernels *best = atomic_load_explicit(&chosen, memory_order_acquire);
    for (int i = LEVELS - 1; !best; i--) best = level(i);
    atomic_store_explicit(&chosen, best, memory_order_release);
    return best;
}

int reattn__cpu_force_level(const char *name)
{
    if (!name) {
        atomic_store(&chosen, NULL);
        return REATTN_OK;
    }
    for (int i = 0; i < LEVELS; i++) {
        const reattn__kernels *k = level(i);
        if (k && strcmp(k->name, name) == 0) {
            atomic_store(&chosen, k);
            return REATTN_OK;
        }
    }
    return REATTN_E_ARG;
}

const char *reattn_cpu_level(void)
{
    return reattn__cpu()->name;
}
