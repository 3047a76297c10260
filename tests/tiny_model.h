/* tiny_model.h - what the tests of sessions on a tiny model share: the model, and a way out of it. */
#ifndef TINY_MODEL_H
#define TINY_MODEL_H

#include "reattn/reattn.h"
#include "test_util.h"

static reattn_model *model;

/* Loads NAME.gguf of the tiny models. */
static void tiny_load(const char *name, reattn_model_info *info)
{
    char path[1024];
    reattn_error err = {0};
    snprintf(path, sizeof path, "%s/%s.gguf", getenv("REATTN_TINY_DIR"), name);
    if (reattn_model_load(path, NULL, &model, &err)) fail_msg("%s", err.msg);
    reattn_model_get_info(model, info);
}

/* A group teardown. */
static int tiny_free(void **unused)
{
    (void)unused;
    reattn_model_free(model);
    return 0;
}

#endif
