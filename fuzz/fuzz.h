/* fuzz.h - what the fuzz targets share. A target is LLVMFuzzerTestOneInput, as libFuzzer calls it (clang,
 * -DREATTN_FUZZ=ON); driver.c calls it in every build, so that the suite runs each target for a moment. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What driver.c begins with: inputs that are well formed, ended by one without bytes. */
typedef struct fuzz_seed {
    const char *bytes;
    size_t n;
} fuzz_seed;
#define FUZZ_SEED(literal)                                                                                             \
    {                                                                                                                  \
        literal, sizeof literal - 1                                                                                    \
    }
extern const fuzz_seed fuzz_seeds[];

/* Ends the process where a promise is not kept, as a fuzzer wants it. */
#define FUZZ_CHECK(promise)                                                                                            \
    do {                                                                                                               \
        if (!(promise))                                                                                                \
            abort();                                                                                                   \
    } while (0)

/* Writes a file of these bytes and returns its path, the same each time. */
const char *fuzz_file(const uint8_t *data, size_t size);
/* The bytes as text, ended by a NUL, for the caller to free. */
char *fuzz_text(const uint8_t *data, size_t size);

#endif
