/* boxes.cuh - what the copy engine of sm_90 is told of a matrix in device memory. */
#ifndef REATTN_CUDA_BOXES_CUH
#define REATTN_CUDA_BOXES_CUH

#include <cuda.h>
#include <cuda_runtime.h>
#include <stdint.h>

namespace reattn_cuda
{

enum { BOX_VALUES = 64 }; /* of 16 bits: 128 bytes, which are swizzled */

/* Values [heads][n][D] with strides in values; a box is rows x `swizzle` bytes. What lies outside reads as zeros. */
struct boxes {
    const void *base;
    int64_t n, stride, stride_head;
    int D, heads, rows;
    int value_bytes = 2;           /* or 1 */
    int swizzle = 2 * BOX_VALUES; /* or 64 */
};
cudaError_t describe_boxes(CUtensorMap *map, const boxes &b);

} // namespace reattn_cuda

#endif
