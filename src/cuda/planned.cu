/* planned.cu - see planned.cuh. */
#include "planned.cuh"

#include <stdlib.h>

#include "scan.cuh"

namespace reattn_cuda
{

int open_planned(planned *p, const reattn__layer *layers, int n_layer, reattn_error *err)
{
    for (int i = 0; i < n_layer; i++)
        p->lists_most = REATTN__MAX(p->lists_most, layers[i].Hk);
    p->n_table = n_layer * p->lists_most;
    p->tables = (reattn__cuda_turns *)calloc((size_t)p->n_table, sizeof *p->tables);
    p->cs = (const float **)calloc((size_t)p->lists_most, sizeof *p->cs);
    if (!p->tables || !p->cs)
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    return reattn__cuda_runs_create(&p->runs, err);
}

void close_planned(planned *p)
{
    for (int i = 0; p->tables && i < p->n_table; i++)
        reattn__cuda_turns_close(&p->tables[i]);
    reattn__cuda_runs_free(p->runs);
    free(p->tables);
    free(p->cs);
    *p = planned{};
}

uint64_t planned_bytes(const planned *p)
{
    uint64_t bytes = p->runs ? reattn__cuda_runs_bytes(p->runs) : 0;
    for (int i = 0; i < p->n_table; i++)
        bytes += sizeof(float) * (uint64_t)(p->tables[i].room * p->tables[i].D);
    return bytes;
}

int ready_planned(planned *p, const reattn__cuda_given *plan, const reattn__layer *shape, reattn__cuda_turns *own,
                  int way, int64_t T, int64_t n, reattn__cuda_runs_args *args, void *stream, reattn_error *err)
{
    int code = reattn__cuda_runs_set(p->runs, plan, T, n, shape->H, shape->Hk, shape->D, stream, err);
    for (int i = 0; i < plan->n_list && code == REATTN_OK; i++) {
        const int64_t positions = reattn__cuda_runs_positions(p->runs, i);
        const reattn_rope *rope = plan->lists[i].rope ? &plan->lists[i].rope->rope : NULL;
        reattn__cuda_turns *table = rope ? &p->tables[way * p->lists_most + i] : own;
        if (rope && (rope->kind != own->rope.kind || rope->n_rot != own->rope.n_rot))
            return reattn__fail(err, REATTN_E_UNSUPPORTED,
                                "on a GPU a method may change how fast pairs of values rotate, not which are pairs");
        if (rope)
            code = reattn__cuda_turns_use(table, rope, shape->D, err);
        if (code == REATTN_OK)
            code = reattn__cuda_turns_need(table, positions, stream, err);
    }
    if (code != REATTN_OK)
        return code;
    for (int i = 0; i < plan->n_list; i++) /* now that none moves any more */
        p->cs[i] = plan->lists[i].rope ? p->tables[way * p->lists_most + i].cs : own->cs;
    args->runs = p->runs, args->cs = p->cs, args->scale = shape->kq_scale;
    args->neox = own->rope.kind == REATTN_ROPE_NEOX, args->n_rot = own->rope.n_rot;
    return REATTN_OK;
}

} // namespace reattn_cuda
