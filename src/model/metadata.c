/* metadata.c - see metadata.h. Only what is asserted is looked at: a wrong type, a missing key or tensor are errors of
 * libllama's own. */
#include "metadata.h"

#include <gguf.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

enum { MAX_LAYERS = 512, MAX_EXPERTS = 1024 }; /* libllama's */

typedef struct metadata {
    const char *path, *arch;
    const struct gguf_context *g;
} metadata;

__attribute__((format(printf, 3, 4))) static int damaged(const metadata *m, reattn_error *err, const char *format, ...)
{
    char what[200];
    va_list list;
    va_start(list, format);
    vsnprintf(what, sizeof what, format, list);
    va_end(list);
    return reattn__fail(err, REATTN_E_FORMAT, "%s is damaged: %s", m->path, what);
}

/* ----------------------------------------------------------------------------------------------- shape ------- */

/* -1 if the architecture has no such key. */
static int64_t find(const metadata *m, const char *name)
{
    char key[256];
    snprintf(key, sizeof key, "%s.%s", m->arch, name);
    return gguf_find_key(m->g, key);
}

/* The number under a key, the largest of an array; 0 if there is none. */
static uint32_t number(const metadata *m, const char *name)
{
    const int64_t id = find(m, name);
    const enum gguf_type type = id < 0 ? GGUF_TYPE_COUNT : gguf_get_kv_type(m->g, id);
    uint32_t most = type == GGUF_TYPE_UINT32 ? gguf_get_val_u32(m->g, id) : 0;
    if (type == GGUF_TYPE_ARRAY &&
        (gguf_get_arr_type(m->g, id) == GGUF_TYPE_UINT32 || gguf_get_arr_type(m->g, id) == GGUF_TYPE_INT32)) {
        const uint32_t *x = gguf_get_arr_data(m->g, id);
        for (size_t i = 0; i < gguf_get_arr_n(m->g, id); i++)
            most = REATTN__MAX(most, x[i]);
    }
    return most;
}

/* Heads of keys, of values and what is rotated of them, in the architectures whose graph has them alike. */
static int check_heads(const metadata *m, reattn_error *err)
{
    static const struct {
        const char *arch;
        bool rotated; /* whole heads are */
    } alike[] = {{"llama", true}, {"mistral3", true},  {"qwen2", true},
                 {"qwen3", true}, {"internlm2", true}, {"phi3", false}};
    const uint32_t heads = number(m, "attention.head_count"), own = heads ? number(m, "embedding_length") / heads : 0;
    const uint32_t keys = find(m, "attention.key_length") < 0 ? own : number(m, "attention.key_length"),
                   values = find(m, "attention.value_length") < 0 ? own : number(m, "attention.value_length"),
                   rotated = find(m, "rope.dimension_count") < 0 ? keys : number(m, "rope.dimension_count");
    for (size_t i = 0; i < sizeof alike / sizeof *alike; i++)
        if (strcmp(m->arch, alike[i].arch) == 0 && (keys != values || (alike[i].rotated && rotated != keys)))
            return damaged(m, err, "heads have %u values in keys, %u in values, and %u are rotated", keys, values,
                           rotated);
    return REATTN_OK;
}

static int check_experts(const metadata *m, reattn_error *err)
{
    const uint32_t n = number(m, "expert_count"), used = number(m, "expert_used_count"),
                   groups = number(m, "expert_group_count"), used_groups = number(m, "expert_group_used_count");
    if (n <= 1 && strncmp(m->arch, "hunyuan", 7) == 0) /* whatever else is said of its one */
        return REATTN_OK;
    const bool fine = n == 0 ? used == 0 && groups == 0
                             : n <= MAX_EXPERTS && used > 0 && used <= n && groups < n &&
                                   (groups <= 1 || (n % groups == 0 && used_groups > 0 && used_groups < groups));
    return fine ? REATTN_OK
                : damaged(m, err, "%u experts, %u of them used, in %u groups, %u of them used", n, used, groups,
                          used_groups);
}

static int check_shape(const metadata *m, reattn_error *err)
{
    static const char *const scalings[] = {"none", "linear", "yarn", "longrope"};
    const uint32_t layers = number(m, "block_count"), more = number(m, "nextn_predict_layers");
    if (find(m, "block_count") >= 0 && (layers < 1 || layers > MAX_LAYERS || more > layers))
        return damaged(m, err, "it has %u layers", layers);
    const int64_t id = find(m, "rope.scaling.type");
    const char *scaling =
        id >= 0 && gguf_get_kv_type(m->g, id) == GGUF_TYPE_STRING ? gguf_get_val_str(m->g, id) : "none";
    bool known = false;
    for (size_t i = 0; i < sizeof scalings / sizeof *scalings; i++)
        known = known || strcmp(scaling, scalings[i]) == 0;
    if (!known)
        return damaged(m, err, "its positions are scaled in an unknown way");
    const int code = check_heads(m, err);
    return code == REATTN_OK ? check_experts(m, err) : code;
}

/* ------------------------------------------------------------------------------------------------ words ------ */

typedef struct word {
    const char *text;
    int64_t token;
} word;

static int by_text(const void *a, const void *b)
{
    const word *x = a, *y = b;
    const int order = strcmp(x->text, y->text);
    return order ? order : (x->token > y->token) - (x->token < y->token);
}

static bool has(const word *words, int64_t n, const char *text)
{
    int64_t lo = 0;
    for (int64_t hi = n; lo < hi;) {
        const int64_t mid = lo + (hi - lo) / 2;
        if (strcmp(words[mid].text, text) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < n && strcmp(words[lo].text, text) == 0;
}

/* SentencePiece spells what it has no word for byte by byte. */
static bool spells_bytes(const metadata *m)
{
    const int64_t id = gguf_find_key(m->g, "tokenizer.ggml.model");
    return id >= 0 && gguf_get_kv_type(m->g, id) == GGUF_TYPE_STRING &&
           strcmp(gguf_get_val_str(m->g, id), "llama") == 0;
}

/* words are sorted by text. */
static int check_words(const metadata *m, const word *words, int64_t n, reattn_error *err)
{
    for (int64_t i = 1; i < n; i++)
        /* Tokens without text are given names of their own. */
        if (words[i].text[0] && strcmp(words[i - 1].text, words[i].text) == 0)
            return damaged(m, err, "its tokens %lld and %lld have the same text", (long long)words[i - 1].token,
                           (long long)words[i].token);
    for (int byte = 0; byte < 256 && spells_bytes(m); byte++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", byte);
        if (!has(words, n, name) && !has(words, n, (const char[]){(char)byte, 0}))
            return reattn__fail(
                err, REATTN_E_UNSUPPORTED,
                "%s has no token for the byte 0x%02x: it is damaged, or its vocabulary cannot spell every "
                "text, on which libllama would end the process",
                m->path, byte);
    }
    return REATTN_OK;
}

static int check_vocabulary(const metadata *m, reattn_error *err)
{
    const int64_t id = gguf_find_key(m->g, "tokenizer.ggml.tokens");
    if (id < 0 || gguf_get_kv_type(m->g, id) != GGUF_TYPE_ARRAY || gguf_get_arr_type(m->g, id) != GGUF_TYPE_STRING)
        return REATTN_OK;
    const int64_t n = (int64_t)gguf_get_arr_n(m->g, id);
    word *words = malloc((size_t)REATTN__MAX(n, (int64_t)1) * sizeof *words);
    if (!words)
        return reattn__fail(err, REATTN_E_NOMEM, "out of memory for %lld tokens", (long long)n);
    for (int64_t i = 0; i < n; i++)
        words[i] = (word){gguf_get_arr_str(m->g, id, (size_t)i), i};
    qsort(words, (size_t)n, sizeof *words, by_text);
    const int code = check_words(m, words, n, err);
    free(words);
    return code;
}

int reattn__metadata_check(const char *path, reattn_error *err)
{
    struct gguf_context *g = gguf_init_from_file(path, (struct gguf_init_params){.no_alloc = true});
    if (!g)
        return reattn__fail(err, REATTN_E_FORMAT, "%s is damaged or cut short: its metadata cannot be read. %s", path,
                            reattn__llama_complaint());
    const int64_t id = gguf_find_key(g, "general.architecture");
    const metadata m = {path, id >= 0 && gguf_get_kv_type(g, id) == GGUF_TYPE_STRING ? gguf_get_val_str(g, id) : "", g};
    int code = check_shape(&m, err);
    if (code == REATTN_OK)
        code = check_vocabulary(&m, err);
    gguf_free(g);
    return code;
}
