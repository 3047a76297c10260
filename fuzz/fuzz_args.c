/* fuzz_args.c - a command line of any words, one a line: refused, or understood. The first byte chooses the command. */
#include <string.h>

#include "common/args.h"
#include "fuzz.h"

const fuzz_seed fuzz_seeds[] = {
    FUZZ_SEED("a-m\nmodel.gguf\n-f\nbook.txt\n-p\nWho?\n--recall-k=8\n--temp\n0.5\n-n\n64\n"),
    FUZZ_SEED("b--model\nm.gguf\n--policy\nstreaming\n-ngl\nall\n--no-timings\n-c\n32K\n--seed\n1\n"),
    FUZZ_SEED("d-m\nm.gguf\n--depths\n0:64K:8K\n--policy=native,full\n-r\n3\n--json\n"),
    FUZZ_SEED("i--lengths\n8K\n--config\nwide:recall-span=64,recall-max=63\n--url\nhttp://localhost\n"),
    {0}};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { WORDS = 64 };
    char *text = fuzz_text(data, size), *words[WORDS], *at = text;
    const unsigned command = 1u << (*text ? (unsigned char)*text % 20 : 0);
    int n = 0;
    at += *text != 0;
    while (*at && n < WORDS) {
        words[n++] = at;
        at += strcspn(at, "\n");
        if (*at)
            *at++ = 0;
    }
    options opt = args_default();
    if (!args_parse(&opt, command, n, words)) {
        char value[256];
        FUZZ_CHECK(opt.n_files >= 0 && opt.n_files <= n && opt.models.n <= n);
        for (const arg *a = args_table; a->names; a++)
            FUZZ_CHECK(args_format(a, &opt, value, sizeof value) >= 0);
    }
    args_free(&opt);
    free(text);
    return 0;
}
