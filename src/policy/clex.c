/* clex.c - CLEX (2310.16450): frequencies are a learned function of t = length / trained length, rounded up. Needs the
 * numbers that continued training gave (docs/methods/clex.md): clex.up, clex.down in a GGUF file. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "clex_ode.h"
#include "model/side.h"
#include "ropes.h"

enum { MAX_T_DEFAULT = 16, MAX_T = 1024 };

typedef struct clex {
    reattn__ropes ropes;
    int max_t, pairs;
    bool log_scale;
    float *factors; /* [ropes.n][max_t][pairs] divisors of the model's own frequencies */
} clex;

static void destroy(void *state)
{
    clex *c = state;
    if (!c) return;
    reattn__ropes_free(&c->ropes);
    free(c->factors);
    free(c);
}

static int read_net(const reattn__side *side, const char *path, clex *c, reattn__clex_net *net, reattn_error *err)
{
    int64_t n_up = 0, n_down = 0, pairs = c->pairs, max_t = reattn__side_int(side, "clex.max_t", MAX_T_DEFAULT);
    const char *act = reattn__side_text(side, "clex.act");
    *net = (reattn__clex_net){.up = reattn__side_floats(side, "clex.up", &n_up),
                              .down = reattn__side_floats(side, "clex.down", &n_down), .pairs = c->pairs,
                              .silu = act && act[0] == 's'};
    if (!net->up || !net->down)
        return reattn__fail(
            err, REATTN_E_ARG,
            "%s has no clex.up and clex.down: clex needs what was trained, --clex FILE (without it, clex "
            "would be a --policy ntk)",
            path);
    net->hidden = (int)(n_up / pairs);
    if (n_up != n_down || n_up < pairs || n_up % pairs || n_up > (int64_t)1 << 24 ||
        !reattn__all_finite(net->up, n_up) || !reattn__all_finite(net->down, n_down))
        return reattn__fail(err, REATTN_E_FORMAT,
                            "%s: clex.up has %lld numbers and clex.down %lld: expected the same, finite, a multiple of "
                            "the %d pairs that the model rotates", path, (long long)n_up, (long long)n_down, c->pairs);
    if (act && strcmp(act, "silu") != 0 && strcmp(act, "tanh") != 0)
        return reattn__fail(err, REATTN_E_FORMAT, "%s: clex.act is %s: must be tanh or silu", path, act);
    if (max_t < 1 || max_t > MAX_T)
        return reattn__fail(err, REATTN_E_FORMAT, "%s: clex.max_t %lld must be 1 .. %d", path, (long long)max_t, MAX_T);
    c->max_t = (int)max_t;
    c->log_scale = reattn__side_int(side, "clex.log_scale", 1) != 0;
    return REATTN_OK;
}

/* Solves for every way in which layers rotate. */
static int solve(clex *c, const reattn__clex_net *net, reattn_error *err)
{
    int64_t n = (int64_t)c->max_t * c->pairs;
    double *z = malloc((size_t)n * sizeof *z);
    c->factors = malloc((size_t)(c->ropes.n * n) * sizeof *c->factors);
    int code = z && c->factors ? REATTN_OK : reattn__fail(err, REATTN_E_NOMEM, "out of memory for frequencies");
    for (int i = 0; i < c->ropes.n && code == REATTN_OK; i++) {
        const reattn_rope *own = &c->ropes.own[i];
        code = reattn__clex_solve(net, (double)own->freq_base, c->max_t, z, err);
        for (int64_t j = 0; j < n && code == REATTN_OK; j++) {
            int pair = (int)(j % c->pairs);
            double factor = own->freq_factors ? (double)own->freq_factors[pair] : 1;
            c->factors[i * n + j] = (float)(factor * exp(z[pair] - z[j])); /* plain / new */
        }
        if (code == REATTN_OK && !reattn__all_finite(c->factors + i * n, n))
            code = reattn__fail(err, REATTN_E_FORMAT,
                                "these clex.up and clex.down give frequencies that are not finite");
    }
    free(z);
    return code;
}

static int create(const reattn_session_params *params, const reattn__layer *layers, int n_layer, void **state,
                  reattn_error *err)
{
    reattn__side *side = NULL;
    reattn__clex_net net;
    int n_rot = layers[0].rope.n_rot;
    for (int l = 0; l < n_layer; l++)
        if (layers[l].rope.n_rot != n_rot || n_rot < 4)
            return reattn__fail(err, REATTN_E_UNSUPPORTED,
                                "layer %d rotates %d dimensions, layer 0 %d: clex has one net for all, of 4 or more", l,
                                layers[l].rope.n_rot, n_rot);
    clex *c = calloc(1, sizeof *c);
    if (!c) return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    c->pairs = n_rot / 2;
    int code = reattn__ropes_create(&c->ropes, layers, n_layer, err);
    if (code == REATTN_OK) code = reattn__side_open(params->clex, &side, err);
    if (code == REATTN_OK) code = read_net(side, params->clex, c, &net, err);
    if (code == REATTN_OK) code = solve(c, &net, err);
    reattn__side_close(side);
    if (code != REATTN_OK) destroy(c);
    else *state = c;
    return code;
}

static int plan_clex(void *state, const reattn__step *s, reattn__plan *plan, reattn_error *err)
{
    clex *c = state;
    reattn_rope rope = *reattn__ropes_own(&c->ropes, s->layer);
    int64_t t = REATTN__MIN(reattn__ropes_times(s->n, s->params->ctx_train), c->max_t);
    if (t > 1) rope.freq_factors = c->factors + ((int64_t)c->ropes.of[s->layer] * c->max_t + t - 1) * c->pairs;
    int code = reattn__ropes_plan(plan, s, reattn__ropes_use(&c->ropes, s->layer, &rope), err);
    if (code != REATTN_OK || s->n <= s->params->ctx_train || !c->log_scale) return code;
    code = reattn__plan_scales(plan, s->T, err);
    for (int64_t i = 0; code == REATTN_OK && i < s->T; i++)
        plan->q_scale[i] = (float)(log((double)s->n) / log((double)s->params->ctx_train));
    return code;
}

const reattn__policy reattn__policy_clex = {
    .info = {"clex", "every token; frequencies are a learned function of the length: needs --clex FILE",
             "keeps everything; a step costs O(n)", "CLEX, 2310.16450"},
    .options = "clex",
    .planner = REATTN__PLANS_FROM_LENGTHS,
    .reads_file = true,
    .create = create,
    .destroy = destroy,
    .bytes_for = reattn__ropes_bytes_for,
    .plan = plan_clex,
};
