/* level_neon.c - kernels_impl.h for 64-bit Arm with integer dot products; its compiler flags are set in
 * cmake/levels.cmake. */
#define LEVEL neon
#define LEVEL_NAME "neon"
#define VL 4
#define MR 12
#include "kernels_impl.h"
