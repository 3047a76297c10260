/* level_base.c - kernels_impl.h for this level; its compiler flags are set in cmake/levels.cmake. */
#define LEVEL base
#define LEVEL_NAME "base"
#define VL 4
#define MR 4
#include "kernels_impl.h"
