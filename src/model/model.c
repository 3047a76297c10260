/* model.c - loading a GGUF file. */
#include "model.h"
#include "metadata.h"

#include <ggml-backend.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* libllama reports errors in its log only; the last one of this thread makes the error message. */
static _Thread_local char complaint[256];

static void on_llama_log(enum ggml_log_level level, const char *text, void *user)
{
    static const int map[] = {REATTN_LOG_DEBUG, REATTN_LOG_DEBUG, REATTN_LOG_INFO, REATTN_LOG_WARN, REATTN_LOG_ERROR};
    (void)user;
    if (level == GGML_LOG_LEVEL_ERROR && strlen(text) > 1) snprintf(complaint, sizeof complaint, "%s", text);
    /* libllama's errors become ours, with what to do; as log lines they are detail. */
    int as = (int)level < 5 ? map[level] : REATTN_LOG_DEBUG;
    reattn__log(as == REATTN_LOG_ERROR || as == REATTN_LOG_WARN ? REATTN_LOG_INFO : REATTN_LOG_DEBUG, "%s", text);
}

const char *reattn__llama_complaint(void)
{
    static _Thread_local char copy[sizeof complaint];
    memcpy(copy, complaint, sizeof copy);
    copy[strcspn(copy, "\n")] = 0;
    complaint[0] = 0;
    return copy;
}

static void start(void)
{
    llama_log_set(on_llama_log, NULL);
    ggml_backend_load_all();
    llama_backend_init();
}

void reattn__llama_start(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start);
}

reattn_model_params reattn_model_params_default(void)
{
    return (reattn_model_params){.size = sizeof(reattn_model_params)};
}

/* Tells the common mistakes apart before libllama is asked. */
static int check_file(const char *path, uint64_t *bytes, reattn_error *err)
{
    struct stat st;
    char magic[4] = {0};
    FILE *f = fopen(path, "rb");
    if (!f) return reattn__fail(err, REATTN_E_IO, "cannot open the model %s: check the path", path);
    size_t got = fread(magic, 1, sizeof magic, f);
    fclose(f);
    if (stat(path, &st) != 0 || S_ISDIR(st.st_mode))
        return reattn__fail(err, REATTN_E_IO, "the model %s is not a file", path);
    if (got != sizeof magic || memcmp(magic, "GGUF", 4) != 0)
        return reattn__fail(err, REATTN_E_FORMAT, "%s is not a GGUF file", path);
    *bytes = (uint64_t)st.st_size;
    return REATTN_OK;
}

static int load(const char *path, const reattn_model_params *params, reattn_model **out, reattn_error *err)
{
    uint64_t bytes = 0;
    reattn_model_params p = params ? *params : reattn_model_params_default();
    if (!path || !out) return reattn__fail(err, REATTN_E_ARG, "reattn_model_load: path and out must not be NULL");
    if (p.size != sizeof p)
        return reattn__fail(err, REATTN_E_ARG, "reattn_model_params.size is %zu, not %zu", p.size, sizeof p);
    int code = check_file(path, &bytes, err);
    reattn__llama_start();
    reattn__llama_complaint();
    if (code == REATTN_OK) code = reattn__metadata_check(path, err);
    if (code != REATTN_OK) return code;
    reattn_model *m = calloc(1, sizeof *m);
    if (m) m->path = strdup(path);
    if (!m || !m->path) {
        free(m);
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    }
    struct llama_model_params lp = llama_model_default_params();
    lp.n_gpu_layers = p.n_gpu_layers;
    if (p.n_gpu_layers > 0 && !llama_supports_gpu_offload())
        reattn__log(REATTN_LOG_WARN,
                    "-ngl: this libllama has no backend for a GPU, or finds none; the model runs on the CPU");
    m->llama = llama_model_load_from_file(path, lp);
    if (!m->llama) {
        free(m->path);
        free(m);
        return reattn__fail(err, REATTN_E_FORMAT,
                            "libllama cannot load %s (%llu bytes): damaged, cut short or too new. %s", path,
                            (unsigned long long)bytes, reattn__llama_complaint());
    }
    m->vocab = llama_model_get_vocab(m->llama);
    m->file_bytes = bytes;
    llama_model_desc(m->llama, m->desc, sizeof m->desc);
    if (llama_model_meta_val_str(m->llama, "general.architecture", m->arch, sizeof m->arch) < 0) m->arch[0] = 0;
    *out = m;
    return REATTN_OK;
}

int reattn_model_load_native(const char *path, const reattn_model_params *params, reattn_model **out, reattn_error *err)
{
    return load(path, params, out, err);
}

enum llama_flash_attn_type reattn__llama_flash(int flash)
{
    return flash == REATTN_FLASH_ON    ? LLAMA_FLASH_ATTN_TYPE_ENABLED
           : flash == REATTN_FLASH_OFF ? LLAMA_FLASH_ATTN_TYPE_DISABLED
                                       : LLAMA_FLASH_ATTN_TYPE_AUTO;
}

int reattn_model_load(const char *path, const reattn_model_params *params, reattn_model **out, reattn_error *err)
{
    return reattn__model_load(path, params, REATTN_FLASH_AUTO, out, err);
}

int reattn__model_load(const char *path, const reattn_model_params *params, int flash, reattn_model **out,
                       reattn_error *err)
{
    reattn_model *m = NULL;
    int code = load(path, params, &m, err);
    if (code != REATTN_OK) return code;
    m->flash = reattn__llama_flash(flash);
    code = reattn__model_probe(m, params && params->n_threads ? params->n_threads : reattn__cores(), err);
    if (code != REATTN_OK) {
        reattn_model_free(m);
        return code;
    }
    *out = m;
    return REATTN_OK;
}

void reattn_model_free(reattn_model *m)
{
    if (!m) return;
    llama_model_free(m->llama);
    free(m->layers);
    free(m->factors);
    free(m->places);
    free(m->path);
    free(m);
}

const int *reattn__model_places(const reattn_model *m)
{
    return m->places;
}

const reattn__layer *reattn__model_layers(const reattn_model *m, int *n_layer)
{
    *n_layer = m->layers ? m->n_layer : llama_model_n_layer(m->llama);
    return m->layers;
}

void reattn_model_get_info(const reattn_model *m, reattn_model_info *info)
{
    int n_head = llama_model_n_head(m->llama), n_embd = llama_model_n_embd(m->llama);
    *info = (reattn_model_info){
        .path = m->path,
        .desc = m->desc,
        .arch = m->arch,
        .chat_template = llama_model_chat_template(m->llama, NULL),
        .n_layer = llama_model_n_layer(m->llama),
        .n_head = n_head,
        .n_head_kv = llama_model_n_head_kv(m->llama),
        .head_dim_k = n_head ? n_embd / n_head : 0,
        .head_dim_v = n_head ? n_embd / n_head : 0,
        .n_ctx_train = llama_model_n_ctx_train(m->llama),
        .n_vocab = llama_vocab_n_tokens(m->vocab),
        .n_embd = n_embd,
        .n_params = llama_model_n_params(m->llama),
        .file_bytes = m->file_bytes,
    };
    if (!m->layers) return;
    info->n_head = m->layers[0].H;
    info->n_head_kv = m->layers[0].Hk;
    info->head_dim_k = m->layers[0].D;
    info->head_dim_v = m->layers[0].Dv;
    info->rope = m->layers[0].rope;
    info->kq_scale = m->layers[0].kq_scale;
    /* Models with short and long frequency factors (Phi-3) get the short ones from libllama in a context as small as
     * ours, and those hold up to the original length only. */
    if (info->rope.freq_factors && info->rope.n_ctx_orig > 0 && info->rope.n_ctx_orig < info->n_ctx_train)
        info->n_ctx_train = info->rope.n_ctx_orig;
}
