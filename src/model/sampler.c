/* sampler.c - sampling, through libllama's sampler chain. */
#include <stdlib.h>

#include "model.h"

struct reattn_sampler {
    struct llama_sampler *chain;
    int32_t n_vocab;
    llama_token_data *candidates; /* [n_vocab] */
};

reattn_sampler_params reattn_sampler_params_default(void)
{
    return (reattn_sampler_params){
        .size = sizeof(reattn_sampler_params), .seed = LLAMA_DEFAULT_SEED, .temp = 0.8f, .top_k = 40, .top_p = 0.95f,
        .min_p = 0.05f, .repeat_penalty = 1.0f, .repeat_last_n = 64,
    };
}

int reattn_sampler_create(const reattn_model *m, const reattn_sampler_params *params, reattn_sampler **out,
                          reattn_error *err)
{
    reattn_sampler_params p = params ? *params : reattn_sampler_params_default();
    if (p.size != sizeof p)
        return reattn__fail(err, REATTN_E_ARG, "reattn_sampler_params.size is %zu, not %zu", p.size, sizeof p);
    reattn_sampler *s = calloc(1, sizeof *s);
    if (!s) return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    s->n_vocab = llama_vocab_n_tokens(m->vocab);
    s->candidates = calloc((size_t)s->n_vocab, sizeof *s->candidates);
    s->chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
    if (!s->candidates || !s->chain) {
        reattn_sampler_free(s);
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    }
    if (p.grammar) {
        struct llama_sampler *grammar = llama_sampler_init_grammar(m->vocab, p.grammar, "root");
        if (!grammar) {
            reattn_sampler_free(s);
            return reattn__fail(err, REATTN_E_ARG, "the grammar does not parse: %s", reattn__llama_complaint());
        }
        llama_sampler_chain_add(s->chain, grammar);
    }
    if (p.repeat_penalty != 1.0f)
        llama_sampler_chain_add(s->chain, 
                                llama_sampler_init_penalties(s->n_vocab, p.repeat_last_n, p.repeat_penalty, 0, 0));
    if (p.temp <= 0) {
        llama_sampler_chain_add(s->chain, llama_sampler_init_greedy());
    } else {
        llama_sampler_chain_add(s->chain, llama_sampler_init_top_k(p.top_k));
        llama_sampler_chain_add(s->chain, llama_sampler_init_top_p(p.top_p, 1));
        llama_sampler_chain_add(s->chain, llama_sampler_init_min_p(p.min_p, 1));
        llama_sampler_chain_add(s->chain, llama_sampler_init_temp(p.temp));
        llama_sampler_chain_add(s->chain, llama_sampler_init_dist(p.seed));
    }
    *out = s;
    return REATTN_OK;
}

void reattn_sampler_free(reattn_sampler *s)
{
    if (!s) return;
    if (s->chain) llama_sampler_free(s->chain);
    free(s->candidates);
    free(s);
}

int reattn_sampler_sample(reattn_sampler *s, const reattn_session *session, int32_t *token, reattn_error *err)
{
    const float *logits = reattn_session_logits(session);
    if (!logits) return reattn__fail(err, REATTN_E_ARG, "there are no logits: append a prompt first");
    for (int32_t i = 0; i < s->n_vocab; i++) s->candidates[i] = (llama_token_data){i, logits[i], 0};
    llama_token_data_array array = {s->candidates, (size_t)s->n_vocab, -1, false};
    llama_sampler_apply(s->chain, &array);
    if (array.selected < 0 || array.selected >= (int64_t)array.size)
        return reattn__fail(err, REATTN_E_MODEL, "no token can follow: the grammar allows none");
    *token = array.data[array.selected].id;
    llama_sampler_accept(s->chain, *token);
    return REATTN_OK;
}
