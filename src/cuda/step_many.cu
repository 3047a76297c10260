/* step_many.cu - steps of decode of several sessions in one launch of each kernel: launching takes half of the time of
 * eight sessions' steps otherwise. See step.h.
 *
 * A step that shares launches is first arranged: what can fail for one session, memory, is taken then, and a session
 * that fails is left out. What is launched fails for all. */
#include "context.cuh"

using namespace reattn_cuda;

namespace
{

/* A step with the arguments of its kernels. */
struct arranged {
    reattn__cuda_member *member;
    step s;
    int64_t scope; /* as in layer */
    reattn__cuda_append_args append;
    reattn__cuda_select_args select;
    reattn__cuda_plan_args plan;
    reattn__cuda_attend_args attend;
    bool launched;
};

layer *layer_of(const reattn__cuda_member *m)
{
    return &m->context->layers[m->args.layer];
}

/* A step whose kernels are those of most steps. If it recalls, the middle's keys are there already, so that what its
 * index lacks can be made before the step. */
bool can_share(const reattn__cuda_member *m, const step *s)
{
    const layer *l = layer_of(m);
    return s->decode && m->args.out && !m->context->host && m->context->policy != REATTN__CUDA_GIVEN &&
           !window_is_late(l, s) && (!s->choose || s->end <= l->store.n);
}

int arrange(arranged *a, int among, cudaStream_t stream)
{
    const reattn__cuda_member *m = a->member;
    reattn__cuda_context *c = m->context;
    layer *l = layer_of(m);
    reattn__cuda_scope scope = scope_ahead(c, &a->s);
    int code = arrange_append(c, l, &m->args, &a->s, &a->append, stream, m->err);
    if (code == REATTN_OK && a->s.choose)
        code = arrange_search(c, l, &a->s, a->s.q, 1, hits_of_query(c, l, &a->s), &a->select, stream, m->err);
    if (code == REATTN_OK && a->s.choose)
        code = arrange_plan(c, l, &a->s, 1, &scope, &a->plan, stream, m->err);
    a->scope = a->s.choose ? -1 : scope.most;
    if (code == REATTN_OK)
        code = arrange_attention(c, l, &m->args, &a->s, &scope, among, &a->attend, stream, m->err);
    return code;
}

bool alike(const arranged *a, const arranged *b)
{
    if (a->s.choose != b->s.choose || !reattn__cuda_attend_together(&a->attend, &b->attend))
        return false;
    return !a->s.choose ||
           (reattn__cuda_select_together(&a->select, &b->select) && reattn__cuda_plan_together(&a->plan, &b->plan));
}

/* Launches the first of some steps, and those of the others that are like it. */
void launch(arranged *some, int n_some, cudaStream_t stream)
{
    arranged *mine[MANY];
    reattn__cuda_append_args append[MANY];
    reattn__cuda_select_args select[MANY];
    reattn__cuda_plan_args plan[MANY];
    reattn__cuda_attend_args attend[MANY];
    reattn_error err = {};
    int n = 0;
    for (int i = 0; i < n_some; i++) {
        arranged *a = &some[i];
        if (a->launched || (n > 0 && !alike(mine[0], a)))
            continue;
        append[n] = a->append, select[n] = a->select, plan[n] = a->plan, attend[n] = a->attend;
        mine[n++] = a;
    }
    int code = reattn__cuda_append_many(append, n, stream, &err);
    if (code == REATTN_OK && mine[0]->s.choose)
        code = reattn__cuda_select_many(select, n, stream, &err);
    if (code == REATTN_OK && mine[0]->s.choose)
        code = reattn__cuda_plan_many(plan, n, stream, &err);
    if (code == REATTN_OK)
        code = reattn__cuda_attend_many(attend, n, stream, &err);
    for (int i = 0; i < n; i++) {
        reattn__cuda_member *m = mine[i]->member;
        layer *l = layer_of(m);
        mine[i]->launched = true;
        m->code = code ? reattn__fail(m->err, code, "%s", err.msg) : REATTN_OK;
        if (code)
            continue;
        l->store.n = mine[i]->s.n;
        l->scope = mine[i]->scope;
        remember(m->context, l, &mine[i]->s, 1);
    }
}

} // namespace

extern "C" void reattn__cuda_step_many(reattn__cuda_member *members, int n, int among)
{
    arranged some[MANY];
    int n_some = 0;
    cudaStream_t stream = NULL; /* that of the first that shares */
    bool begun = false;
    for (int i = 0; i < n; i++) {
        reattn__cuda_member *m = &members[i];
        arranged *a = &some[n_some];
        *a = arranged{};
        a->member = m;
        m->code = look_ahead(m->context, &m->args, &a->s, (cudaStream_t)m->stream, m->err);
        if (m->code)
            continue;
        if (!can_share(m, &a->s)) {
            m->code = reattn__cuda_step(m->context, &m->args, m->stream, m->err);
            continue;
        }
        stream = begun ? stream : (cudaStream_t)m->stream;
        begun = true;
        m->stream = stream; /* what is missing of its index is made there, too */
        m->code = arrange(a, among, stream);
        n_some += m->code == REATTN_OK;
    }
    for (int i = 0; i < n_some; i++)
        if (!some[i].launched)
            launch(some, n_some, stream);
}
