/* fuzz_gguf.c - metadata of a GGUF file from any bytes: what is looked at before libllama loads a model, and what clex
 * reads. Refused with a reason, or read within its bounds. */
#include <string.h>

#include "fuzz.h"
#include "model/side.h"
#include "model/metadata.h"

/* Without anything; the kind of a vocabulary, and its two tokens; what clex learned. */
#define HEAD(n) "GGUF\3\0\0\0\0\0\0\0\0\0\0\0" n "\0\0\0\0\0\0\0"
#define LENGTH(n) n "\0\0\0\0\0\0\0"
const fuzz_seed fuzz_seeds[] = {
    FUZZ_SEED(HEAD("\0")),
    FUZZ_SEED(HEAD("\2") LENGTH("\24") "tokenizer.ggml.model\10\0\0\0" LENGTH("\5") "llama" LENGTH(
        "\25") "tokenizer.ggml.tokens\11\0\0\0\10\0\0\0" LENGTH("\2") LENGTH("\1") "a" LENGTH("\1") "b"),
    FUZZ_SEED(HEAD("\3") LENGTH("\7") "clex.up\11\0\0\0\6\0\0\0" LENGTH("\1") "\0\0\200\77" LENGTH(
        "\10") "clex.act\10\0\0\0" LENGTH("\4") "silu" LENGTH("\12") "clex.max_t\4\0\0\0\4\0\0\0"),
    {0}};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file(data, size);
    reattn_error err = {0};
    reattn__side *side = NULL;
    if (reattn__metadata_check(path, &err))
        FUZZ_CHECK(err.msg[0]);
    if (reattn__side_open(path, &side, &err))
        return 0;
    int64_t n = 0;
    const float *x = reattn__side_floats(side, "clex.up", &n);
    volatile float sum = 0;
    for (int64_t i = 0; x && i < n; i++)
        sum += x[i];
    const char *act = reattn__side_text(side, "clex.act");
    FUZZ_CHECK(!act || strlen(act) <= size);
    (void)reattn__side_int(side, "clex.max_t", 16);
    reattn__side_close(side);
    return 0;
}
