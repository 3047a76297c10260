#include "bench.h"
#include "base/base.h"
int bench_attend(const bench_request *request, reattn_error *err)
{
    (void)request;
    return reattn__fail(err, REATTN_E_UNSUPPORTED, "not yet");
}
