/* none.c - device.h in a build without CUDA. */
#include "device.h"

const reattn__device_table *reattn__device_engine(void)
{
    return NULL;
}
