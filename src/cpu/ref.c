#include "ref.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------------ topk ------- */

static double dot(const float *a, const float *b, int D)
{
    double sum = 0.0;
    for (int d = 0; d < D; d++)
        sum += (double)a[d] * (double)b[d];
    return sum;
}

/* Factor on a score that the recall type takes from the value. */
static double value_norm(reattn_recall_type type, const float *v, int Dv)
{
    if (type == REATTN_RECALL_QKV2)
        return sqrt(dot(v, v, Dv));
    double sum = 0.0;
    for (int d = 0; d < Dv; d++)
        sum += fabs((double)v[d]);
    return sum;
}

void reattn__ref_topk_typed(reattn_recall_type type, const float *q, const float *k, const float *v, int64_t T,
                            int64_t M, int H, int Hk, int D, int Dv, int top_k, reattn_hit *hits)
{
    const bool with_norm = type == REATTN_RECALL_QKV || type == REATTN_RECALL_QKV2;
    for (int64_t row = 0; row < T * H; row++, hits += top_k) {
        const int hk = (int)(row % H) / (H / Hk);
        for (int i = 0; i < top_k; i++)
            hits[i] = (reattn_hit){.pos = -1, .score = -INFINITY};
        for (int64_t j = 0; j < M; j++) {
            double score = dot(q + row * D, k + (j * Hk + hk) * D, D);
            if (with_norm)
                score *= value_norm(type, v + (j * Hk + hk) * Dv, Dv);
            /* Insertion into the sorted list. Positions come ascending, so an equal score goes below. */
            int i = top_k;
            while (i > 0 && (hits[i - 1].pos < 0 || score > hits[i - 1].score)) {
                if (i < top_k)
                    hits[i] = hits[i - 1];
                i--;
            }
            if (i < top_k)
                hits[i] = (reattn_hit){.pos = j, .score = score};
        }
    }
}

void reattn__ref_topk(const float *q, const float *k, int64_t T, int64_t M, int H, int Hk, int D, int top_k,
                      reattn_hit *hits)
{
    reattn__ref_topk_typed(REATTN_RECALL_QK, q, k, NULL, T, M, H, Hk, D, 0, top_k, hits);
}

/* ----------------------------------------------------------------------------------------------- votes ------- */

typedef struct ballot {
    int64_t pos, turn; /* turn: place in the hit list */
    double weight, best;
} ballot;

static int by_pos_then_turn(const void *a, const void *b)
{
    const ballot *x = a, *y = b;
    if (x->pos != y->pos)
        return x->pos < y->pos ? -1 : 1;
    return (x->turn > y->turn) - (x->turn < y->turn);
}

static int by_rank(const void *a, const void *b)
{
    const ballot *x = a, *y = b;
    if (x->weight != y->weight)
        return x->weight > y->weight ? -1 : 1;
    if (x->best != y->best)
        return x->best > y->best ? -1 : 1;
    return (x->pos > y->pos) - (x->pos < y->pos);
}

/* exp(scale * (score - the query's best)), or 0 for an unused slot. */
static double mass(const reattn_hit *of_query, int top_k, int i, double scale)
{
    if (of_query[i].pos < 0)
        return 0.0;
    double best = -INFINITY;
    for (int j = 0; j < top_k; j++)
        if (of_query[j].pos >= 0 && of_query[j].score > best)
            best = of_query[j].score;
    return exp(scale * (of_query[i].score - best));
}

int reattn__ref_votes(const reattn_hit *hits, int64_t n_query, int top_k, reattn_vote vote, double scale, int64_t m,
                      int64_t *kept, int64_t *n_kept)
{
    *n_kept = 0;
    ballot *list = malloc((size_t)(n_query * top_k + 1) * sizeof *list);
    if (!list)
        return REATTN_E_NOMEM;

    int64_t n = 0;
    for (int64_t t = 0; t < n_query; t++) {
        const reattn_hit *of_query = hits + t * top_k;
        double sum = 0.0;
        for (int i = 0; i < top_k; i++)
            sum += mass(of_query, top_k, i, scale);
        for (int i = 0; i < top_k; i++)
            if (of_query[i].pos >= 0) {
                const double weight = vote == REATTN_VOTE_MASS ? mass(of_query, top_k, i, scale) / sum : 1.0;
                list[n] = (ballot){of_query[i].pos, n, weight, of_query[i].score};
                n++;
            }
    }

    qsort(list, (size_t)n, sizeof *list, by_pos_then_turn);
    int64_t n_pos = 0;
    for (int64_t i = 0; i < n; i++) {
        if (n_pos > 0 && list[n_pos - 1].pos == list[i].pos) {
            ballot *b = &list[n_pos - 1];
            b->weight += list[i].weight;
            b->best = list[i].best > b->best ? list[i].best : b->best;
        } else {
            list[n_pos++] = list[i];
        }
    }

    qsort(list, (size_t)n_pos, sizeof *list, by_rank);
    if (n_pos > m)
        n_pos = m;
    qsort(list, (size_t)n_pos, sizeof *list, by_pos_then_turn);
    for (int64_t i = 0; i < n_pos; i++)
        kept[i] = list[i].pos;
    *n_kept = n_pos;
    free(list);
    return REATTN_OK;
}

/* ----------------------------------------------------------------------------------------------- spans ------- */

int reattn__ref_spans(const int64_t *kept, int64_t n_kept, int64_t s, int64_t lo, int64_t hi, reattn_span *spans,
                      int64_t *n_span)
{
    *n_span = 0;
    bool *in = calloc((size_t)(hi - lo + 1), sizeof *in);
    if (!in)
        return REATTN_E_NOMEM;
    for (int64_t i = 0; i < n_kept; i++)
        for (int64_t p = kept[i] - s / 2; p < kept[i] + (s + 1) / 2; p++)
            if (p >= lo && p < hi)
                in[p - lo] = true;
    for (int64_t p = lo; p < hi; p++) {
        if (!in[p - lo])
            continue;
        if (p == lo || !in[p - lo - 1])
            spans[(*n_span)++] = (reattn_span){.first = p, .count = 0};
        spans[*n_span - 1].count++;
    }
    free(in);
    return REATTN_OK;
}

/* ------------------------------------------------------------------------------------------------ rope ------- */

/* The pair index at which a wave turns `turns` times within the trained length. */
static float yarn_dim(const reattn_rope *r, float turns)
{
    return r->n_rot * logf(r->n_ctx_orig / (turns * 2 * 3.14159265358979323846f)) / (2 * logf(r->freq_base));
}

/* How much of pair i's own frequency YaRN keeps: 1 for the fast pairs, 0 for the slow ones, a ramp between. */
static float yarn_share(const reattn_rope *r, int i)
{
    const float low = fmaxf(0.0f, floorf(yarn_dim(r, r->beta_fast)));
    const float high = fminf((float)(r->n_rot - 1), ceilf(yarn_dim(r, r->beta_slow)));
    const float y = (i - low) / fmaxf(0.001f, high - low);
    return 1 - fminf(1.0f, fmaxf(0.0f, y));
}

void reattn__ref_rope(const reattn_rope *rope, const float *x, int D, int64_t pos, double *y)
{
    const int half = rope->n_rot / 2;
    const float step = powf(rope->freq_base, -2.0f / rope->n_rot);
    float turn = (float)pos; /* pos * base^(-2i/n_rot), by repeated products, as ggml has it */

    for (int i = 0; i < half; i++, turn *= step) {
        const float own = rope->freq_factors ? turn / rope->freq_factors[i] : turn;
        float theta = rope->freq_scale * own;
        float size = rope->attn_factor;
        if (rope->ext_factor != 0.0f) {
            const float mix = yarn_share(rope, i) * rope->ext_factor;
            theta = theta * (1 - mix) + own * mix;
            size *= 1.0f + 0.1f * logf(1.0f / rope->freq_scale);
        }
        const float c = cosf(theta) * size, s = sinf(theta) * size;
        const int a = rope->kind == REATTN_ROPE_NEOX ? i : 2 * i;
        const int b = rope->kind == REATTN_ROPE_NEOX ? i + half : 2 * i + 1;
        y[a] = (double)x[a] * c - (double)x[b] * s;
        y[b] = (double)x[a] * s + (double)x[b] * c;
    }
    for (int d = 2 * half; d < D; d++)
        y[d] = x[d];
}

/* ---------------------------------------------------------------------------------------------- attend ------- */

typedef struct attend_in {
    const float *q, *k, *v;
    int64_t T, q_first, n_run;
    int H, Hk, D, Dv;
    float scale;
    const reattn_rope *rope;
    const reattn_run *runs;
    int64_t mass_run; /* with mass: the run whose keys' probabilities are summed */
    double *mass;     /* [H][keys of that run], or NULL */
} attend_in;

static int64_t key_pos(const reattn_run *run, int64_t c)
{
    return (run->k_pos + c * run->k_step) / (run->k_div ? run->k_div : 1);
}

static int64_t query_pos(const reattn_run *run, int64_t t)
{
    return (run->q_pos + t * run->q_step) / (run->q_div ? run->q_div : 1);
}

/* Adds the probabilities that a query gave the keys of one run. */
static void add_mass(const attend_in *in, int64_t row, const double *score, double max, double total)
{
    const int64_t count = in->runs[in->mass_run].count;
    double *mass = in->mass + row % in->H * count;
    for (int64_t r = 0; r < in->mass_run; r++)
        score += in->runs[r].count;
    for (int64_t c = 0; c < count; c++)
        if (score[c] != -INFINITY)
            mass[c] += exp(score[c] - max) / total;
}

/* All queries of the heads that read KV head hk. rot [keys of all runs][D], score [keys], qr [D]: scratch. */
static void attend_kv_head(const attend_in *in, int hk, double *rot, double *score, double *qr, double *out,
                           double *lse)
{
    const int H = in->H, Hk = in->Hk, D = in->D, Dv = in->Dv;
    int64_t i = 0;
    for (int64_t r = 0; r < in->n_run; r++) {
        const reattn_run *run = &in->runs[r];
        for (int64_t c = 0; c < run->count; c++, i++)
            reattn__ref_rope(in->rope, in->k + ((run->first + c) * Hk + hk) * D, D, key_pos(run, c), rot + i * D);
    }

    for (int64_t row = 0; row < in->T * H; row++) {
        const int64_t t = row / H;
        if ((int)(row % H) / (H / Hk) != hk)
            continue;
        double max = -INFINITY;
        i = 0;
        for (int64_t r = 0; r < in->n_run; r++) {
            const reattn_run *run = &in->runs[r];
            const bool here = t >= run->t_min && (run->t_end == 0 || t < run->t_end);
            if (here)
                reattn__ref_rope(in->rope, in->q + row * D, D, query_pos(run, t), qr);
            for (int64_t c = 0; c < run->count; c++, i++) {
                const int64_t dist = (in->q_first + t) - (run->first + c);
                score[i] = -INFINITY;
                if (!here || dist < run->dist_min || dist > run->dist_max)
                    continue;
                double sum = 0.0;
                for (int d = 0; d < D; d++)
                    sum += qr[d] * rot[i * D + d];
                score[i] = sum * (double)in->scale;
                max = score[i] > max ? score[i] : max;
            }
        }

        double *o = out + row * Dv, total = 0.0;
        memset(o, 0, (size_t)Dv * sizeof *o);
        i = 0;
        for (int64_t r = 0; r < in->n_run; r++)
            for (int64_t c = 0; c < in->runs[r].count; c++, i++) {
                if (score[i] == -INFINITY)
                    continue;
                const double w = exp(score[i] - max);
                const float *v = in->v + ((in->runs[r].first + c) * Hk + hk) * Dv;
                total += w;
                for (int d = 0; d < Dv; d++)
                    o[d] += w * (double)v[d];
            }
        for (int d = 0; d < Dv && total > 0.0; d++)
            o[d] /= total;
        if (lse)
            lse[row] = total > 0.0 ? max + log(total) : -INFINITY;
        if (in->mass)
            add_mass(in, row, score, max, total);
    }
}

/* KV heads [from, to) over one list of runs. */
static int attend_heads(const attend_in *in, int from, int to, double *out, double *lse)
{
    int64_t keys = 0;
    for (int64_t r = 0; r < in->n_run; r++)
        keys += in->runs[r].count;
    double *rot = malloc((size_t)(keys * in->D + keys + in->D) * sizeof *rot);
    if (!rot)
        return REATTN_E_NOMEM;
    double *score = rot + keys * in->D;
    for (int hk = from; hk < to; hk++)
        attend_kv_head(in, hk, rot, score, score + keys, out, lse);
    free(rot);
    return REATTN_OK;
}

int reattn__ref_attend(const float *q, const float *k, const float *v, int64_t T, int64_t q_first, int64_t n, int H,
                       int Hk, int D, int Dv, float scale, const reattn_rope *rope, const reattn_run *runs,
                       int64_t n_run, double *out, double *lse)
{
    (void)n; /* the runs are trusted to stay below it */
    const attend_in in = {q, k, v, T, q_first, n_run, H, Hk, D, Dv, scale, rope, runs, 0, NULL};
    return attend_heads(&in, 0, Hk, out, lse);
}

int reattn__ref_mass(const float *q, const float *k, int64_t T, int64_t q_first, int H, int Hk, int D, float scale,
                     const reattn_rope *rope, const reattn_run *runs, int64_t n_run, int64_t run, double *mass)
{
    /* No values: heads of none. */
    const attend_in in = {q, k, k, T, q_first, n_run, H, Hk, D, 0, scale, rope, runs, run, mass};
    double none;
    for (int64_t i = 0; i < H * runs[run].count; i++)
        mass[i] = 0.0;
    return attend_heads(&in, 0, Hk, &none, NULL);
}

/* ------------------------------------------------------------------------------------------------ step ------- */

/* Adds tokens [first, first + count) to the scope. */
static void add_run(reattn__ref_set *set, int64_t first, int64_t count, int64_t *scope)
{
    if (count > 0)
        set->runs[set->n_run++] = (reattn_run){.first = first,
                                               .count = count,
                                               .k_pos = *scope,
                                               .k_step = 1,
                                               .q_step = 1,
                                               .dist_min = 0,
                                               .dist_max = INT64_MAX};
    *scope += count > 0 ? count : 0;
}

/* Hits of all voting queries [n_query][heads][top_k], positions in the whole history. Returns heads. */
static int find_hits(const reattn__ref_rule *rule, const reattn__ref_layer *l, reattn_hit *hits)
{
    const int64_t M = l->n - rule->local - rule->keep, last = l->n - l->n_query;
    const float *k = l->k + rule->keep * l->Hk * l->D, *v = l->v + rule->keep * l->Hk * l->Dv;
    int heads = l->Hk;
    if (rule->type == REATTN_RECALL_K) {
        reattn__ref_topk(l->k + last * l->Hk * l->D, k, l->n_query, M, heads, l->Hk, l->D, rule->top_k, hits);
    } else if (rule->type == REATTN_RECALL_V) {
        reattn__ref_topk(l->v + last * l->Hk * l->Dv, v, l->n_query, M, heads, l->Hk, l->Dv, rule->top_k, hits);
    } else {
        heads = l->H;
        reattn__ref_topk_typed(rule->type, l->q, k, v, l->n_query, M, heads, l->Hk, l->D, l->Dv, rule->top_k, hits);
    }
    for (int64_t i = 0; i < l->n_query * heads * rule->top_k; i++)
        if (hits[i].pos >= 0)
            hits[i].pos += rule->keep;
    return heads;
}

/* Votes and spans of the hits of heads [from, to) of `heads`. */
static int choose(const reattn__ref_rule *rule, const reattn__ref_layer *l, const reattn_hit *hits, int heads, int from,
                  int to, reattn__ref_set *set)
{
    const int64_t row = (int64_t)(to - from) * rule->top_k;
    reattn_hit *own = malloc((size_t)(l->n_query * row) * sizeof *own);
    if (!own)
        return REATTN_E_NOMEM;
    for (int64_t t = 0; t < l->n_query; t++)
        memcpy(own + t * row, hits + (t * heads + from) * rule->top_k, (size_t)row * sizeof *own);
    int rc = reattn__ref_votes(own, l->n_query * (to - from), rule->top_k, rule->vote, l->scale, rule->max, set->kept,
                               &set->n_kept);
    free(own);
    if (rc == REATTN_OK)
        rc = reattn__ref_spans(set->kept, set->n_kept, rule->span, rule->keep, l->n - rule->local, set->spans,
                               &set->n_span);
    return rc;
}

static bool whole(const reattn__ref_rule *rule, const reattn__ref_layer *l)
{
    return l->n <= rule->from || l->n <= rule->keep + rule->local;
}

/* Runs and positions of a set whose spans are known. */
static void lay_out(const reattn__ref_rule *rule, const reattn__ref_layer *l, reattn__ref_set *set)
{
    int64_t scope = 0;
    if (whole(rule, l)) {
        add_run(set, 0, l->n, &scope);
    } else {
        add_run(set, 0, rule->keep, &scope);
        for (int64_t i = 0; i < set->n_span; i++)
            add_run(set, set->spans[i].first, set->spans[i].count, &scope);
        add_run(set, l->n - rule->local, rule->local, &scope);
    }
    const bool original = rule->positions == REATTN_POS_ORIGINAL;
    for (int64_t i = 0; i < set->n_run; i++) {
        if (original)
            set->runs[i].k_pos = set->runs[i].first;
        set->runs[i].q_pos = (original ? l->n : scope) - l->T;
    }
}

int reattn__ref_plan_make(const reattn__ref_rule *rule, const reattn__ref_layer *layer, reattn__ref_plan *plan)
{
    const bool recall = !whole(rule, layer) && rule->max > 0;
    plan->n_set = rule->per_head ? layer->Hk : 1;
    plan->set = calloc((size_t)plan->n_set, sizeof *plan->set);
    reattn_hit *hits = malloc((size_t)(layer->n_query * layer->H * rule->top_k + 1) * sizeof *hits);
    int rc = plan->set && hits ? REATTN_OK : REATTN_E_NOMEM;
    const int heads = rc == REATTN_OK && recall ? find_hits(rule, layer, hits) : 0;

    for (int i = 0; i < plan->n_set && rc == REATTN_OK; i++) {
        reattn__ref_set *set = &plan->set[i];
        set->kept = malloc((size_t)(rule->max + 1) * sizeof *set->kept);
        set->spans = malloc((size_t)(rule->max + 1) * sizeof *set->spans);
        set->runs = malloc((size_t)(rule->max + 2) * sizeof *set->runs);
        if (!set->kept || !set->spans || !set->runs)
            rc = REATTN_E_NOMEM;
        else if (recall)
            rc = choose(rule, layer, hits, heads, i * heads / plan->n_set, (i + 1) * heads / plan->n_set, set);
        if (rc == REATTN_OK)
            lay_out(rule, layer, set);
    }
    free(hits);
    if (rc != REATTN_OK)
        reattn__ref_plan_free(plan);
    return rc;
}

void reattn__ref_plan_free(reattn__ref_plan *plan)
{
    for (int i = 0; plan->set && i < plan->n_set; i++) {
        free(plan->set[i].kept);
        free(plan->set[i].spans);
        free(plan->set[i].runs);
    }
    free(plan->set);
    *plan = (reattn__ref_plan){0};
}

int reattn__ref_step(const reattn__ref_rule *rule, const reattn__ref_layer *layer, const reattn_rope *rope, double *out)
{
    reattn__ref_plan plan;
    int rc = reattn__ref_plan_make(rule, layer, &plan);
    if (rc != REATTN_OK)
        return rc;
    const float *q = layer->q + (layer->n_query - layer->T) * layer->H * layer->D;
    for (int i = 0; i < plan.n_set && rc == REATTN_OK; i++) {
        const attend_in in = {
            q,        layer->k,  layer->v,     layer->T, layer->n - layer->T, plan.set[i].n_run, layer->H, layer->Hk,
            layer->D, layer->Dv, layer->scale, rope,     plan.set[i].runs,      0,        NULL};
        const int per = layer->Hk / plan.n_set;
        rc = attend_heads(&in, i * per, (i + 1) * per, out, NULL);
    }
    reattn__ref_plan_free(&plan);
    return rc;
}

/* ------------------------------------------------------------------------------------------------ held ------- */

int reattn__ref_held(const float *q, const float *k, int64_t n, int H, int Hk, int D, float scale,
                     const reattn_rope *rope, const int *scope, double *share)
{
    double *score = malloc((size_t)(n + 2 * D) * sizeof *score);
    if (!score)
        return REATTN_E_NOMEM;
    double *qr = score + n, *kr = qr + D;
    for (int h = 0; h < H; h++) {
        double max = -INFINITY, all = 0.0, inside = 0.0;
        for (int64_t j = 0; j < n; j++) {
            const float *qh = q + (int64_t)h * D, *kj = k + (j * Hk + h / (H / Hk)) * D;
            for (int d = 0; d < D; d++) {
                qr[d] = qh[d];
                kr[d] = kj[d];
            }
            if (rope) {
                reattn__ref_rope(rope, qh, D, n - 1, qr);
                reattn__ref_rope(rope, kj, D, j, kr);
            }
            score[j] = 0.0;
            for (int d = 0; d < D; d++)
                score[j] += qr[d] * kr[d];
            score[j] *= (double)scale;
            max = score[j] > max ? score[j] : max;
        }
        for (int64_t j = 0; j < n; j++) {
            const double w = exp(score[j] - max);
            all += w;
            inside += scope[j] ? w : 0.0;
        }
        share[h] = inside / all;
    }
    free(score);
    return REATTN_OK;
}
