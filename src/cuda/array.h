/* array.h - memory that grows at its end, on the device or on the host.
 *
 * Addresses are reserved for the most that there can be and backed by memory piece by piece, so that what is there is
 * never moved. On the device, and on the host where the driver can, pieces are the driver's own (cuMemCreate); else the
 * host's are pages that are pinned as they are needed. Where neither can be done, growing means copying. Memory of the
 * host is for kernels, which reach it over the bus at the same addresses; nothing here lets the CPU read it. */
#ifndef REATTN_CUDA_ARRAY_H
#define REATTN_CUDA_ARRAY_H

#include <stddef.h>

#include "reattn/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum reattn__cuda_where {
    REATTN__CUDA_ON_DEVICE = 0,
    REATTN__CUDA_ON_HOST = 1,
    REATTN__CUDA_ON_HOST_PINNED = 2 /* asks for pages that are pinned, whatever the driver can */
} reattn__cuda_where;

typedef struct reattn__cuda_array {
    void *at;
    size_t bytes;             /* backed by memory */
    size_t reserved, granule; /* addresses, and the unit of backing; 0: it is copied to grow */
    int parts;
    int where; /* reattn__cuda_where: what it is */
    int node;  /* of the host's memory */
} reattn__cuda_array;

/* `most`: bytes that it may ever have; where: reattn__cuda_where. */
int reattn__cuda_array_open(reattn__cuda_array *array, int where, size_t most, reattn_error *err);
/* Makes the first `bytes` bytes usable; what they held stays. Waits for the stream if it has to copy. E_NOMEM: as much
 * was taken as there was; what is there stays. */
int reattn__cuda_array_need(reattn__cuda_array *array, size_t bytes, void *stream, reattn_error *err);
void reattn__cuda_array_close(reattn__cuda_array *array);

#ifdef __cplusplus
}
#endif
#endif
