/* tasks.c - the table of `reattn eval`. */
#include "eval.h"
#include "help.h"

const command eval_tasks[] = {
    {"eval niah", EVAL_NIAH, eval_niah, "needles in a haystack, on a grid of lengths and depths",
     "-m MODEL [OPTIONS]",
     "Hides sentences with random numbers in a long text and asks for each. One text carries the\n"
     "needles of all depths and is read once; --one-needle is the classic test, a text for each.",
     "  reattn eval niah -m model.gguf --lengths 8K,16K --depths 0:100:10 --seeds 3 --out niah.jsonl\n"
     "  reattn eval niah -m model.gguf --policy reattention,streaming \\\n"
     "      --config paper:recall-window=32,tail=0\n", NULL},
    {"eval recall", EVAL_RECALL, eval_recall, "whether each layer's scope held the needle", "-m MODEL [OPTIONS]",
     "Asks as niah does, and says in how many layers and KV heads the number was within the scope\n"
     "when the answer began, and what share of exact attention the scope held: where a needle is\n"
     "missed, was it not recalled, or not used?",
     "  reattn eval recall -m model.gguf --lengths 16K --depths 10,50,90 --out recall.jsonl\n", NULL},
    {"eval ppl", EVAL_PPL, eval_ppl, "perplexity by position in a text", "-m MODEL [OPTIONS]",
     "Reads a text once and scores every token given those before it: perplexity by position, and\n"
     "with --kl how far the predictions are from those of full attention.",
     "  reattn eval ppl -m model.gguf --policy reattention,native --lengths 64K --text jargon\n"
     "  reattn eval ppl -m model.gguf --lengths 8K --kl\n", NULL},
    {"eval compare", EVAL_COMPARE, eval_compare, "methods side by side: quality, speed and memory",
     "-m MODEL [OPTIONS]",
     "Needles and the perplexity of a text's last quarter, for each configuration, model and length,\n"
     "with tokens a second and the bytes held, in one table. What refuses a length gets a dash.",
     "  reattn eval compare -m model.gguf --policy reattention,streaming,native --lengths 8K,16K,32K \\\n"
     "      --depths 10,50,90 --out compare.jsonl --picture compare.svg\n"
     "  reattn eval compare -m f16.gguf -m q4.gguf --tasks ppl --lengths 4K,8K\n", NULL},
    {"eval passkey", EVAL_PASSKEY, eval_passkey, "a pass key in a text that repeats itself", "-m MODEL [OPTIONS]",
     "Hides a number of five digits among repeated sentences and asks for it.",
     "  reattn eval passkey -m model.gguf --lengths 16K,32K --depths 0:100:25\n", NULL},
    {"eval ruler", EVAL_RULER, eval_ruler, "RULER's synthetic tasks, made offline", "-m MODEL [OPTIONS]",
     "Needles with several keys, values and queries, variable tracking, common and frequent words;\n"
     "--seeds N makes N samples of each. The files are those of RULER's own scripts.",
     "  reattn eval ruler -m model.gguf --lengths 8K,16K --seeds 20 --out ruler.jsonl\n"
     "  reattn eval ruler -m model.gguf --tasks vt,fwe --lengths 8K --seeds 500 --write data\n", NULL},
    {"eval infinitebench", EVAL_INFINITE, eval_infinitebench, "InfiniteBench: made, or from its files",
     "-m MODEL [OPTIONS]",
     "Without --data makes passkey, number_string, kv_retrieval, math_find and code_run, to any\n"
     "length. With --data reads the published files, which have about 100,000 tokens a text.",
     "  reattn eval infinitebench -m model.gguf --lengths 32K --seeds 10\n"
     "  reattn eval infinitebench -m model.gguf --data InfiniteBench --tasks longbook_qa_eng\n", NULL},
    {"eval longbench", EVAL_LONGBENCH, eval_longbench, "LongBench, v1 and v2, from its files",
     "-m MODEL --data FOLDER [OPTIONS]",
     "Reads the published files, asks with the published prompts and computes the published\n"
     "metrics. Nothing is cut out of a text.",
     "  reattn eval longbench -m model.gguf --data LongBench/data --tasks qasper,hotpotqa\n"
     "  reattn eval longbench -m model.gguf --chat --v2 --data LongBench-v2\n", NULL},
    {"eval leval", EVAL_LEVAL, eval_leval, "L-Eval, from its files", "-m MODEL --data FOLDER [OPTIONS]",
     "Reads the published files and computes exact match, F1 and ROUGE where these are the\n"
     "published metrics. Questions of one text share its reading.",
     "  reattn eval leval -m model.gguf --chat --data LEval/Closed-ended-tasks --tasks quality\n", NULL},
    {"eval sources", EVAL_SOURCES, eval_sources, "which passages an answer was drawn from",
     "-m MODEL -f FILE -p TEXT [OPTIONS]",
     "Answers as run does, taking the likeliest tokens, and shows what was recalled meanwhile: the\n"
     "passages in their own words, and with -o as a strip over the text.",
     "  reattn eval sources -m model.gguf -f book.txt -p \"Who is the narrator?\" -o strip.svg\n", NULL},
    {"eval plot", EVAL_PLOT, eval_plot, "pictures of results, as SVG or PNG", "FILE... -o FILE.svg [OPTIONS]",
     "A grid of lengths and depths becomes a heat map for each configuration and text, perplexity\n"
     "a curve by position, a comparison curves by length, what was recalled a strip over the text.",
     "  reattn eval plot niah.jsonl -o niah.svg\n"
     "  reattn eval plot recall.jsonl --value mass_share -o recall.png\n"
     "  reattn eval plot recall.jsonl --value recalled -o strips.svg\n"
     "  reattn eval plot trace.jsonl -o strip.svg        (of reattn run --trace)\n"
     "  reattn eval plot ppl.jsonl -o ppl.svg\n", NULL},
    {0}};
