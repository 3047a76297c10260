/* tile_config.h - put before every C++ file of llama.cpp when it is built here (scripts/bootstrap.sh).
 *
 * gcc before 14 believes that _tile_loadconfig() reads 8 bytes, not 64, so it drops the stores that fill in the rest,
 * and llama.cpp dies of an illegal instruction on processors with AMX at its first matrix product. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
#include <immintrin.h>
#if defined(__AMX_TILE__) && __GNUC__ < 14
#define _tile_loadconfig(config) __asm__ volatile("ldtilecfg\t%X0" ::"m"(*(const char(*)[64])(config)))
#endif
#endif
