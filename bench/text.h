/* text.h - the keys, values and queries that a model has for a text. */
#ifndef BENCH_TEXT_H
#define BENCH_TEXT_H

#include "bench.h"
#include "kv/store.h"
#include "model/bridge.h"

typedef struct bench_text bench_text;

/* Runs the model over the text. */
int bench_text_open(const bench_request *request, bench_text **out, reattn_error *err);
/* Accepts NULL. */
void bench_text_close(bench_text *text);
int bench_text_layers(const bench_text *text);
/* All layers, all tokens, in f32. */
const reattn__store *bench_text_store(const bench_text *text);
/* As bench_data_queries. Errors: E_ARG (the text is too short). */
int bench_text_queries(const bench_text *text, int layer, int64_t T, bool before, float *q, reattn_error *err);

#endif
