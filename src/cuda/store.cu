/* store.cu - device memory that grows in place, and a layer's keys, values and index in it. See store.h. */
#include <cuda.h>

#include "scan.cuh"
#include "store.h"

using namespace reattn_cuda;

namespace
{

/* The driver's functions, found at run time: the library is not linked with the driver. */
struct driver {
    CUresult (*granularity)(size_t *, const CUmemAllocationProp *, CUmemAllocationGranularity_flags);
    CUresult (*reserve)(CUdeviceptr *, size_t, size_t, CUdeviceptr, unsigned long long);
    CUresult (*unreserve)(CUdeviceptr, size_t);
    CUresult (*create)(CUmemGenericAllocationHandle *, size_t, const CUmemAllocationProp *, unsigned long long);
    CUresult (*release)(CUmemGenericAllocationHandle);
    CUresult (*map)(CUdeviceptr, size_t, size_t, CUmemGenericAllocationHandle, unsigned long long);
    CUresult (*unmap)(CUdeviceptr, size_t);
    CUresult (*access)(CUdeviceptr, size_t, const CUmemAccessDesc *, size_t);
    CUresult (*attribute)(int *, CUdevice_attribute, CUdevice);
};

template <class fn> bool find(const char *name, fn *to)
{
    void *at = NULL;
    cudaDriverEntryPointQueryResult found;
    if (cudaGetDriverEntryPointByVersion(name, &at, 12000, cudaEnableDefault, &found) != cudaSuccess)
        return false;
    *to = (fn)at;
    return at && found == cudaDriverEntryPointSuccess;
}

bool find_driver(driver *d)
{
    return find("cuMemGetAllocationGranularity", &d->granularity) && find("cuMemAddressReserve", &d->reserve) &&
           find("cuMemAddressFree", &d->unreserve) && find("cuMemCreate", &d->create) &&
           find("cuMemRelease", &d->release) && find("cuMemMap", &d->map) && find("cuMemUnmap", &d->unmap) &&
           find("cuMemSetAccess", &d->access) && find("cuDeviceGetAttribute", &d->attribute);
}

CUmemAllocationProp memory_of(int device)
{
    CUmemAllocationProp prop = {};
    prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    prop.location.id = device;
    return prop;
}

/* Parts grow with what there is: eight of each size, which doubles; so that no more than an eighth lies idle. */
size_t part_bytes(const reattn__cuda_array *a, int part)
{
    const size_t bytes = a->granule << (part / 8 < 8 ? part / 8 : 8);
    return bytes;
}

int out_of_memory(size_t bytes, reattn_error *err)
{
    size_t free_bytes = 0, all = 0;
    (void)cudaMemGetInfo(&free_bytes, &all);
    (void)cudaGetLastError();
    return reattn__fail(err, REATTN_E_NOMEM, "out of device memory: %zu more bytes are needed, %zu of %zu are free",
                        bytes, free_bytes, all);
}

/* Backs one more part; false if there is no memory. */
bool add_part(reattn__cuda_array *a, const driver &d, int device)
{
    const size_t left = a->reserved - a->bytes, want = part_bytes(a, a->parts), bytes = want < left ? want : left;
    const CUmemAllocationProp prop = memory_of(device);
    const CUdeviceptr at = (CUdeviceptr)a->at + a->bytes;
    CUmemGenericAllocationHandle handle;
    CUmemAccessDesc access = {};
    access.location = prop.location;
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    if (d.create(&handle, bytes, &prop, 0) != CUDA_SUCCESS)
        return false;
    bool done = d.map(at, bytes, 0, handle, 0) == CUDA_SUCCESS;
    d.release(handle); /* the mapping keeps the memory */
    if (done && d.access(at, bytes, &access, 1) != CUDA_SUCCESS) {
        d.unmap(at, bytes);
        done = false;
    }
    if (done) {
        a->bytes += bytes;
        a->parts++;
    }
    return done;
}

int grow_by_copy(reattn__cuda_array *a, size_t bytes, cudaStream_t stream, reattn_error *err)
{
    void *at = NULL;
    size_t room = a->bytes + a->bytes / 2 > bytes ? a->bytes + a->bytes / 2 : bytes;
    if (cudaMalloc(&at, room) != cudaSuccess) {
        (void)cudaGetLastError();
        room = bytes;
        if (cudaMalloc(&at, room) != cudaSuccess)
            return out_of_memory(room, err);
    }
    cudaError_t code = a->bytes ? cudaMemcpyAsync(at, a->at, a->bytes, cudaMemcpyDeviceToDevice, stream) : cudaSuccess;
    if (code == cudaSuccess)
        code = cudaStreamSynchronize(stream);
    if (code != cudaSuccess) {
        cudaFree(at);
        return failed(code, "moving the store", err);
    }
    cudaFree(a->at);
    a->at = at;
    a->bytes = room;
    return REATTN_OK;
}

/* Moves the index to one with more room. */
int grow_index(reattn__cuda_layer *l, int64_t keys, cudaStream_t stream, reattn_error *err)
{
    void *at = NULL;
    int64_t room = l->index_room + l->index_room / 4;
    room = ((room > keys ? room : keys) + 4095) / 4096 * 4096;
    size_t bytes = reattn__cuda_index_bytes(room, l->Hk, l->D, l->plane);
    if (cudaMalloc(&at, bytes) != cudaSuccess)
        return out_of_memory(bytes, err);
    cudaError_t code = cudaSuccess;
    if (l->indexed > 0) {
        const index_view from = index_at(l->index, l->index_room, l->Hk, l->D, l->plane);
        const index_view to = index_at(at, room, l->Hk, l->D, l->plane);
        auto copy = [&](void *dst, const void *src, size_t unit,
                        size_t rows) { /* [rows][tiles] of unit bytes */
                                       if (code == cudaSuccess)
                                           code = cudaMemcpy2DAsync(dst, unit * to.tiles, src, unit * from.tiles,
                                                                    unit * from.tiles, rows, cudaMemcpyDeviceToDevice,
                                                                    stream);
        };
        copy(to.wide, from.wide, sizeof(tile_info), l->Hk);
        if (l->plane) {
            copy(to.narrow, from.narrow, sizeof(tile_info), l->Hk);
            copy(to.plane, from.plane, (size_t)TILE * l->D, l->Hk);
        }
        if (code == cudaSuccess)
            code = cudaMemcpyAsync(to.mean, from.mean, sizeof(float) * l->Hk * l->D, cudaMemcpyDeviceToDevice, stream);
        if (code == cudaSuccess)
            code =
                cudaMemcpyAsync(to.norm_max, from.norm_max, sizeof(unsigned) * l->Hk, cudaMemcpyDeviceToDevice, stream);
        if (code == cudaSuccess)
            code = cudaMemcpyAsync(to.bad, from.bad, sizeof(int), cudaMemcpyDeviceToDevice, stream);
    }
    if (code == cudaSuccess)
        code = cudaStreamSynchronize(stream);
    if (code != cudaSuccess) {
        cudaFree(at);
        return failed(code, "moving the index", err);
    }
    cudaFree(l->index);
    l->index = at;
    l->index_room = room;
    return REATTN_OK;
}

size_t token_bytes(const reattn__cuda_layer *l)
{
    return sizeof(uint16_t) * l->Hk * l->D;
}

} // namespace

extern "C" int reattn__cuda_array_open(reattn__cuda_array *a, size_t most, reattn_error *err)
{
    driver d;
    int device = 0, can = 0;
    *a = reattn__cuda_array{};
    int code = failed(cudaGetDevice(&device), "looking at the device", err);
    if (code)
        return code;
    if (!find_driver(&d) ||
        d.attribute(&can, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, device) != CUDA_SUCCESS || !can)
        return REATTN_OK; /* grow_by_copy */
    const CUmemAllocationProp prop = memory_of(device);
    CUdeviceptr at;
    size_t granule;
    if (d.granularity(&granule, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM) != CUDA_SUCCESS)
        return REATTN_OK;
    const size_t reserved = (most + granule - 1) / granule * granule;
    if (d.reserve(&at, reserved, 0, 0, 0) != CUDA_SUCCESS)
        return reattn__fail(err, REATTN_E_NOMEM, "no address space for %zu bytes on the device: lower the capacity",
                            reserved);
    a->at = (void *)at;
    a->granule = granule;
    a->reserved = reserved;
    return REATTN_OK;
}

extern "C" int reattn__cuda_array_need(reattn__cuda_array *a, size_t bytes, void *stream, reattn_error *err)
{
    if (bytes <= a->bytes)
        return REATTN_OK;
    if (!a->granule)
        return grow_by_copy(a, bytes, (cudaStream_t)stream, err);
    driver d;
    int device = 0;
    if (bytes > a->reserved || !find_driver(&d) || cudaGetDevice(&device) != cudaSuccess)
        return reattn__fail(err, REATTN_E_INTERNAL, "the store has addresses for %zu bytes, %zu are needed",
                            a->reserved, bytes);
    while (a->bytes < bytes)
        if (!add_part(a, d, device))
            return out_of_memory(bytes - a->bytes, err);
    return REATTN_OK;
}

extern "C" void reattn__cuda_array_close(reattn__cuda_array *a)
{
    driver d;
    if (!a->granule) {
        cudaFree(a->at);
    } else if (find_driver(&d)) {
        size_t at = 0;
        for (int i = 0; i < a->parts; i++) {
            const size_t left = a->bytes - at, want = part_bytes(a, i), bytes = want < left ? want : left;
            d.unmap((CUdeviceptr)a->at + at, bytes);
            at += bytes;
        }
        d.unreserve((CUdeviceptr)a->at, a->reserved);
    }
    *a = reattn__cuda_array{};
}

extern "C" int reattn__cuda_layer_open(reattn__cuda_layer *l, int64_t capacity, reattn_error *err)
{
    int code = reattn__cuda_array_open(&l->k, token_bytes(l) * (size_t)capacity, err);
    return code ? code : reattn__cuda_array_open(&l->v, token_bytes(l) * (size_t)capacity, err);
}

extern "C" void reattn__cuda_layer_close(reattn__cuda_layer *l)
{
    reattn__cuda_array_close(&l->k);
    reattn__cuda_array_close(&l->v);
    cudaFree(l->index);
    l->index = NULL;
}

extern "C" uint64_t reattn__cuda_layer_bytes(const reattn__cuda_layer *l)
{
    return l->k.bytes + l->v.bytes + (l->index ? reattn__cuda_index_bytes(l->index_room, l->Hk, l->D, l->plane) : 0);
}

extern "C" uint64_t reattn__cuda_layer_bytes_for(const reattn__cuda_layer *l, int64_t n)
{
    return 2 * (uint64_t)token_bytes(l) * (uint64_t)n +
           (l->first >= 0 && n > l->first ? reattn__cuda_index_bytes(n - l->first, l->Hk, l->D, l->plane) : 0);
}

extern "C" int reattn__cuda_layer_reserve(reattn__cuda_layer *l, int64_t n, void *stream, reattn_error *err)
{
    int code = reattn__cuda_array_need(&l->k, token_bytes(l) * (size_t)n, stream, err);
    if (code == REATTN_OK)
        code = reattn__cuda_array_need(&l->v, token_bytes(l) * (size_t)n, stream, err);
    if (code == REATTN_OK && l->first >= 0 && n - l->first > l->index_room)
        code = grow_index(l, n - l->first, (cudaStream_t)stream, err);
    return code;
}

extern "C" void reattn__cuda_layer_rewind(reattn__cuda_layer *l, int64_t n)
{
    if (n < l->n)
        l->n = n;
    if (l->first >= 0 && l->indexed > n - l->first)
        l->indexed = n > l->first ? n - l->first : 0;
}

extern "C" int reattn__cuda_layer_keys(reattn__cuda_layer *l, int64_t end, reattn__cuda_keys *keys, void *stream,
                                       reattn_error *err)
{
    *keys = reattn__cuda_keys{};
    keys->k = (const uint16_t *)l->k.at + l->first * l->Hk * l->D;
    keys->stride_key = (int64_t)l->Hk * l->D;
    keys->stride_head = l->D;
    keys->capacity = l->index_room;
    keys->index = l->index;
    keys->type = l->type;
    keys->Hk = l->Hk;
    keys->D = l->D;
    keys->plane = l->plane;
    keys->M = l->n - l->first; /* all that there are: the next searches need them too */
    if (l->indexed < end - l->first) {
        int code = reattn__cuda_index_make(keys, l->indexed, stream, err);
        if (code)
            return code;
        l->indexed = keys->M;
    }
    keys->M = end - l->first;
    return REATTN_OK;
}
