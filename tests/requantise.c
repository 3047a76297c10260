/* requantise - rewrites a GGUF with f32 weights, for tests that compare two ways of computing the same model.
 *
 * With quantised weights libllama rounds activations to 8 bits, which turns a difference in the last bit into one of
 * some per cent; with f32 weights two right implementations agree closely. */
#include <llama.h>
#include <stdio.h>
#include <stdlib.h>

static void quiet(enum ggml_log_level level, const char *text, void *user)
{
    (void)user;
    if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: requantise FROM.gguf TO.gguf\n");
        return 2;
    }
    llama_log_set(quiet, NULL);
    llama_backend_init();
    struct llama_model_quantize_params params = llama_model_quantize_default_params();
    params.allow_requantize = true;
    params.ftype = LLAMA_FTYPE_ALL_F32;
    params.nthread = 1;
    return llama_model_quantize(argv[1], argv[2], &params) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
