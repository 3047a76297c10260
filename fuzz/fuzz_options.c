/* fuzz_options.c - session options from any text: they are set within their bounds or refused, and what is set resolves
 * to a consistent whole or is refused. Input: lines "name=value". */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "reattn/reattn.h"
#include "session/params.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    reattn_session_params p = reattn_session_params_default();
    reattn_error err = {0};
    char *text = malloc(size + 1), *line = text, buf[64];
    if (!text) return 0;
    memcpy(text, data, size);
    text[size] = 0;
    while (line) {
        char *next = strchr(line, '\n'), *value = strchr(line, '=');
        if (next) *next++ = 0;
        if (value && (!next || value < next)) {
            *value++ = 0;
            reattn_session_params before = p;
            if (reattn_option_set(&p, line, value, &err) != 0 && memcmp(&before, &p, sizeof p) != 0) abort();
            reattn_option_get(&p, line, buf, sizeof buf);
        }
        line = next;
    }
    free(text);
    if (reattn__params_resolve(&p, 8192, &err) != 0) return 0;
    if (p.local < 0 || p.chunk < 1 || p.recall_k < 1 || p.recall_max < 0 || p.n_threads < 1) abort();
    if (strcmp(p.policy, "reattention") == 0 &&
        (p.chunk > p.local || p.keep + p.recall_max * p.recall_span + p.local > 8192))
        abort();
    return 0;
}
