/* quantize.c - a GGUF file with its weights stored in another way, by libllama's own quantiser.
 *
 * It is written under another name beside the new one, checked for its length, and renamed: what has the new name is
 * whole. */
#include <errno.h>
#include <gguf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model.h"

/* Types that need no importance matrix. X(name, libllama's, note) */
#define TYPES(X)                                                                                                       \
    X("F32", LLAMA_FTYPE_ALL_F32, "32 bits a weight: nothing is lost")                                                 \
    X("F16", LLAMA_FTYPE_MOSTLY_F16, "16 bits")                                                                        \
    X("BF16", LLAMA_FTYPE_MOSTLY_BF16, "16 bits, with the range of 32")                                                \
    X("Q8_0", LLAMA_FTYPE_MOSTLY_Q8_0, "8.5 bits: as good as F16")                                                     \
    X("Q6_K", LLAMA_FTYPE_MOSTLY_Q6_K, "6.6 bits")                                                                     \
    X("Q5_K_M", LLAMA_FTYPE_MOSTLY_Q5_K_M, "5.7 bits; also Q5_K")                                                      \
    X("Q5_K_S", LLAMA_FTYPE_MOSTLY_Q5_K_S, "5.5 bits")                                                                 \
    X("Q5_1", LLAMA_FTYPE_MOSTLY_Q5_1, "6 bits; rows need be multiples of 32 only, as for all types without K")        \
    X("Q5_0", LLAMA_FTYPE_MOSTLY_Q5_0, "5.5 bits")                                                                     \
    X("Q4_K_M", LLAMA_FTYPE_MOSTLY_Q4_K_M, "4.9 bits, the usual choice; also Q4_K")                                    \
    X("Q4_K_S", LLAMA_FTYPE_MOSTLY_Q4_K_S, "4.6 bits")                                                                 \
    X("Q4_1", LLAMA_FTYPE_MOSTLY_Q4_1, "5 bits")                                                                       \
    X("Q4_0", LLAMA_FTYPE_MOSTLY_Q4_0, "4.5 bits")                                                                     \
    X("IQ4_NL", LLAMA_FTYPE_MOSTLY_IQ4_NL, "4.5 bits on a curve")                                                      \
    X("IQ4_XS", LLAMA_FTYPE_MOSTLY_IQ4_XS, "4.3 bits on a curve")                                                      \
    X("Q3_K_L", LLAMA_FTYPE_MOSTLY_Q3_K_L, "4.3 bits")                                                                 \
    X("Q3_K_M", LLAMA_FTYPE_MOSTLY_Q3_K_M, "3.9 bits; also Q3_K")                                                      \
    X("Q3_K_S", LLAMA_FTYPE_MOSTLY_Q3_K_S, "3.5 bits")                                                                 \
    X("Q2_K", LLAMA_FTYPE_MOSTLY_Q2_K, "about 3 bits, of which most weights have 2.6: much is lost")

static const reattn_weight_type types[] = {
#define ROW(name, ftype, note) {name, note},
    TYPES(ROW)
#undef ROW
    {0},
};

static const enum llama_ftype ftypes[] = {
#define ROW(name, ftype, note) ftype,
    TYPES(ROW)
#undef ROW
};

const reattn_weight_type *reattn_weight_type_list(void)
{
    return types;
}

reattn_quantize_params reattn_quantize_params_default(void)
{
    return (reattn_quantize_params){.size = sizeof(reattn_quantize_params), .type = "Q4_K_M"};
}

/* By name, upper or lower case; Q4_K stands for Q4_K_M. -1 if there is none. */
static int find_type(const char *name)
{
    size_t n = strlen(name);
    for (int i = 0; types[i].name; i++) {
        const char *t = types[i].name;
        if (strncasecmp(t, name, n) == 0 && (!t[n] || (n > 2 && t[n - 1] == 'K' && strcmp(t + n, "_M") == 0))) return i;
    }
    return -1;
}

static int unknown_type(const char *name, reattn_error *err)
{
    char list[256] = "";
    for (int i = 0; types[i].name; i++)
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", types[i].name);
    return reattn__fail(err, REATTN_E_ARG, "there is no type %.40s; there are %s", name, list);
}

/* What a file holds: the bytes that it must have, its weights, and their bits. */
typedef struct contents {
    uint64_t bytes, weights, weight_bytes;
    const char *quantised; /* the type of a matrix that is quantised, or NULL */
} contents;

static int look(const char *path, contents *c, reattn_error *err)
{
    struct gguf_init_params params = {.no_alloc = true};
    struct stat st;
    reattn__llama_start();
    reattn__llama_complaint();
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
        return reattn__fail(err, REATTN_E_IO, "cannot open the model %s: check the path", path);
    struct gguf_context *g = gguf_init_from_file(path, params);
    if (!g) return reattn__fail(err, REATTN_E_FORMAT, "%s is not a GGUF file, or is damaged", path);
    *c = (contents){0};
    for (int64_t i = 0; i < gguf_get_n_tensors(g); i++) {
        const int64_t *ne = gguf_get_tensor_ne(g, i);
        enum ggml_type type = gguf_get_tensor_type(g, i);
        uint64_t size = gguf_get_tensor_size(g, i);
        c->bytes = REATTN__MAX(c->bytes, gguf_get_data_offset(g) + gguf_get_tensor_offset(g, i) + size);
        c->weights += (uint64_t)(ne[0] * ne[1] * ne[2] * ne[3]);
        c->weight_bytes += size;
        if (ggml_is_quantized(type)) c->quantised = ggml_type_name(type);
    }
    gguf_free(g);
    if ((uint64_t)st.st_size < c->bytes)
        return reattn__fail(err, REATTN_E_FORMAT, "%s is cut short: %llu bytes of %llu", path,
                            (unsigned long long)st.st_size, (unsigned long long)c->bytes);
    return REATTN_OK;
}

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static int write_checked(const char *from, const char *part, const char *to, const reattn_quantize_params *p, int type,
                         contents *after, reattn_error *err)
{
    struct llama_model_quantize_params params = llama_model_quantize_default_params();
    params.ftype = ftypes[type];
    params.nthread = p->n_threads;
    params.allow_requantize = p->allow_requantize;
    reattn__llama_complaint();
    FILE *f = fopen(part, "wb"); /* libllama does not say why it cannot */
    if (!f) return reattn__fail(err, REATTN_E_IO, "%s cannot be written: %s", part, strerror(errno));
    fclose(f);
    if (llama_model_quantize(from, part, &params) != 0) {
        char why[256];
        snprintf(why, sizeof why, "%s", reattn__llama_complaint());
        return reattn__fail(err, REATTN_E_IO,
                            "%s could not be written as %s; nothing is left of it. Is the disk full? %s", to,
                            types[type].name, why);
    }
    int code = look(part, after, err);
    if (code != REATTN_OK)
        return reattn__fail(err, REATTN_E_IO, "%s could not be written whole; nothing is left of it. Is the disk full?",
                            to);
    if (rename(part, to) != 0) return reattn__fail(err, REATTN_E_IO, "%s could not be written: check the path", to);
    return REATTN_OK;
}

int reattn_quantize(const char *from, const char *to, const reattn_quantize_params *params, reattn_quantized *out,
                    reattn_error *err)
{
    reattn_quantize_params p = params ? *params : reattn_quantize_params_default();
    contents before, after = {0};
    if (!from || !to || !p.type)
        return reattn__fail(err, REATTN_E_ARG, "reattn_quantize: from, to and type must not be NULL");
    if (p.size != sizeof p)
        return reattn__fail(err, REATTN_E_ARG, "reattn_quantize_params.size is %zu, not %zu", p.size, sizeof p);
    int type = find_type(p.type);
    if (type < 0) return unknown_type(p.type, err);
    int code = look(from, &before, err);
    if (code != REATTN_OK) return code;
    if (same_file(from, to))
        return reattn__fail(err, REATTN_E_ARG, "%s would be written over itself: give another name", to);
    if (before.quantised && !p.allow_requantize)
        return reattn__fail(err, REATTN_E_ARG, "%s is quantised already (%s): start from F16 or F32, or allow it to be "
                            "quantised again (--allow-requantize), which costs quality twice", from, before.quantised);
    if (before.quantised)
        reattn__log(REATTN_LOG_WARN, "warning: %s is quantised already (%s): what that lost stays lost\n", from,
                    before.quantised);
    size_t room = strlen(to) + sizeof ".part";
    char *part = malloc(room);
    if (!part) return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    snprintf(part, room, "%s.part", to);
    code = write_checked(from, part, to, &p, type, &after, err);
    if (code != REATTN_OK) unlink(part);
    free(part);
    double weights = (double)after.weights;
    if (code == REATTN_OK && out)
        *out = (reattn_quantized){after.bytes, weights > 0 ? 8.0 * (double)after.weight_bytes / weights : 0};
    return code;
}
