/* step.c - one layer of one step: append -> plan -> attend. */
#include "session.h"

static void report(const reattn_session *s, int layer)
{
    const reattn__plan *plan = &s->plan;
    for (int i = 0; i < plan->n_list; i++) {
        if (plan->n_spans[i] == 0) continue;
        reattn_trace trace = {
            .token = s->n - 1, .layer = layer, .kv_head = plan->n_list > 1 ? i : -1, .spans = plan->spans[i],
            .n_spans = plan->n_spans[i],
        };
        s->trace(&trace, s->trace_user);
    }
}

/* Keys of a run that the last query of a step of T, token `at`, sees. */
static int64_t seen_by(const reattn_run *run, int64_t at, int64_t T)
{
    if (run->t_min >= T || reattn__run_end(run, T) < T) return 0;
    int64_t first = run->first, end = run->first + run->count;
    if (run->dist_max < at - first) first = at - run->dist_max;
    if (run->dist_min > at - (end - 1)) end = at - run->dist_min + 1;
    return REATTN__MAX(end - first, (int64_t)0);
}

/* What the last query, which sees most, attends to. */
static int64_t scope_of(const reattn__plan *plan, int64_t last, int64_t T)
{
    int64_t most = 0;
    for (int i = 0; i < plan->n_list; i++) {
        int64_t n = 0;
        for (int64_t r = 0; r < plan->lists[i].n; r++) n += seen_by(&plan->lists[i].runs[r], last, T);
        most = REATTN__MAX(most, n);
    }
    return most;
}

int reattn__session_layer(void *user, int layer, int64_t T, const float *q, const float *k, const float *v, float *out,
                          reattn_error *err)
{
    reattn_session *s = user;
    const reattn__layer *shape = &s->layers[layer];
    const int64_t n = reattn__session_held(s);
    int row = s->row[layer];
    double t0 = reattn__now_ms();
    if (atomic_load_explicit(&s->cancel, memory_order_relaxed))
        return reattn__fail(err, REATTN_E_CANCELLED, "cancelled after %lld tokens", (long long)(s->n - T));
    if (!reattn__all_finite(q, T * shape->H * shape->D))
        return reattn__fail(err, REATTN_E_NAN,
                            "layer %d gave a query that is not finite: the model or its file is damaged", layer);
    int code = reattn__store_append(s->store, row, T, k, v, err);
    double t1 = reattn__now_ms();
    s->stats.append_ms += t1 - t0;
    if (code != REATTN_OK) return code;
    /* Without logits nothing reads the last layer's output: its keys and values were all that mattered, unless the
     * policy learns from what is attended to. */
    if (layer == s->n_layer - 1 && !s->want_logits && !s->policy->learn) {
        for (int64_t i = 0; i < T * shape->H * shape->Dv; i++) out[i] = 0;
        return REATTN_OK;
    }

    reattn__step step = {
        .params = &s->params, .shape = shape, .store = s->store, .layer = row, .decode = s->decode,
        .last = s->last, .T = T, .n = n, .probe = s->pot.probe, .q = q, .k = k, .v = v, .scored = &s->stats.keys_scored,
        .rescored = &s->stats.keys_rescored,
    };
    code = s->policy->plan(s->policy_state, &step, &s->plan, err);
    double t2 = reattn__now_ms();
    s->stats.select_ms += t2 - t1;
    if (code != REATTN_OK) return code;
    if (s->mass_fn && s->want_logits) {
        code = reattn__session_measure(s, layer, T, q, err);
        if (code != REATTN_OK) return code;
        t2 = reattn__now_ms(); /* in nobody's time */
    }
    if (s->trace) report(s, layer);
    s->stats.scope_max = REATTN__MAX(s->stats.scope_max, scope_of(&s->plan, n - 1, T));

    reattn__attend_args args = {
        .q = q, .T = T, .q_first = n - T, .H = shape->H,
        .src = {.store = s->store, .layer = row, .Hk = shape->Hk, .D = shape->D, .Dv = shape->Dv},
        .scale = shape->kq_scale, .q_scale = s->plan.q_scale, .rope = &s->ropes[s->rope_of[layer]],
        .turned = s->turned ? &s->turned[row] : NULL, .lists = s->plan.lists,
        .n_list = s->plan.n_list, .n_threads = s->params.n_threads, .out = out, .work = s->attend_work,
    };
    if (s->plan.mass_run >= 0) {
        int64_t count = s->plan.lists[0].runs[s->plan.mass_run].count;
        args.mass_run = s->plan.mass_run;
        args.lse = reattn__buffer_need(&s->lse, (size_t)(T * shape->H) * sizeof *args.lse);
        args.mass = reattn__buffer_need(&s->mass, (size_t)(shape->H * count) * sizeof *args.mass);
        if (!args.lse || !args.mass) return reattn__fail(err, REATTN_E_NOMEM, "out of memory for what keys got");
    }
    code = reattn__attend(&args, err);
    double t3 = reattn__now_ms();
    s->stats.attend_ms += t3 - t2;
    if (code == REATTN_OK && s->policy->learn) code = s->policy->learn(s->policy_state, &step, args.mass, err);
    s->stats.select_ms += reattn__now_ms() - t3;
    return code;
}
