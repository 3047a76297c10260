/* tasks.c - the table of `reattn eval`. */
#include "eval.h"
#include "help.h"

const command eval_tasks[] = {
    {"eval niah", EVAL_NIAH, NULL, eval_niah, "needles in a haystack, on a grid of lengths and depths",
     "-m MODEL [OPTIONS]",
     "Hides sentences with random numbers in a long text and asks for each. One text carries the\n"
     "needles of all depths and is read once; --one-needle is the classic test, a text for each.",
     "  reattn eval niah -m model.gguf --lengths 8K,16K --depths 0:100:10 --seeds 3 --out niah.jsonl\n"
     "  reattn eval niah -m model.gguf --policy reattention,streaming \\\n"
     "      --config paper:recall-window=32,tail=0\n",
     NULL, false},
    {"eval recall", EVAL_RECALL, NULL, eval_recall, "whether each layer's scope held the needle", "-m MODEL [OPTIONS]",
     "Asks as niah does, and says in how many layers and KV heads the number was within the scope\n"
     "when the answer began: where a needle is missed, was it not recalled, or not used?",
     "  reattn eval recall -m model.gguf --lengths 16K --depths 10,50,90 --out recall.jsonl\n",
     NULL, false},
    {"eval ppl", EVAL_PPL, NULL, eval_ppl, "perplexity by position in a text", "-m MODEL [OPTIONS]",
     "Reads a text once and scores every token given those before it: perplexity by position, and\n"
     "with --kl how far the predictions are from those of full attention.",
     "  reattn eval ppl -m model.gguf --policy reattention,native --lengths 64K --text jargon\n"
     "  reattn eval ppl -m model.gguf --lengths 8K --kl\n",
     NULL, false},
    {0}};
