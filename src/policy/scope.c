/* scope.c - building plans, and the hooks that test them. */
#include "local.h"
#include "policy.h"

int reattn__plan_room(reattn__plan *plan, int n_list, int64_t n_run, reattn_error *err)
{
    size_t per_list = (size_t)n_run;
    reattn__run_list *lists = reattn__buffer_need(&plan->memory[0], (size_t)n_list * sizeof *lists);
    reattn_run *runs = reattn__buffer_need(&plan->memory[1], (size_t)n_list * per_list * sizeof *runs);
    void *spans = reattn__buffer_need(&plan->memory[2], (size_t)n_list * (sizeof *plan->spans + sizeof *plan->n_spans));
    if (!lists || !runs || !spans) return reattn__fail(err, REATTN_E_NOMEM, "out of memory for a plan");
    plan->n_list = n_list;
    plan->lists = lists;
    plan->q_scale = NULL;
    plan->spans = spans;
    plan->n_spans = (int64_t *)(plan->spans + n_list);
    plan->mass_run = -1;
    for (int i = 0; i < n_list; i++) {
        lists[i] = (reattn__run_list){.runs = runs + (size_t)i * per_list};
        plan->spans[i] = NULL;
        plan->n_spans[i] = 0;
    }
    return REATTN_OK;
}

int reattn__plan_start(reattn__plan *plan, int n_list, int64_t n_span, reattn_error *err)
{
    return reattn__plan_room(plan, n_list, n_span + 2, err); /* the first tokens, spans, the last tokens */
}

void reattn__plan_add(reattn__plan *plan, int i, reattn_run run)
{
    reattn__run_list *list = &plan->lists[i];
    if (run.count > 0) ((reattn_run *)list->runs)[list->n++] = run;
}

int reattn__plan_scales(reattn__plan *plan, int64_t T, reattn_error *err)
{
    plan->q_scale = reattn__buffer_need(&plan->memory[3], (size_t)T * sizeof *plan->q_scale);
    if (!plan->q_scale) return reattn__fail(err, REATTN_E_NOMEM, "out of memory for a plan");
    for (int64_t t = 0; t < T; t++) plan->q_scale[t] = 1;
    return REATTN_OK;
}

void reattn__plan_free(reattn__plan *plan)
{
    for (size_t i = 0; i < sizeof plan->memory / sizeof *plan->memory; i++) reattn__buffer_free(&plan->memory[i]);
}

void reattn__plan_full(reattn__plan *plan, const reattn__step *s)
{
    reattn_run *run = (reattn_run *)plan->lists[0].runs;
    *run = (reattn_run){.count = s->n, .k_step = 1, .q_pos = s->n - s->T, .q_step = 1, .dist_max = INT64_MAX};
    plan->lists[0].n = 1;
}

void reattn__plan_scope(reattn__plan *plan, int i, const reattn__step *s, const reattn_span *spans, int64_t n_span)
{
    reattn_run *runs = (reattn_run *)plan->lists[i].runs;
    int64_t n = 0, pos = 0, G = s->params->keep, L = reattn__last_tokens(s->params, s->T);
    bool original = s->params->positions == REATTN_POS_ORIGINAL;
    for (int64_t r = -1; r <= n_span; r++) {
        reattn_span span = r < 0 ? (reattn_span){0, G} : r < n_span ? spans[r] : (reattn_span){s->n - L, L};
        if (span.count == 0) continue;
        runs[n++] = (reattn_run){.first = span.first, .count = span.count, .k_pos = original ? span.first : pos,
                                 .k_step = 1, .q_step = 1, .dist_max = INT64_MAX};
        pos += span.count;
    }
    for (int64_t r = 0; r < n; r++) runs[r].q_pos = (original ? s->n : pos) - s->T;
    plan->lists[i].n = n;
    plan->spans[i] = spans;
    plan->n_spans[i] = n_span;
}

/* True if query t, token `at`, sees key `token`. */
static bool sees(const reattn_run *run, int64_t t, int64_t at, int64_t token)
{
    return t >= run->t_min && t < reattn__run_end(run, INT64_MAX) && at - token >= run->dist_min &&
           at - token <= run->dist_max;
}

int64_t reattn__plan_distances(const reattn__run_list *list, int64_t q_first, int64_t t, int64_t *distance, int64_t cap)
{
    int64_t n = 0;
    for (int64_t r = 0; r < list->n; r++) {
        const reattn_run *run = &list->runs[r];
        for (int64_t c = 0; c < run->count; c++) {
            if (!sees(run, t, q_first + t, run->first + c)) continue;
            if (n < cap) distance[n] = reattn__run_q_pos(run, t) - reattn__run_k_pos(run, c);
            n++;
        }
    }
    return n;
}

void reattn__plan_coverage(const reattn__run_list *list, int64_t q_first, int64_t t, int64_t n, int *count)
{
    for (int64_t r = 0; r < list->n; r++) {
        const reattn_run *run = &list->runs[r];
        for (int64_t token = run->first; token < run->first + run->count && token < n; token++)
            count[token] += sees(run, t, q_first + t, token);
    }
}
