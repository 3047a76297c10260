/* small_model.h - what the tests on SmolLM2-135M share: the model, essays as its tokens, and a small scope. */
#ifndef SMALL_MODEL_H
#define SMALL_MODEL_H

#include "reattn/reattn.h"
#include "test_util.h"

/* The beginnings of these essays, at most so many bytes of each, one after the other; the caller frees them. */
static inline char *small_essays(const char *const *names, int n, size_t most, size_t *len)
{
    char *all = calloc((size_t)n * most + 1, 1);
    assert_non_null(all);
    *len = 0;
    for (int i = 0; i < n; i++) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", getenv("REATTN_ESSAYS"), names[i]);
        FILE *f = fopen(path, "rb");
        if (!f)
            fail_msg("cannot open %s", path);
        *len += fread(all + *len, 1, most, f);
        fclose(f);
    }
    return all;
}

typedef struct small_model {
    reattn_model *model;
    int n_vocab;
    int32_t *text; /* [n_text] tokens of essays */
    int64_t n_text;
} small_model;

static inline small_model small_open(const char *const *names, int n)
{
    reattn_error err = {0};
    reattn_model_info info;
    small_model m = {0};
    size_t len;
    if (reattn_model_load(getenv("REATTN_TEST_MODEL"), NULL, &m.model, &err))
        fail_msg("%s", err.msg);
    reattn_model_get_info(m.model, &info);
    m.n_vocab = info.n_vocab;
    char *essays = small_essays(names, n, 60000, &len);
    m.text = calloc(len, sizeof *m.text);
    assert_non_null(m.text);
    m.n_text = reattn_tokenize(m.model, essays, len, true, false, m.text, (int64_t)len, &err);
    free(essays);
    return m;
}

static inline void small_close(small_model *m)
{
    free(m->text);
    reattn_model_free(m->model);
    *m = (small_model){0};
}

/* A small scope, so that a text of some hundred tokens is long. */
static inline reattn_session_params small_scope(int n_threads)
{
    reattn_session_params p = reattn_session_params_default();
    p.keep = 8;
    p.local = 96;
    p.chunk = 64;
    p.tail = 16;
    p.recall_span = 8;
    p.recall_max = 10;
    p.n_threads = n_threads;
    return p;
}

static inline int32_t small_likeliest(const float *logits, int n_vocab)
{
    int32_t best = 0;
    for (int32_t t = 1; t < n_vocab; t++)
        best = logits[t] > logits[best] ? t : best;
    return best;
}

#endif
