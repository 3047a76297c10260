/* args.h - the command line: one table of the program's own options, and the library's table of engine options. */
#ifndef ARGS_H
#define ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cli.h"

/* The commands an option belongs to; every task of `bench` and of `eval` is one. */
enum {
    CMD_RUN = 1,
    CMD_CHAT = 2,
    CMD_INFO = 4,
    BENCH_E2E = 8,
    BENCH_SELECT = 16,
    BENCH_ATTEND = 32,
    BENCH_KERNELS = BENCH_SELECT | BENCH_ATTEND,
    BENCH_PLOT = 64,
    EVAL_NIAH = 1 << 8,
    EVAL_RECALL = 1 << 9,
    EVAL_PPL = 1 << 10,
    EVAL_PASSKEY = 1 << 11,
    EVAL_RULER = 1 << 12,
    EVAL_NEEDLES = EVAL_NIAH | EVAL_RECALL,
    EVAL_INFINITE = 1 << 13,
    EVAL_LONGBENCH = 1 << 14,
    EVAL_LEVAL = 1 << 15,
    EVAL_READ = EVAL_INFINITE | EVAL_LONGBENCH | EVAL_LEVAL, /* published files */
    EVAL_MADE = EVAL_NEEDLES | EVAL_PASSKEY | EVAL_RULER | EVAL_INFINITE, /* texts of a given length */
    EVAL_ANSWERS = EVAL_MADE | EVAL_READ,
    EVAL_SERVED = EVAL_ANSWERS & ~EVAL_RECALL, /* a server can answer */
    EVAL_PLOT = 1 << 16,
    EVAL_SOURCES = 1 << 17,
    EVAL_COMPARE = 1 << 18,
    EVAL_MODELS = EVAL_NEEDLES | EVAL_PPL | EVAL_COMPARE, /* several models side by side */
    CMD_QUANTIZE = 1 << 19,
    EVAL_CASES = EVAL_ANSWERS | EVAL_PPL | EVAL_COMPARE,
    CMD_ENGINE = CMD_RUN | CMD_CHAT | CMD_INFO | BENCH_E2E | EVAL_CASES | EVAL_SOURCES, /* a model, and its options */
    CMD_ONE_POLICY = CMD_RUN | CMD_CHAT | CMD_INFO | EVAL_SOURCES,
    CMD_ALL = CMD_ENGINE | BENCH_KERNELS, /* those that measure or run */
    CMD_PLOT = BENCH_PLOT | EVAL_PLOT,
    CMD_ANY = CMD_ALL | CMD_PLOT | CMD_QUANTIZE
};

/* The values of an option that may be given several times; items [n] is the option's own memory. */
typedef struct arg_list {
    const char **items;
    int n;
} arg_list;

/* Texts as they were typed; eval/ gives them their meaning. */
typedef struct eval_options {
    const char *policies, *lengths, *depths, *seeds, *haystack, *needles, *question, *tasks;
    const char *url, *api_key;                                /* a server */
    const char *data, *write, *predictions, *prompts, *value; /* files, folders, and what to draw */
    const char *picture;
    arg_list configs;
    int64_t n_answer; /* 0 = the task's own */
    int64_t bucket, samples;
    bool one_needle, chat, timings, kl, second;
} eval_options;

struct options {
    const char *model;
    arg_list models; /* of a task that takes several: all of them, `model` the last */
    bool models_from_env;
    int64_t gpu_layers;
    const char *quantize_to;
    bool allow_requantize;

    const char *prompt, *system;
    const char **files; /* [n_files] */
    int n_files;
    const char *template_file, *grammar_file, *trace_file;
    const char *catalyst; /* of a policy that drops keys; NULL: its own */
    const char *out; /* a picture, or the results of an evaluation */
    bool raw;

    int64_t n_predict, n_chat; /* most tokens of an answer in `run` and in `chat`; -1 = no limit */
    float temp, top_p, min_p, repeat_penalty;
    int64_t top_k, repeat_last_n, seed;

    const char *policies, *depths, *sessions, *csv_file;
    int64_t bench_prompt, bench_predict, repeats, synthetic;
    bool native_variants;
    const char *keys, *queries, *types_k, *types_v, *device;
    int64_t heads, kv_heads, head_dim, scope, hits, threads, data_seed;
    bool seeded;
    const char *check;
    const char *dump;

    eval_options eval;

    bool json, quiet, verbose, help, list_policies;

    reattn_session_params session;
    arg_list typed; /* names, without dashes, of the options on the command line */
};

typedef enum arg_kind {
    ARG_FLAG,  /* bool; --no-x clears it */
    ARG_INT,   /* int64_t in min .. max */
    ARG_FLOAT, /* float in min .. max */
    ARG_TEXT,  /* const char * */
    ARG_FILES, /* appends to options.files */
    ARG_LIST,  /* appends to an arg_list */
    ARG_MODELS, /* sets options.model and appends to options.models; a variable's goes when one is typed */
    ARG_NOTE   /* accepted for the hand's sake: prints its help text and does nothing */
} arg_kind;

typedef struct arg {
    const char *names; /* separated by spaces; the first long one gives the environment name */
    arg_kind kind;
    unsigned commands;
    const char *group; /* heading in the help, NULL = not listed */
    const char *value; /* name of the value in the help, NULL for flags */
    size_t offset;     /* of the field in options */
    double min, max;
    const char *word;  /* text that stands for max, or NULL */
    const char *env;   /* llama.cpp's environment variable, read after REATTN_ARG_<NAME>; or NULL */
    const char *help;
} arg;

/* The program's own options, ended by an entry whose names are NULL. */
extern const arg args_table[];

/* The program's option of a command that has this name (with its dashes), or NULL. */
const arg *args_find(unsigned command, const char *name, size_t len);

options args_default(void);
/* Reads the environment, then argv[0 .. argc-1] (what follows the command). */
int args_parse(options *opt, unsigned command, int argc, char **argv);
/* Frees what args_parse took. */
void args_free(options *opt);
/* Writes the value of an option as text, as snprintf does; nothing for one that is unset. */
int args_format(const arg *a, const options *opt, char *buf, size_t cap);
/* What the sampling options say; the grammar is left NULL. */
reattn_sampler_params args_sampler(const options *opt);

/* The name nearest to `typed` is offered: call nearest_add for each candidate, then read `best` (NULL = none near). */
typedef struct nearest {
    const char *typed;
    int distance;
    char best[64];
} nearest;
void nearest_add(nearest *n, const char *name, size_t len);

#endif
