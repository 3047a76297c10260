/* level_avx2.c - kernels_impl.h for this level; its compiler flags are set in cmake/levels.cmake. */
#define LEVEL avx2
#define LEVEL_NAME "avx2"
#define VL 8
#define MR 6
#include "kernels_impl.h"
