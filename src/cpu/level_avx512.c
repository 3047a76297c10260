/* level_avx512.c - kernels_impl.h for this level; its compiler flags are set in cmake/levels.cmake. */
#define LEVEL avx512
#define LEVEL_NAME "avx512"
#define VL 16
#define MR 12
#include "kernels_impl.h"
