/* planned.cuh - what a context keeps for plans that come with each step: the runs on the device, and tables of
 * rotations for lists that have their own. A list's table is that of its place and of the layer's way to rotate: layers
 * that rotate alike share it, and make it anew only when a plan wants another rotation. */
#ifndef REATTN_CUDA_PLANNED_CUH
#define REATTN_CUDA_PLANNED_CUH

#include "runs.h"
#include "turns.h"

namespace reattn_cuda
{

struct planned {
    reattn__cuda_runs *runs;
    reattn__cuda_turns *tables; /* [ways to rotate][lists_most] */
    const float **cs;           /* [lists_most] scratch */
    int n_table, lists_most;
};

/* All zeros is closed. Errors: E_NOMEM, E_INTERNAL. */
int open_planned(planned *p, const reattn__layer *layers, int n_layer, reattn_error *err);
/* Nothing may be queued. */
void close_planned(planned *p);
uint64_t planned_bytes(const planned *p);
/* Readies runs and rotations for a layer, whose own table is `own`, number `way` of those that the context has, and
 * fills in the arguments that say so. Errors: as reattn__cuda_runs_set; E_UNSUPPORTED. */
int ready_planned(planned *p, const reattn__cuda_given *plan, const reattn__layer *shape, reattn__cuda_turns *own,
                  int way, int64_t T, int64_t n, reattn__cuda_runs_args *args, void *stream, reattn_error *err);

} // namespace reattn_cuda

#endif
