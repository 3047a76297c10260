/* native.c - libllama's own attention and cache. The engine is bypassed; see src/model/native.c. */
#include "policy.h"

const reattn__policy reattn__policy_native = {
    .info = {"native", "libllama's own attention over its own cache: the baseline",
             "keeps everything, in libllama; a step costs O(n); fails past the trained length", "llama.cpp"},
    .options = "flash-attn",
    .native = true,
};
