/* fuzz_options.c - session options from any text: they are set within their bounds or refused, and what is set resolves
 * to a consistent whole or is refused. Input: lines "name=value". */
#include <string.h>

#include "fuzz.h"
#include "reattn/reattn.h"
#include "session/params.h"

const fuzz_seed fuzz_seeds[] = {
    FUZZ_SEED("local=2048\nrecall-k=4\nrecall-span=32\nrecall-max=127\n"),
    FUZZ_SEED("policy=streaming\nkeep=4\nlocal=1K\npositions=original\n"),
    FUZZ_SEED("policy=infinipot\npot=4K\npot-keep=1K\npot-novelty=25\nchunk=512\n"),
    FUZZ_SEED("policy=string\nshift=2K\nctx-train=8192\n"),
    FUZZ_SEED("preset=paper\nrecall-per=head\nrecall-vote=count\nrecall-type=qkv\n"),
    FUZZ_SEED("cache-type-k=f16\ncache-type-v=q8_0\nmem-limit=1.5G\nctx-size=1M\nthreads=2\n"),
    {0}};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    reattn_session_params p = reattn_session_params_default();
    reattn_error err = {0};
    char *text = fuzz_text(data, size), *line = text, buf[64];
    while (line) {
        char *next = strchr(line, '\n'), *value = strchr(line, '=');
        if (next)
            *next++ = 0;
        if (value && (!next || value < next)) {
            *value++ = 0;
            reattn_session_params before = p;
            FUZZ_CHECK(reattn_option_set(&p, line, value, &err) == 0 || memcmp(&before, &p, sizeof p) == 0);
            reattn_option_get(&p, line, buf, sizeof buf);
        }
        line = next;
    }
    free(text);
    if (reattn__params_resolve(&p, 8192, &err) != 0)
        return 0;
    FUZZ_CHECK(p.local >= 0 && p.chunk >= 1 && p.recall_k >= 1 && p.recall_max >= 0 && p.n_threads >= 1);
    if (strcmp(p.policy, "reattention") == 0) {
        const bool step = p.local_per == REATTN_LOCAL_PER_STEP;
        FUZZ_CHECK(!step || p.chunk <= p.local);
        FUZZ_CHECK(p.keep + p.recall_max * p.recall_span + p.local + (step ? 0 : p.chunk - 1) <= p.ctx_train);
    }
    return 0;
}
