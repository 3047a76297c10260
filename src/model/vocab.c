/* vocab.c - see vocab.h. */
#include "vocab.h"

#include <gguf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

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

/* -1 unless there is an array of texts under this key. */
static int64_t find_texts(const struct gguf_context *g, const char *key)
{
    const int64_t id = gguf_find_key(g, key);
    return id >= 0 && gguf_get_kv_type(g, id) == GGUF_TYPE_ARRAY && gguf_get_arr_type(g, id) == GGUF_TYPE_STRING ? id
                                                                                                                 : -1;
}

/* SentencePiece spells what it has no word for byte by byte. */
static bool spells_bytes(const struct gguf_context *g)
{
    const int64_t id = gguf_find_key(g, "tokenizer.ggml.model");
    return id >= 0 && gguf_get_kv_type(g, id) == GGUF_TYPE_STRING && strcmp(gguf_get_val_str(g, id), "llama") == 0;
}

static int check_words(const struct gguf_context *g, const word *words, int64_t n, const char *path, reattn_error *err)
{
    for (int64_t i = 1; i < n; i++)
        /* Tokens without text are given names of their own. */
        if (words[i].text[0] && strcmp(words[i - 1].text, words[i].text) == 0)
            return reattn__fail(err, REATTN_E_FORMAT, "%s is damaged: its tokens %lld and %lld have the same text",
                                path, (long long)words[i - 1].token, (long long)words[i].token);
    for (int byte = 0; byte < 256 && spells_bytes(g); byte++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", byte);
        if (!has(words, n, name) && !has(words, n, (const char[]){(char)byte, 0}))
            return reattn__fail(err, REATTN_E_FORMAT, "%s is damaged: it has no token for the byte 0x%02x", path, byte);
    }
    return REATTN_OK;
}

int reattn__vocab_check(const char *path, reattn_error *err)
{
    struct gguf_context *g = gguf_init_from_file(path, (struct gguf_init_params){.no_alloc = true});
    if (!g)
        return reattn__fail(err, REATTN_E_FORMAT, "%s is damaged or cut short: its metadata cannot be read. %s", path,
                            reattn__llama_complaint());
    const int64_t id = find_texts(g, "tokenizer.ggml.tokens"), n = id < 0 ? 0 : (int64_t)gguf_get_arr_n(g, id);
    word *words = malloc((size_t)REATTN__MAX(n, (int64_t)1) * sizeof *words);
    int code = words ? REATTN_OK : reattn__fail(err, REATTN_E_NOMEM, "out of memory for %lld tokens", (long long)n);
    if (code == REATTN_OK && n > 0) {
        for (int64_t i = 0; i < n; i++)
            words[i] = (word){gguf_get_arr_str(g, id, (size_t)i), i};
        qsort(words, (size_t)n, sizeof *words, by_text);
        code = check_words(g, words, n, path, err);
    }
    free(words);
    gguf_free(g);
    return code;
}
