/* args.c - see args.h. Engine options are passed to the library as text: their names and bounds are its table's. */
#include "args.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "numbers.h"

#define AT(field) offsetof(options, field)

static const char G_IN[] = "Input", G_OUT[] = "Output", G_SAMPLE[] = "Sampling", G_MODEL[] = "Model",
                  G_BENCH[] = "Benchmark", G_CASES[] = "Cases", G_COMPARE[] = "What is compared";
enum { CMD_GEN = CMD_RUN | CMD_CHAT, CMD_CHATTY = CMD_GEN | EVAL_ANSWERS | EVAL_SOURCES | EVAL_COMPARE };

const arg args_table[] = {
    {"-m --model", ARG_TEXT, (CMD_ALL & ~EVAL_MODELS) | CMD_QUANTIZE, G_MODEL, "FILE", AT(model), 0, 0, NULL,
     "LLAMA_ARG_MODEL", "the model, a GGUF file"},
    {"-m --model", ARG_MODELS, EVAL_MODELS, G_MODEL, "FILE", AT(model), 0, 0, NULL, "LLAMA_ARG_MODEL",
     "the model, a GGUF file; given several times, each is run with every configuration"},
    {"-ngl --gpu-layers --n-gpu-layers", ARG_INT, CMD_ALL, G_MODEL, "N", AT(gpu_layers), 0, 999, "all",
     "LLAMA_ARG_N_GPU_LAYERS", "layers to put on a GPU, or all"},

    {"-f --file", ARG_FILES, CMD_GEN | BENCH_E2E | BENCH_KERNELS | EVAL_SOURCES, G_IN, "FILE", 0, 0, 0, NULL, NULL,
     "a text file, UTF-8; - is standard input; may be given several times"},
    {"-p --prompt", ARG_TEXT, CMD_RUN | EVAL_SOURCES, G_IN, "TEXT", AT(prompt), 0, 0, NULL, NULL,
     "the question; it follows the text of the files after a blank line"},
    {"-sys --system-prompt", ARG_TEXT, CMD_GEN, G_IN, "TEXT", AT(system), 0, 0, NULL, NULL, "the system message"},
    {"--raw", ARG_FLAG, CMD_RUN | EVAL_SOURCES, G_IN, NULL, AT(raw), 0, 0, NULL, NULL,
     "send the text as it is, without a chat template"},
    {"--chat-template-file", ARG_TEXT, CMD_CHATTY, G_IN, "FILE", AT(template_file), 0, 0, NULL,
     "LLAMA_ARG_CHAT_TEMPLATE_FILE", "use this chat template instead of the model's own"},

    {"--catalyst", ARG_TEXT, CMD_GEN | EVAL_CASES, G_IN, "TEXT", AT(catalyst), 0, 0, NULL, NULL,
     "under infinipot, what decides what a full pot keeps: the question to come, or else a request for a summary"},

    {"-n --predict --n-predict", ARG_INT, CMD_RUN, G_OUT, "N", AT(n_predict), -1, 1e9, NULL, "LLAMA_ARG_N_PREDICT",
     "most tokens of the answer; -1 = until the model ends it"},
    {"-n --predict --n-predict", ARG_INT, CMD_CHAT, G_OUT, "N", AT(n_chat), -1, 1e9, NULL, "LLAMA_ARG_N_PREDICT",
     "most tokens of an answer; -1 = until the model ends it"},
    {"--json", ARG_FLAG, CMD_ALL & ~CMD_CHAT, G_OUT, NULL, AT(json), 0, 0, NULL, NULL,
     "print one JSON object instead of text"},
    {"--trace", ARG_TEXT, CMD_RUN, G_OUT, "FILE", AT(trace_file), 0, 0, NULL, NULL,
     "write what was recalled for each token of the answer, one JSON object a line, and the passages that "
     "the answer was drawn from; reattn eval plot draws it"},
    {"-q --quiet", ARG_FLAG, CMD_ANY, G_OUT, NULL, AT(quiet), 0, 0, NULL, NULL,
     "nothing on standard error but errors and warnings"},
    {"-v --verbose", ARG_FLAG, CMD_ALL, G_OUT, NULL, AT(verbose), 0, 0, NULL, NULL, "show the log of the engine"},
    {"-h --help", ARG_FLAG, CMD_ANY, G_OUT, NULL, AT(help), 0, 0, NULL, NULL, "show this help"},

    {"-s --seed", ARG_INT, CMD_GEN, G_SAMPLE, "N", AT(seed), -1, 4294967295.0, NULL, NULL, "seed; -1 = random"},
    {"--temp --temperature", ARG_FLOAT, CMD_GEN, G_SAMPLE, "T", AT(temp), 0, 100, NULL, NULL,
     "temperature; 0 always takes the likeliest token"},
    {"--top-k", ARG_INT, CMD_GEN, G_SAMPLE, "N", AT(top_k), 0, 1e9, NULL, "LLAMA_ARG_TOP_K",
     "sample among the N likeliest tokens; 0 = off"},
    {"--top-p", ARG_FLOAT, CMD_GEN, G_SAMPLE, "P", AT(top_p), 0, 1, NULL, NULL,
     "sample among the likeliest tokens that hold P of the probability; 1 = off"},
    {"--min-p", ARG_FLOAT, CMD_GEN, G_SAMPLE, "P", AT(min_p), 0, 1, NULL, NULL,
     "drop tokens less likely than P times the likeliest; 0 = off"},
    {"--repeat-penalty", ARG_FLOAT, CMD_GEN, G_SAMPLE, "X", AT(repeat_penalty), 0.01, 100, NULL, NULL,
     "make tokens that were just used less likely; 1 = off"},
    {"--repeat-last-n", ARG_INT, CMD_GEN, G_SAMPLE, "N", AT(repeat_last_n), 0, 1e9, NULL, NULL,
     "how many last tokens the repeat penalty looks at"},
    {"--grammar-file", ARG_TEXT, CMD_GEN, G_SAMPLE, "FILE", AT(grammar_file), 0, 0, NULL, NULL,
     "a GBNF grammar that the answer must follow"},

    {"--policy", ARG_TEXT, BENCH_E2E, G_BENCH, "LIST", AT(policies), 0, 0, NULL, NULL,
     "policies to compare, separated by commas"},
    {"-d --depths", ARG_TEXT, BENCH_E2E, G_BENCH, "LIST", AT(depths), 0, 0, NULL, NULL,
     "tokens held before the clock starts, separated by commas; 8K = 8192"},
    {"-p --n-prompt", ARG_INT, BENCH_E2E, G_BENCH, "N", AT(bench_prompt), 1, 1e6, NULL, NULL,
     "prompt tokens timed at each depth"},
    {"-n --n-gen", ARG_INT, BENCH_E2E, G_BENCH, "N", AT(bench_predict), 1, 1e6, NULL, NULL,
     "single-token steps timed at each depth"},
    {"--sessions", ARG_TEXT, BENCH_E2E, G_BENCH, "LIST", AT(sessions), 0, 0, NULL, NULL,
     "decode with several sessions too: so many, separated by commas, all in one step and one after another"},
    {"--native-variants", ARG_FLAG, BENCH_E2E, G_BENCH, NULL, AT(native_variants), 0, 0, NULL, NULL,
     "measure the policy native with llama.cpp's other settings too, and compare with the best"},
    {"--synthetic", ARG_INT, BENCH_E2E, G_BENCH, "N", AT(synthetic), 0, 1e9, NULL, NULL,
     "fill depths beyond N with copies of the keys and values of the first N tokens; 0 = read all text"},
    {"--csv", ARG_TEXT, BENCH_E2E, G_BENCH, "FILE", AT(csv_file), 0, 0, NULL, NULL,
     "write the lines to a file as comma separated values, too"},
    {"--keys", ARG_TEXT, BENCH_KERNELS, G_BENCH, "LIST", AT(keys), 0, 0, NULL, NULL,
     "keys held, separated by commas; 8K = 8192"},
    {"--queries", ARG_TEXT, BENCH_KERNELS, G_BENCH, "LIST", AT(queries), 0, 0, NULL, NULL,
     "queries of a call, separated by commas; 1 is decode"},
    {"-ctk --cache-type-k", ARG_TEXT, BENCH_KERNELS, G_BENCH, "LIST", AT(types_k), 0, 0, NULL, NULL,
     "types of the keys, separated by commas"},
    {"-ctv --cache-type-v", ARG_TEXT, BENCH_ATTEND, G_BENCH, "LIST", AT(types_v), 0, 0, NULL, NULL,
     "types of the values, one for each of the keys'; the last counts for those that follow"},
    {"--scope", ARG_INT, BENCH_ATTEND, G_BENCH, "N", AT(scope), 64, 1e9, NULL, NULL,
     "keys attended to: the first, spans of 32, and the last"},
    {"-k --recall-k", ARG_INT, BENCH_SELECT, G_BENCH, "K", AT(hits), 1, 64, NULL, NULL,
     "keys that each query and head chooses"},
    {"--seeds", ARG_FLAG, BENCH_SELECT, G_BENCH, NULL, AT(seeded), 0, 0, NULL, NULL,
     "start each search with what the query before it chose, as decode does"},
    {"--check", ARG_TEXT, BENCH_SELECT, G_BENCH, "LEVELS", AT(check), 0, 0, NULL, NULL,
     "compare every query of every layer with the law, at these CPU levels, separated by commas, or all"},
    {"--dump", ARG_TEXT, BENCH_SELECT, G_BENCH, "FILE", AT(dump), 0, 0, NULL, NULL,
     "write keys and queries of up to five layers to a file"},
    {"--heads", ARG_INT, BENCH_KERNELS, G_BENCH, "N", AT(heads), 1, 1024, NULL, NULL,
     "query heads, without a model"},
    {"--kv-heads", ARG_INT, BENCH_KERNELS, G_BENCH, "N", AT(kv_heads), 1, 1024, NULL, NULL,
     "KV heads, without a model"},
    {"--dim", ARG_INT, BENCH_KERNELS, G_BENCH, "N", AT(head_dim), 2, 512, NULL, NULL,
     "values of a head, without a model"},
    {"--device", ARG_TEXT, BENCH_KERNELS, G_BENCH, "cpu|cuda", AT(device), 0, 0, NULL, NULL,
     "cuda: the kernels of a GPU, with keys in f16 (select, -ctk split: f16 and an 8-bit copy that is scanned)"},
    {"-s --seed", ARG_INT, BENCH_KERNELS, G_BENCH, "N", AT(data_seed), 0, 4294967295.0, NULL, NULL,
     "seed of synthetic keys and queries"},
    {"-t --threads", ARG_INT, BENCH_KERNELS, G_BENCH, "N", AT(threads), 0, 1024, NULL, "LLAMA_ARG_THREADS",
     "threads; 0 = all cores"},
    {"-r --repetitions", ARG_INT, BENCH_E2E | BENCH_KERNELS, G_BENCH, "N", AT(repeats), 1, 100, NULL, NULL,
     "times that each measurement is made; the median counts"},

    {"--url", ARG_TEXT, EVAL_SERVED, G_MODEL, "URL", AT(eval.url), 0, 0, NULL, NULL,
     "instead of a model an OpenAI-compatible server, such as http://127.0.0.1:8080"},
    {"--api-key", ARG_TEXT, EVAL_SERVED, G_MODEL, "KEY", AT(eval.api_key), 0, 0, NULL, NULL,
     "the server's key, if it has one"},
    {"--policy", ARG_TEXT, EVAL_CASES, G_COMPARE, "LIST", AT(eval.policies), 0, 0, NULL, NULL,
     "policies, separated by commas, each with the engine options given here"},
    {"--config", ARG_LIST, EVAL_CASES, G_COMPARE, "NAME:OPTION=VALUE,...", AT(eval.configs), 0, 0, NULL, NULL,
     "a configuration by name: the engine options given here, with these changed; may be given several times"},
    {"--lengths", ARG_TEXT, EVAL_MADE | EVAL_PPL | EVAL_COMPARE, G_CASES, "LIST", AT(eval.lengths), 0, 0, NULL, NULL,
     "tokens of a case, question included: 8K,16K or FROM:TO:STEP"},
    {"--depths", ARG_TEXT, EVAL_NEEDLES | EVAL_PASSKEY | EVAL_COMPARE, G_CASES, "LIST", AT(eval.depths), 0, 0, NULL,
     NULL,
     "where needles are, in percent of the text: 10,50,90 or FROM:TO:STEP"},
    {"--seeds", ARG_TEXT, EVAL_MADE | EVAL_PPL | EVAL_COMPARE, G_CASES, "LIST", AT(eval.seeds), 0, 0, NULL, NULL,
     "N = seeds 1 to N; or a list, or FROM:TO"},
    {"--haystack --text", ARG_TEXT, EVAL_NEEDLES | EVAL_PPL | EVAL_RULER | EVAL_COMPARE, G_CASES, "LIST",
     AT(eval.haystack), 0, 0, NULL, NULL,
     "texts, separated by commas: essays, jargon, repeat, a file, or a folder of .txt files"},
    {"--needles", ARG_TEXT, EVAL_NEEDLES, G_CASES, "HOW", AT(eval.needles), 0, 0, NULL, NULL,
     "shared: one text holds the needles of all depths, and is read once; one: a text for each needle"},
    {"--one-needle", ARG_FLAG, EVAL_NEEDLES, G_CASES, NULL, AT(eval.one_needle), 0, 0, NULL, NULL,
     "the same as --needles one"},
    {"--question", ARG_TEXT, EVAL_NEEDLES | EVAL_COMPARE, G_CASES, "TEXT", AT(eval.question), 0, 0, NULL, NULL,
     "what is asked after the text, or a file with it; {key} is replaced, \\n is a new line"},
    {"--tasks", ARG_TEXT, EVAL_RULER | EVAL_READ | EVAL_COMPARE, G_CASES, "LIST", AT(eval.tasks), 0, 0, NULL, NULL,
     "which tasks, separated by commas; all of them if it is not given"},
    {"--data", ARG_TEXT, EVAL_READ, G_CASES, "FOLDER", AT(eval.data), 0, 0, NULL, NULL,
     "where the published files are, one for each task: TASK.jsonl"},
    {"--samples", ARG_INT, EVAL_READ, G_CASES, "N", AT(eval.samples), 0, 1e9, NULL, NULL,
     "at most the first N items of each file; 0 = all"},
    {"--v2", ARG_FLAG, EVAL_LONGBENCH, G_CASES, NULL, AT(eval.second), 0, 0, NULL, NULL,
     "LongBench v2: one file, data.json"},
    {"--write", ARG_TEXT, EVAL_RULER, G_OUT, "FOLDER", AT(eval.write), 0, 0, NULL, NULL,
     "only write the data set, as the benchmark's own scripts read it"},
    {"--predictions", ARG_TEXT, EVAL_RULER, G_OUT, "FOLDER", AT(eval.predictions), 0, 0, NULL, NULL,
     "write the answers too, as the benchmark's own scorer reads them"},
    {"--bucket", ARG_INT, EVAL_PPL, G_CASES, "N", AT(eval.bucket), 1, 1e9, NULL, NULL,
     "positions that one perplexity is the mean of"},
    {"--kl", ARG_FLAG, EVAL_PPL, G_CASES, NULL, AT(eval.kl), 0, 0, NULL, NULL,
     "within the trained length, also the KL divergence from policy full"},
    {"--chat", ARG_FLAG, EVAL_ANSWERS | EVAL_COMPARE, G_CASES, NULL, AT(eval.chat), 0, 0, NULL, NULL,
     "send the text as a user message of the chat template; without it the text is sent as it is"},
    {"-n --predict --n-predict", ARG_INT, EVAL_ANSWERS | EVAL_SOURCES | EVAL_COMPARE, G_CASES, "N",
     AT(eval.n_answer), 0, 1e9, NULL, NULL,
     "most tokens of an answer; 0 = as the task has it"},
    {"FILE", ARG_FILES, BENCH_PLOT, G_IN, NULL, 0, 0, 0, NULL, NULL, "what bench e2e wrote with --csv"},
    {"FILE", ARG_FILES, EVAL_PLOT, G_IN, NULL, 0, 0, 0, NULL, NULL,
     "results that a task wrote with --out; several are drawn as one; or what run wrote with --trace"},
    {"--value", ARG_TEXT, EVAL_PLOT, G_IN, "NAME", AT(eval.value), 0, 0, NULL, NULL,
     "the member of the cases to draw; without it score, or ppl; recalled draws strips"},
    {"-o --out", ARG_TEXT, CMD_PLOT | EVAL_SOURCES, G_OUT, "FILE", AT(out), 0, 0, NULL, NULL,
     "the picture, FILE.svg or FILE.png"},
    {"-o --out", ARG_TEXT, EVAL_CASES, G_OUT, "FILE", AT(out), 0, 0, NULL, NULL,
     "write one JSON object a case there; cases that are there already are not run again"},
    {"--picture", ARG_TEXT, EVAL_COMPARE, G_OUT, "FILE", AT(eval.picture), 0, 0, NULL, NULL,
     "draw quality over length, FILE.svg or FILE.png"},
    {"-o --out", ARG_TEXT, CMD_QUANTIZE, G_OUT, "FILE", AT(out), 0, 0, NULL, NULL, "the new model"},
    {"--type", ARG_TEXT, CMD_QUANTIZE, G_OUT, "TYPE", AT(quantize_to), 0, 0, NULL, NULL,
     "how its weights are stored; 'list' explains the types"},
    {"--allow-requantize", ARG_FLAG, CMD_QUANTIZE, G_OUT, NULL, AT(allow_requantize), 0, 0, NULL, NULL,
     "quantise weights that are quantised already, which costs quality twice"},
    {"-t --threads", ARG_INT, CMD_QUANTIZE, G_OUT, "N", AT(threads), 0, 1024, NULL, "LLAMA_ARG_THREADS",
     "threads; 0 = all cores"},
    {"--prompts", ARG_TEXT, EVAL_ANSWERS, G_OUT, "FOLDER", AT(eval.prompts), 0, 0, NULL, NULL,
     "write what is sent for each case, one text file each"},
    {"--timings", ARG_FLAG, EVAL_CASES, G_OUT, NULL, AT(eval.timings), 0, 0, NULL, NULL,
     "write times; --no-timings leaves out all that differs between two runs of the same"},

    {"--context-shift --no-context-shift", ARG_NOTE, CMD_GEN, NULL, NULL, 0, 0, 0, NULL, NULL,
     "ignored: nothing is ever shifted out of the context"},
    {0}};

/* llama.cpp's variables for engine options that mean the same there. */
static const struct {
    const char *alias, *env;
} shared_env[] = {{"-t", "LLAMA_ARG_THREADS"},
                  {"-c", "LLAMA_ARG_CTX_SIZE"},
                  {"-ctk", "LLAMA_ARG_CACHE_TYPE_K"},
                  {"-ctv", "LLAMA_ARG_CACHE_TYPE_V"}};

/* What to do instead, for options of llama.cpp that have no counterpart here. */
static const struct {
    const char *names, *hint;
} hints[] = {{"-b --batch-size -ub --ubatch-size", "tokens of a prefill step are set with --chunk"},
             {"-cnv --conversation -i --interactive", "use reattn chat"},
             {"-hf --hf-repo", "download the GGUF file and give it with -m"},
             {"-nkvo --no-kv-offload", "with --store host keys and values are in the host's memory"}};

options args_default(void)
{
    reattn_sampler_params s = reattn_sampler_params_default();
    return (options){
        .gpu_layers = reattn_model_params_default().n_gpu_layers,
        .n_predict = 256,
        .n_chat = -1,
        .temp = s.temp,
        .top_k = s.top_k,
        .top_p = s.top_p,
        .min_p = s.min_p,
        .repeat_penalty = s.repeat_penalty,
        .repeat_last_n = s.repeat_last_n,
        .seed = s.seed == UINT32_MAX ? -1 : (int64_t)s.seed,
        .policies = "native,full,reattention",
        .depths = "0,2K,8K",
        .bench_prompt = 512,
        .bench_predict = 32,
        .repeats = 3,
        .eval = {.lengths = "8192", .depths = "0:100:10", .seeds = "1", .haystack = "essays", .needles = "shared",
                 .bucket = 1024, .timings = true},
        .keys = "4K,16K,64K",
        .queries = "1,32,512",
        .types_k = "split",
        .device = "cpu",
        .types_v = "f16",
        .heads = 9,
        .kv_heads = 3,
        .head_dim = 64,
        .scope = 8192,
        .hits = 4,
        .data_seed = 1,
        .session = reattn_session_params_default(),
    };
}

reattn_sampler_params args_sampler(const options *opt)
{
    reattn_sampler_params s = reattn_sampler_params_default();
    s.temp = opt->temp;
    s.top_k = (int32_t)opt->top_k;
    s.top_p = opt->top_p;
    s.min_p = opt->min_p;
    s.repeat_penalty = opt->repeat_penalty;
    s.repeat_last_n = (int32_t)opt->repeat_last_n;
    s.seed = (uint32_t)opt->seed; /* -1 is the library's value for random */
    return s;
}

int args_format(const arg *a, const options *opt, char *buf, size_t cap)
{
    const char *field = (const char *)opt + a->offset;
    if (a->kind == ARG_INT)
        return snprintf(buf, cap, "%lld", (long long)*(const int64_t *)field);
    if (a->kind == ARG_FLOAT)
        return snprintf(buf, cap, "%g", *(const float *)field);
    if (a->kind == ARG_TEXT && *(const char *const *)field)
        return snprintf(buf, cap, "%s", *(const char *const *)field);
    return snprintf(buf, cap, "%s", "");
}

/* ------------------------------------------------------------------------------------------- look-up --------- */

/* Steps through names separated by spaces: returns the next one and its length, NULL at the end. */
static const char *next_name(const char **names, size_t *len)
{
    const char *name = *names + strspn(*names, " ");
    *len = strcspn(name, " ");
    *names = name + *len;
    return *len ? name : NULL;
}

static bool names_have(const char *names, const char *name, size_t len)
{
    size_t n;
    for (const char *s; (s = next_name(&names, &n));)
        if (n == len && !memcmp(s, name, len))
            return true;
    return false;
}

const arg *args_find(unsigned command, const char *name, size_t len)
{
    for (const arg *a = args_table; a->names; a++)
        if ((a->commands & command) && names_have(a->names, name, len))
            return a;
    return NULL;
}

static const reattn_option *find_engine(const char *name, size_t len)
{
    for (const reattn_option *o = reattn_option_table(); o->name; o++) {
        if (len > 2 && !strncmp(name, "--", 2) && strlen(o->name) == len - 2 && !memcmp(o->name, name + 2, len - 2))
            return o;
        if (o->alias && strlen(o->alias) == len && !memcmp(o->alias, name, len))
            return o;
    }
    return NULL;
}

static int edit_distance(const char *a, size_t na, const char *b, size_t nb)
{
    enum { LONGEST = 63 };
    int row[LONGEST + 1];
    if (na > LONGEST || nb > LONGEST)
        return LONGEST;
    for (size_t j = 0; j <= nb; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= na; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= nb; j++) {
            int change = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            int step = 1 + (row[j] < row[j - 1] ? row[j] : row[j - 1]);
            row[j] = change < step ? change : step;
        }
    }
    return row[nb];
}

void nearest_add(nearest *n, const char *name, size_t len)
{
    const char *typed = n->typed + strspn(n->typed, "-");
    size_t typed_len = strcspn(typed, "=");
    size_t dashes = strspn(name, "-");
    const char *bare = name + dashes;
    size_t bare_len = len - dashes;

    if (bare_len < 3 || typed_len < 3)
        return; /* any two short names are near each other */
    size_t shorter = bare_len < typed_len ? bare_len : typed_len;
    int d = edit_distance(typed, typed_len, bare, bare_len);
    if (!memcmp(typed, bare, shorter))
        d = 2;
    if (d <= 2 + (int)typed_len / 8 && (!n->best[0] || d < n->distance) && len < sizeof n->best) {
        n->distance = d;
        memcpy(n->best, name, len);
        n->best[len] = 0;
    }
}

static int unknown_option(unsigned command, const char *typed)
{
    size_t len = strcspn(typed, "="), n;
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++)
        if (names_have(hints[i].names, typed, len))
            return cli_fail(EXIT_USAGE, "there is no option %.*s: %s", (int)len, typed, hints[i].hint);

    nearest near = {.typed = typed};
    for (const arg *a = args_table; a->names; a++) {
        const char *names = a->names;
        if (a->commands & command)
            for (const char *s; (s = next_name(&names, &n));)
                nearest_add(&near, s, n);
    }
    for (const reattn_option *o = reattn_option_table(); o->name && (command & CMD_ENGINE); o++) {
        char name[64];
        n = (size_t)snprintf(name, sizeof name, "--%s", o->name);
        nearest_add(&near, name, n);
    }
    if (near.best[0])
        return cli_fail(EXIT_USAGE, "there is no option %.*s; did you mean %s?", (int)len, typed, near.best);
    return cli_fail(EXIT_USAGE, "there is no option %.*s; --help lists them", (int)len, typed);
}

/* -------------------------------------------------------------------------------------------- values --------- */

static int append(arg_list *list, const char *value)
{
    const char **grown = realloc(list->items, (size_t)(list->n + 1) * sizeof *grown);
    if (!grown)
        return cli_fail(EXIT_FAILED, "out of memory");
    grown[list->n++] = value;
    list->items = grown;
    return EXIT_DONE;
}

static int note_typed(options *opt, const arg *own, const reattn_option *engine)
{
    const char *name = own ? strstr(own->names, "--") : NULL;
    name = own ? name ? name + 2 : own->names : engine->name;
    for (int i = 0; i < opt->typed.n; i++)
        if (!strcmp(opt->typed.items[i], name))
            return EXIT_DONE;
    return append(&opt->typed, name);
}

/* `shown` is how the option was written (or the environment variable): errors name what the user typed. */
static int set_own(options *opt, const arg *a, const char *shown, const char *value)
{
    char *field = (char *)opt + a->offset, *end;

    switch (a->kind) {
    case ARG_FLAG:
        if (!strcmp(value, "1") || !strcmp(value, "on") || !strcmp(value, "true"))
            *(bool *)field = true;
        else if (!strcmp(value, "0") || !strcmp(value, "off") || !strcmp(value, "false"))
            *(bool *)field = false;
        else
            return cli_fail(EXIT_USAGE, "%s is on or off, not '%s'", shown, value);
        return EXIT_DONE;
    case ARG_INT: {
        int64_t v = (int64_t)a->max;
        const char *after = a->word && !strcmp(value, a->word) ? "" : number_read(value, &v);
        if (!after || *after || v < (int64_t)a->min || v > (int64_t)a->max)
            return cli_fail(EXIT_USAGE, "%s takes a whole number from %.0f to %.0f%s%s, not '%s'", shown, a->min,
                            a->max, a->word ? " or " : "", a->word ? a->word : "", value);
        *(int64_t *)field = v;
        return EXIT_DONE;
    }
    case ARG_FLOAT: {
        double v = strtod(value, &end);
        if (end == value || *end || !(v >= a->min && v <= a->max))
            return cli_fail(EXIT_USAGE, "%s takes a number from %g to %g, not '%s'", shown, a->min, a->max, value);
        *(float *)field = (float)v;
        return EXIT_DONE;
    }
    case ARG_TEXT:
        *(const char **)field = value;
        return EXIT_DONE;
    case ARG_FILES:
        opt->files[opt->n_files++] = value;
        return EXIT_DONE;
    case ARG_LIST:
        return append((arg_list *)field, value);
    case ARG_MODELS:
        if (opt->models_from_env)
            opt->models.n = 0;
        opt->models_from_env = *shown != '-';
        opt->model = value;
        return append(&opt->models, value);
    case ARG_NOTE:
        cli_note("%s is %s", shown, a->help);
        return EXIT_DONE;
    }
    return EXIT_DONE;
}

static int set_engine(options *opt, const reattn_option *o, const char *shown, const char *value)
{
    reattn_error err;
    if (!strcmp(o->name, "policy") && !strcmp(value, "list")) {
        opt->list_policies = true;
        return EXIT_DONE;
    }
    if (!reattn_option_set(&opt->session, o->name, value, &err))
        return EXIT_DONE;
    /* The library's message names the option as the command line does; a variable has to be named too. */
    if (*shown == '-')
        return cli_fail(EXIT_USAGE, "%s", err.msg);
    return cli_fail(EXIT_USAGE, "%s: %s", shown, err.msg);
}

/* The value of REATTN_ARG_<NAME>, or of llama.cpp's variable; *shown is set to the one that was found. */
static const char *from_env(const char *long_name, size_t len, const char *fallback, char shown[64])
{
    int n = snprintf(shown, 64, "REATTN_ARG_%.*s", (int)len, long_name);
    for (int i = 0; i < n && i < 63; i++)
        shown[i] = shown[i] == '-' ? '_' : (char)toupper((unsigned char)shown[i]);
    const char *value = getenv(shown);
    if (!value && fallback && (value = getenv(fallback)))
        snprintf(shown, 64, "%s", fallback);
    return value;
}

static int read_env(options *opt, unsigned command)
{
    char shown[64];
    int rc = EXIT_DONE;
    for (const arg *a = args_table; a->names && !rc; a++) {
        if (!(a->commands & command) || a->kind == ARG_FILES || a->kind == ARG_LIST || a->kind == ARG_NOTE)
            continue;
        const char *name = strstr(a->names, "--") + 2;
        const char *value = from_env(name, strcspn(name, " "), a->env, shown);
        if (value)
            rc = set_own(opt, a, shown, value);
    }
    for (const reattn_option *o = reattn_option_table(); o->name && !rc && (command & CMD_ENGINE); o++) {
        const char *fallback = NULL;
        for (size_t i = 0; i < sizeof shared_env / sizeof *shared_env; i++)
            if (o->alias && !strcmp(o->alias, shared_env[i].alias))
                fallback = shared_env[i].env;
        const char *value = from_env(o->name, strlen(o->name), fallback, shown);
        char dashed[64];
        int n = snprintf(dashed, sizeof dashed, "--%s", o->name);
        if (value && !args_find(command, dashed, (size_t)n)) /* the program's own meaning of a name goes first */
            rc = set_engine(opt, o, shown, value);
    }
    return rc;
}

static int parse(options *opt, unsigned command, int argc, char **argv)
{
    int rc = read_env(opt, command);
    for (int i = 0; i < argc && !rc; i++) {
        const char *typed = argv[i], *equals = strchr(typed, '=');
        size_t len = equals ? (size_t)(equals - typed) : strlen(typed);
        char shown[64];
        const arg *plain = typed[0] != '-' || len < 2 ? args_find(command, "FILE", 4) : NULL;
        if (plain) {
            rc = set_own(opt, plain, "FILE", typed);
            continue;
        }
        if (typed[0] != '-' || len < 2)
            return cli_fail(EXIT_USAGE, "unexpected argument '%s'%s", typed,
                            command == CMD_RUN ? "; the question is given with -p" : "");
        snprintf(shown, sizeof shown, "%.*s", (int)len, typed);

        const arg *own = args_find(command, typed, len);
        const reattn_option *engine = own || !(command & CMD_ENGINE) ? NULL : find_engine(typed, len);
        if (own && (own->kind == ARG_FLAG || own->kind == ARG_NOTE)) {
            rc = set_own(opt, own, shown, equals ? equals + 1 : "on");
            continue;
        }
        if (!own && !engine) {
            char positive[64];
            int n = !strncmp(shown, "--no-", 5) ? snprintf(positive, sizeof positive, "--%s", shown + 5) : 0;
            own = n ? args_find(command, positive, (size_t)n) : NULL;
            if (!own || own->kind != ARG_FLAG || equals)
                return unknown_option(command, typed);
            rc = set_own(opt, own, shown, "off");
            continue;
        }
        if (!equals && i + 1 == argc)
            return cli_fail(EXIT_USAGE, "%s needs a value (%s)", shown, own ? own->value : engine->arg);
        const char *value = equals ? equals + 1 : argv[++i];
        rc = own ? set_own(opt, own, shown, value) : set_engine(opt, engine, shown, value);
        if (!rc)
            rc = note_typed(opt, own, engine);
    }
    return rc;
}

int args_parse(options *opt, unsigned command, int argc, char **argv)
{
    opt->files = calloc((size_t)argc + 1, sizeof *opt->files);
    if (!opt->files)
        return cli_fail(EXIT_FAILED, "out of memory");
    return parse(opt, command, argc, argv);
}

void args_free(options *opt)
{
    free(opt->files);
    free(opt->eval.configs.items);
    free(opt->models.items);
    free(opt->typed.items);
    opt->files = NULL;
    opt->eval.configs = opt->models = opt->typed = (arg_list){0};
}
