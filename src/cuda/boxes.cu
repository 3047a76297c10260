/* boxes.cu - see boxes.cuh. */
#include "boxes.cuh"

namespace
{

typedef CUresult (*encode_fn)(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *,
                              const cuuint64_t *, const cuuint32_t *, const cuuint32_t *, CUtensorMapInterleave,
                              CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

/* The driver is asked once. */
cudaError_t find_encode(encode_fn *fn)
{
    static void *known;
    void *found = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (!found) {
        cudaDriverEntryPointQueryResult result;
        const cudaError_t code =
            cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result);
        if (code != cudaSuccess)
            return code;
        if (!found || result != cudaDriverEntryPointSuccess)
            return cudaErrorInsufficientDriver;
        __atomic_store_n(&known, found, __ATOMIC_RELAXED);
    }
    *fn = (encode_fn)found;
    return cudaSuccess;
}

} // namespace

cudaError_t reattn_cuda::describe_boxes(CUtensorMap *map, const boxes &b)
{
    encode_fn encode;
    const cudaError_t code = find_encode(&encode);
    if (code != cudaSuccess)
        return code;
    const cuuint64_t size[3] = {(cuuint64_t)b.D, (cuuint64_t)b.n, (cuuint64_t)b.heads};
    const cuuint64_t strides[2] = {(cuuint64_t)b.stride * b.value_bytes, (cuuint64_t)b.stride_head * b.value_bytes};
    const cuuint32_t box[3] = {(cuuint32_t)(b.swizzle / b.value_bytes), (cuuint32_t)b.rows, 1}, step[3] = {1, 1, 1};
    const CUresult result =
        encode(map, b.value_bytes == 1 ? CU_TENSOR_MAP_DATA_TYPE_UINT8 : CU_TENSOR_MAP_DATA_TYPE_UINT16, 3,
               (void *)b.base, size, strides, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE,
               b.swizzle == 128 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_64B,
               CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}
