/* side.c - see side.h. */
#include "side.h"

#include <gguf.h>
#include <stdio.h>

#include "model.h"

int reattn__side_open(const char *path, reattn__side **out, reattn_error *err)
{
    FILE *f = fopen(path, "rb");
    if (!f) return reattn__fail(err, REATTN_E_IO, "cannot open %s: check the path", path);
    fclose(f);
    reattn__llama_start(); /* its complaints go to our log */
    *out = (reattn__side *)gguf_init_from_file(path, (struct gguf_init_params){.no_alloc = true});
    if (!*out) return reattn__fail(err, REATTN_E_FORMAT, "%s is not a GGUF file, or is cut short", path);
    return REATTN_OK;
}

void reattn__side_close(reattn__side *side)
{
    if (side) gguf_free((struct gguf_context *)side);
}

/* -1 if there is no key of this type. */
static int64_t find(const reattn__side *side, const char *key, enum gguf_type type)
{
    const struct gguf_context *g = (const struct gguf_context *)side;
    int64_t id = gguf_find_key(g, key);
    return id >= 0 && gguf_get_kv_type(g, id) == type ? id : -1;
}

const float *reattn__side_floats(const reattn__side *side, const char *key, int64_t *n)
{
    const struct gguf_context *g = (const struct gguf_context *)side;
    int64_t id = find(side, key, GGUF_TYPE_ARRAY);
    if (id < 0 || gguf_get_arr_type(g, id) != GGUF_TYPE_FLOAT32) return NULL;
    *n = (int64_t)gguf_get_arr_n(g, id);
    return gguf_get_arr_data(g, id);
}

const char *reattn__side_text(const reattn__side *side, const char *key)
{
    int64_t id = find(side, key, GGUF_TYPE_STRING);
    return id < 0 ? NULL : gguf_get_val_str((const struct gguf_context *)side, id);
}

int64_t reattn__side_int(const reattn__side *side, const char *key, int64_t otherwise)
{
    const struct gguf_context *g = (const struct gguf_context *)side;
    int64_t id = find(side, key, GGUF_TYPE_UINT32);
    if (id >= 0) return gguf_get_val_u32(g, id);
    if ((id = find(side, key, GGUF_TYPE_INT32)) >= 0) return gguf_get_val_i32(g, id);
    return (id = find(side, key, GGUF_TYPE_BOOL)) >= 0 ? gguf_get_val_bool(g, id) : otherwise;
}
