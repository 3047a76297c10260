/* store.cu - a layer's keys, values and index in memory that grows. See store.h. */
#include "scan.cuh"
#include "store.h"

using namespace reattn_cuda;

namespace
{

int out_of_memory(size_t bytes, reattn_error *err)
{
    size_t free_bytes = 0, all = 0;
    (void)cudaMemGetInfo(&free_bytes, &all);
    (void)cudaGetLastError();
    return reattn__fail(err, REATTN_E_NOMEM, "out of device memory: %zu more bytes are needed, %zu of %zu are free",
                        bytes, free_bytes, all);
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

extern "C" int reattn__cuda_layer_open(reattn__cuda_layer *l, int64_t capacity, reattn_error *err)
{
    const int where = l->tier ? REATTN__CUDA_ON_HOST : REATTN__CUDA_ON_DEVICE;
    int code = reattn__cuda_array_open(&l->k, where, token_bytes(l) * (size_t)capacity, err);
    return code ? code : reattn__cuda_array_open(&l->v, where, token_bytes(l) * (size_t)capacity, err);
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
    const uint64_t index = l->index ? reattn__cuda_index_bytes(l->index_room, l->Hk, l->D, l->plane) : 0;
    return index + (l->tier ? 0 : l->k.bytes + l->v.bytes);
}

extern "C" uint64_t reattn__cuda_layer_host_bytes(const reattn__cuda_layer *l)
{
    return l->tier ? l->k.bytes + l->v.bytes : 0;
}

extern "C" uint64_t reattn__cuda_layer_bytes_for(const reattn__cuda_layer *l, int64_t n, uint64_t *host)
{
    const uint64_t rows = 2 * (uint64_t)token_bytes(l) * (uint64_t)n;
    *host = l->tier ? rows : 0;
    return (l->tier ? 0 : rows) +
           (l->first >= 0 && n > l->first ? reattn__cuda_index_bytes(n - l->first, l->Hk, l->D, l->plane) : 0);
}

extern "C" uint64_t reattn__cuda_bytes_for(const reattn__cuda_context_args *a, int i, int64_t n, uint64_t *host)
{
    reattn__cuda_layer l = {};
    const reattn__cuda_tier tier = reattn__cuda_tier_for(a, i);
    l.Hk = a->layers[i].Hk, l.D = a->layers[i].D, l.plane = a->plane || a->host, l.tier = a->host ? &tier : NULL;
    l.first = a->policy == REATTN__CUDA_REATTENTION ? 0 : -1;
    return reattn__cuda_layer_bytes_for(&l, n, host) + (a->host ? reattn__cuda_tier_bytes(&tier) : 0);
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
    keys->far = l->tier ? l->tier->counts : NULL;
    keys->M = l->n - l->first; /* all that there are: the next searches need them too */
    if (l->indexed < end - l->first) {
        reattn__cuda_ring ring = {};
        if (l->tier && l->first + l->indexed / TILE * TILE >= l->tier->from) /* they are near */
            ring = {l->tier->k, l->first, l->tier->ring};
        int code = reattn__cuda_index_make_of(keys, &ring, l->indexed, stream, err);
        if (code)
            return code;
        l->indexed = keys->M;
    }
    keys->M = end - l->first;
    return REATTN_OK;
}
