/* array.cu - see array.h. */
#include <cuda.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "array.h"
#include "launch.cuh"
extern "C" {
#include "base/base.h"
}

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

constexpr size_t PINNED_GRANULE = (size_t)2 << 20;

CUmemAllocationProp memory_of(const reattn__cuda_array *a, int device)
{
    CUmemAllocationProp prop = {};
    prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.location.type =
        a->where == REATTN__CUDA_ON_DEVICE ? CU_MEM_LOCATION_TYPE_DEVICE : CU_MEM_LOCATION_TYPE_HOST_NUMA;
    prop.location.id = a->where == REATTN__CUDA_ON_DEVICE ? device : a->node;
    return prop;
}

/* Memory of the host that can be had without swapping; 0: unknown. */
size_t free_on_host()
{
    unsigned long long kib = 0;
    char line[128];
    FILE *f = fopen("/proc/meminfo", "r");
    while (f && !kib && fgets(line, sizeof line, f))
        (void)sscanf(line, "MemAvailable: %llu kB", &kib);
    if (f)
        fclose(f);
    return (size_t)kib * 1024;
}

/* Memory of the host is asked for before it is taken: the system hands out more pages than it has, and kills for them. */
bool host_has(const reattn__cuda_array *a, size_t bytes)
{
    const size_t there = a->where == REATTN__CUDA_ON_DEVICE ? 0 : free_on_host();
    return there == 0 || there >= bytes;
}

/* Parts grow with what there is: eight of each size, which doubles; so that no more than an eighth lies idle. */
size_t part_bytes(const reattn__cuda_array *a, int part)
{
    const size_t bytes = a->granule << (part / 8 < 8 ? part / 8 : 8);
    return bytes;
}

int out_of_memory(const reattn__cuda_array *a, size_t bytes, reattn_error *err)
{
    size_t free_bytes = 0, all = 0;
    if (a->where != REATTN__CUDA_ON_DEVICE) {
        (void)cudaGetLastError();
        return reattn__fail(err, REATTN_E_NOMEM,
                            "out of memory of the host that a GPU can reach: %zu more bytes are to be pinned, %zu are "
                            "free; the system may also limit what a process pins",
                            bytes, free_on_host());
    }
    (void)cudaMemGetInfo(&free_bytes, &all);
    (void)cudaGetLastError();
    return reattn__fail(err, REATTN_E_NOMEM, "out of device memory: %zu more bytes are needed, %zu of %zu are free",
                        bytes, free_bytes, all);
}

/* Backs addresses [at, at + bytes) with memory of the driver's. */
bool map_part(const reattn__cuda_array *a, const driver &d, int device, CUdeviceptr at, size_t bytes)
{
    const CUmemAllocationProp prop = memory_of(a, device);
    CUmemGenericAllocationHandle handle;
    CUmemAccessDesc access = {};
    access.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    access.location.id = device;
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    if (d.create(&handle, bytes, &prop, 0) != CUDA_SUCCESS)
        return false;
    bool done = d.map(at, bytes, 0, handle, 0) == CUDA_SUCCESS;
    d.release(handle); /* the mapping keeps the memory */
    if (done && d.access(at, bytes, &access, 1) != CUDA_SUCCESS) {
        d.unmap(at, bytes);
        done = false;
    }
    return done;
}

/* The same with pages of the process. What cannot be pinned goes back. */
bool pin_part(void *at, size_t bytes)
{
    if (mprotect(at, bytes, PROT_READ | PROT_WRITE) != 0)
        return false;
    (void)madvise(at, bytes, MADV_HUGEPAGE);
    if (cudaHostRegister(at, bytes, cudaHostRegisterMapped | cudaHostRegisterPortable) == cudaSuccess)
        return true;
    (void)cudaGetLastError();
    (void)madvise(at, bytes, MADV_DONTNEED);
    (void)mprotect(at, bytes, PROT_NONE);
    return false;
}

/* Backs one more part; false if there is no memory. */
bool add_part(reattn__cuda_array *a, const driver &d, int device)
{
    const size_t left = a->reserved - a->bytes, want = part_bytes(a, a->parts), bytes = want < left ? want : left;
    char *at = (char *)a->at + a->bytes;
    if (!host_has(a, bytes))
        return false;
    const bool done =
        a->where == REATTN__CUDA_ON_HOST_PINNED ? pin_part(at, bytes) : map_part(a, d, device, (CUdeviceptr)at, bytes);
    if (done) {
        a->bytes += bytes;
        a->parts++;
    }
    return done;
}

cudaError_t take(const reattn__cuda_array *a, void **at, size_t bytes)
{
    const cudaError_t code =
        a->where == REATTN__CUDA_ON_DEVICE ? cudaMalloc(at, bytes) : cudaHostAlloc(at, bytes, cudaHostAllocMapped);
    if (code != cudaSuccess)
        (void)cudaGetLastError();
    return code;
}

void give_back(const reattn__cuda_array *a, void *at)
{
    if (a->where == REATTN__CUDA_ON_DEVICE)
        cudaFree(at);
    else
        cudaFreeHost(at);
}

int grow_by_copy(reattn__cuda_array *a, size_t bytes, cudaStream_t stream, reattn_error *err)
{
    void *at = NULL;
    size_t room = a->bytes + a->bytes / 2 > bytes ? a->bytes + a->bytes / 2 : bytes;
    if (!host_has(a, bytes))
        return out_of_memory(a, bytes, err);
    if (take(a, &at, room) != cudaSuccess) {
        room = bytes;
        if (take(a, &at, room) != cudaSuccess)
            return out_of_memory(a, room, err);
    }
    cudaError_t code = a->bytes ? cudaMemcpyAsync(at, a->at, a->bytes, cudaMemcpyDefault, stream) : cudaSuccess;
    if (code == cudaSuccess)
        code = cudaStreamSynchronize(stream);
    if (code != cudaSuccess) {
        give_back(a, at);
        return failed(code, "moving the store", err);
    }
    give_back(a, a->at);
    a->at = at;
    a->bytes = room;
    return REATTN_OK;
}

/* Addresses for pages that are pinned later; false: there is no such thing here. */
bool reserve_pages(reattn__cuda_array *a, size_t most, int device)
{
    int same = 0;
    if (cudaDeviceGetAttribute(&same, cudaDevAttrCanUseHostPointerForRegisteredMem, device) != cudaSuccess || !same)
        return false;
    const size_t reserved = (most + PINNED_GRANULE - 1) / PINNED_GRANULE * PINNED_GRANULE,
                 all = reserved + PINNED_GRANULE;
    char *at = (char *)mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        return false;
    /* Aligned, so that huge pages can be had; the rest goes back. */
    char *first = (char *)(((uintptr_t)at + PINNED_GRANULE - 1) / PINNED_GRANULE * PINNED_GRANULE);
    if (first > at)
        munmap(at, (size_t)(first - at));
    if (first + reserved < at + all)
        munmap(first + reserved, (size_t)(at + all - first - reserved));
    a->at = first;
    a->granule = PINNED_GRANULE;
    a->reserved = reserved;
    a->where = REATTN__CUDA_ON_HOST_PINNED;
    return true;
}

/* Whether the driver backs addresses with memory of that place, in which unit, and of which node of the host. */
bool can_map(const driver &d, reattn__cuda_array *a, int device, size_t *granule)
{
    int can = 0;
    if (d.attribute(&can, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, device) != CUDA_SUCCESS || !can)
        return false;
    if (a->where == REATTN__CUDA_ON_HOST &&
        (d.attribute(&can, CU_DEVICE_ATTRIBUTE_HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, device) != CUDA_SUCCESS ||
         !can || d.attribute(&a->node, CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID, device) != CUDA_SUCCESS || a->node < 0))
        return false;
    const CUmemAllocationProp prop = memory_of(a, device);
    return d.granularity(granule, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM) == CUDA_SUCCESS;
}

} // namespace

extern "C" int reattn__cuda_array_open(reattn__cuda_array *a, int where, size_t most, reattn_error *err)
{
    driver d;
    int device = 0;
    size_t granule;
    *a = reattn__cuda_array{};
    a->where = where;
    int code = failed(cudaGetDevice(&device), "looking at the device", err);
    if (code)
        return code;
    if (where == REATTN__CUDA_ON_HOST_PINNED || !find_driver(&d) || !can_map(d, a, device, &granule)) {
        if (where != REATTN__CUDA_ON_DEVICE)
            (void)reserve_pages(a, most, device);
        return REATTN_OK; /* grow_by_copy, if there is no granule */
    }
    CUdeviceptr at;
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
    if (!host_has(a, bytes - a->bytes))
        return out_of_memory(a, bytes - a->bytes, err);
    while (a->bytes < bytes)
        if (!add_part(a, d, device))
            return out_of_memory(a, bytes - a->bytes, err);
    return REATTN_OK;
}

extern "C" void reattn__cuda_array_close(reattn__cuda_array *a)
{
    driver d;
    const bool pinned = a->where == REATTN__CUDA_ON_HOST_PINNED;
    if (!a->granule) {
        give_back(a, a->at);
    } else if (pinned || find_driver(&d)) {
        size_t at = 0;
        for (int i = 0; i < a->parts; i++) {
            const size_t left = a->bytes - at, want = part_bytes(a, i), bytes = want < left ? want : left;
            if (pinned)
                cudaHostUnregister((char *)a->at + at);
            else
                d.unmap((CUdeviceptr)a->at + at, bytes);
            at += bytes;
        }
        if (pinned)
            munmap(a->at, a->reserved);
        else
            d.unreserve((CUdeviceptr)a->at, a->reserved);
    }
    *a = reattn__cuda_array{};
}
