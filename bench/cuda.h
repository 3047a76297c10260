/* cuda.h - the benches on a CUDA device, as the others call them; E_UNSUPPORTED in a build without CUDA. */
#ifndef BENCH_CUDA_H
#define BENCH_CUDA_H

#include "bench.h"

int bench_cuda_select(const bench_request *request, reattn_error *err);
int bench_cuda_attend(const bench_request *request, reattn_error *err);

#endif
