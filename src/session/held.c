/* held.c - measures, when asked to, how much of exact attention the scope of a step holds. */
#include <stdlib.h>

#include "attend/held.h"
#include "session.h"

/* What the last query sees of the n tokens in the store, by list of the plan: [n_list][n], the caller's. */
static int *scope_of(const reattn__plan *plan, int64_t T, int64_t n)
{
    int *scope = calloc((size_t)plan->n_list * (size_t)n, sizeof *scope);
    for (int i = 0; scope && i < plan->n_list; i++)
        reattn__plan_coverage(&plan->lists[i], n - T, T - 1, n, scope + i * n);
    return scope;
}

int reattn__session_measure(const reattn_session *s, int layer, int64_t T, const float *q, reattn_error *err)
{
    const reattn__layer *shape = &s->layers[layer];
    reattn_model_info info;
    int row = s->row[layer];
    int64_t n = reattn__store_length(s->store, row);
    double *shares = malloc(2 * (size_t)shape->H * sizeof *shares);
    int *scope = scope_of(&s->plan, T, n);
    reattn__held_args args = {
        .q = q + (T - 1) * shape->H * shape->D, .n = n, .H = shape->H,
        .src = {.store = s->store, .layer = row, .Hk = shape->Hk, .D = shape->D, .Dv = shape->Dv},
        .scale = shape->kq_scale, .scope = scope, .n_list = s->plan.n_list, .n_threads = s->params.n_threads,
        .share = shares,
    };
    reattn_mass mass = {.token = s->n - 1, .layer = layer, .n_head = shape->H, .free = shares};
    int code = shares && scope ? REATTN_OK : reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    reattn_model_get_info(s->model, &info);
    if (code == REATTN_OK) code = reattn__held(&args, err);
    /* Keys of which some were dropped are no longer at their places in the text. */
    if (code == REATTN_OK && n == s->n && n <= info.n_ctx_train) {
        args.rope = &shape->rope;
        args.share = shares + shape->H;
        mass.rotated = args.share;
        code = reattn__held(&args, err);
    }
    if (code == REATTN_OK) s->mass_fn(&mass, s->mass_user);
    free(shares);
    free(scope);
    return code;
}

void reattn_session_set_mass(reattn_session *s, reattn_mass_fn fn, void *user)
{
    s->mass_fn = fn;
    s->mass_user = user;
}
