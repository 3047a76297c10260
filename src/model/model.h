/* model.h - the model's insides, for src/model only. */
#ifndef REATTN_MODEL_H
#define REATTN_MODEL_H

#include <llama.h>

#include "bridge.h"

struct reattn_model {
    struct llama_model *llama;
    const struct llama_vocab *vocab;
    char *path;
    char desc[128], arch[64];
    uint64_t file_bytes;
    int n_layer;
    reattn__layer *layers; /* [n_layer]; NULL when native only */
    float (*factors)[256]; /* [n_layer] frequency factors that the layers' rope may point to */
    int *places;           /* [n_layer] where a layer's tensors lie: reattn__model_places */
    enum llama_flash_attn_type flash; /* of the contexts in which attention is replaced */
};

/* A reattn_flash, as libllama has it. */
enum llama_flash_attn_type reattn__llama_flash(int flash);

/* Starts libllama once, with its log going to ours. */
void reattn__llama_start(void);
/* The last error line that libllama logged on this thread since the last call, without its newline; "" if none. */
const char *reattn__llama_complaint(void);

/* Runs one small decode and fills in model->layers; refuses what cannot be replaced exactly. */
int reattn__model_probe(reattn_model *model, int n_threads, reattn_error *err);

#endif
