/* cuda_none.c - see cuda.h: a build without CUDA. */
#include "cuda.h"

#include "base/base.h"

static int refuse(reattn_error *err)
{
    return reattn__fail(err, REATTN_E_UNSUPPORTED, "--device cuda: this reattn was built without CUDA");
}

int bench_cuda_select(const bench_request *request, reattn_error *err)
{
    (void)request;
    return refuse(err);
}

int bench_cuda_attend(const bench_request *request, reattn_error *err)
{
    (void)request;
    return refuse(err);
}
