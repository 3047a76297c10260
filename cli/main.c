/* main.c - the program reattn: commands, --help, --version, and the lines it prints on standard error. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "args.h"
#include "help.h"
#include "progress.h"
#include "unused.h"

static const command bench_tasks[] = {
    {"bench e2e", BENCH_E2E, cmd_bench, "speed of policies at growing depth", "-m MODEL [OPTIONS]",
     "Measures prompt and decode speed of several policies with more and more text held.\n"
     "The policy native is llama.cpp's own attention: the baseline.",
     "  reattn bench e2e -m model.gguf\n"
     "  reattn bench e2e -m model.gguf --policy native,reattention --depths 0,8K,16K -f book.txt\n",
     NULL},
    {"bench select", BENCH_SELECT, cmd_bench_select, "speed of exact top-k selection", "[OPTIONS]",
     "Fills a store with keys and times the selection of the best of them, next to what this\n"
     "machine can read and compute, and checks the result. The keys are synthetic, with the\n"
     "shape given or a model's; with a model and -f they are those that it has for the text.",
     "  reattn bench select --keys 16K,128K --queries 1\n"
     "  reattn bench select -m model.gguf -f book.txt --keys 8K --seeds\n"
     "  reattn bench select --device cuda --keys 128K,1M -ctk f16,split\n",
     NULL},
    {"bench attend", BENCH_ATTEND, cmd_bench_attend, "speed of attention over a scope", "[OPTIONS]",
     "Fills a store and times attention over a scope of it: the first keys, spans, the last\n"
     "keys, next to what this machine can read and compute, and checks the result.",
     "  reattn bench attend --keys 32K --queries 1,512\n"
     "  reattn bench attend -m model.gguf --keys 32K --scope 4096 -ctk q8_0 -ctv q8_0\n"
     "  reattn bench attend --device cuda --keys 32K --queries 1,512\n",
     NULL},
    {"bench plot", BENCH_PLOT, cmd_bench_plot, "a picture of what e2e measured", "FILE.csv -o FILE.svg",
     "Draws decode and prompt speed of all policies over the tokens held, from a file that\n"
     "bench e2e --csv wrote. Both axes are logarithmic.",
     "  reattn bench e2e -m model.gguf --depths 0,8K,32K --csv speed.csv\n"
     "  reattn bench plot speed.csv -o speed.svg\n",
     NULL},
    {0}};

static const command commands[] = {
    {"run", CMD_RUN, cmd_run, "one answer about files and a question", "-m MODEL (-f FILE)... [-p TEXT] [OPTIONS]",
     "Reads the files and the question, and prints the answer. The text may be longer than\n"
     "the model was trained for: nothing is cut, all of it is searched for every token.",
     "  reattn run -m model.gguf -f book.txt -p \"Who is the narrator?\"\n"
     "  git log | reattn run -m model.gguf -f - -p \"What changed in the parser?\" -n 400\n"
     "  reattn run -m model.gguf --raw -p \"Once upon a time\" --temp 0 --json\n",
     NULL},
    {"chat", CMD_CHAT, cmd_chat, "a conversation that is never cut", "-m MODEL [OPTIONS]",
     "A conversation. /help lists the commands, Ctrl-C stops an answer, Ctrl-D leaves.\n"
     "Without a terminal each line of standard input is a message.",
     "  reattn chat -m model.gguf\n"
     "  reattn chat -m model.gguf -f manual.txt -sys \"Answer from the manual.\"\n",
     NULL},
    {"info", CMD_INFO, cmd_info, "what a model is and what fits in memory", "-m MODEL [OPTIONS]",
     "Shows the model's shapes, the scope that was chosen for it, how positions are encoded,\n"
     "and how much memory a text takes.",
     "  reattn info -m model.gguf\n"
     "  reattn info -m model.gguf --local 2048 --json\n",
     NULL},
    {"quantize", CMD_QUANTIZE, cmd_quantize, "a model with its weights stored in fewer bits",
     "-m MODEL -o FILE --type TYPE [OPTIONS]",
     "Writes a model anew with its weights stored as another type, from F32 down to Q2_K. Start from\n"
     "a model in F16 or F32: what was quantised once has lost what it lost.",
     "  reattn quantize --type list\n"
     "  reattn quantize -m model-f16.gguf -o model-q4.gguf --type Q4_K_M\n",
     NULL},
    {"bench", 0, NULL, "speed of policies, of selection and of attention", "TASK [OPTIONS]",
     "Measures how fast the whole and its parts are on this machine. Tasks:\n",
     "  reattn bench e2e -m model.gguf --depths 0,8K,32K\n"
     "  reattn bench select --keys 16K,128K --queries 1\n",
     bench_tasks},
    {"eval", 0, NULL, "quality on long texts, several policies side by side", "TASK -m MODEL [OPTIONS]",
     "Measures how well a model answers from long texts. Tasks:\n",
     "  reattn eval niah -m model.gguf --lengths 8K,16K --seeds 3 --out niah.jsonl\n"
     "  reattn eval niah -m model.gguf --policy reattention,streaming --config wide:recall-span=64,recall-max=63\n",
     eval_tasks},
    {0}};

int cli_fail(int code, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    progress_clear();
    fputs("reattn: ", stderr);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
    return code;
}

int cli_fail_error(const reattn_error *err)
{
    return cli_fail(err->code == REATTN_E_ARG ? EXIT_USAGE : EXIT_FAILED, "%s", err->msg);
}

void cli_note(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    progress_clear();
    fputs("reattn: ", stderr);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
}

static void on_log(reattn_log_level level, const char *text, void *user)
{
    const bool *verbose = user;
    if (level < REATTN_LOG_WARN && !*verbose)
        return;
    progress_clear();
    fputs(text, stderr);
}

/* How many policies go by an option, and how many there are. */
static int n_users(const char *option, int *n_policy)
{
    int n = 0;
    *n_policy = 0;
    for (const reattn_policy_info *p = reattn_policy_list(); p->name; p++) {
        n += reattn_policy_uses(p->name, option);
        ++*n_policy;
    }
    return n;
}

/* With the options of its own: not those that all go by, or all but native. */
static int print_policies(void)
{
    for (const reattn_policy_info *p = reattn_policy_list(); p->name; p++) {
        int n_policy, column = 0;
        printf("%-14s %s\n%-14s cost: %s\n%-14s from: %s\n", p->name, p->rule, "", p->cost, "", p->paper);
        for (const reattn_option *o = reattn_option_table(); o->name; o++) {
            if (n_users(o->name, &n_policy) >= n_policy - 1 || !reattn_policy_uses(p->name, o->name))
                continue;
            if (!column)
                column = printf("%-14s options:", "");
            if (column + (int)strlen(o->name) + 3 > 100)
                column = printf("\n%-14s         ", "") - 1;
            column += printf(" --%s", o->name);
        }
        if (column)
            puts(reattn_policy_drops(p->name) ? " --catalyst" : "");
    }
    return EXIT_DONE;
}

/* Usage errors of a command, after its options were read. */
static int run_command(const command *cmd, options *opt)
{
    if (opt->help) {
        help_command(stdout, cmd);
        return EXIT_DONE;
    }
    if (opt->list_policies || !strcmp(opt->policies, "list") ||
        (opt->eval.policies && !strcmp(opt->eval.policies, "list")))
        return print_policies();
    if (!opt->model && !opt->eval.url && (cmd->bit & CMD_ENGINE))
        return cli_fail(EXIT_USAGE, "%s needs a model: -m FILE%s", cmd->name,
                        cmd->bit & EVAL_SERVED ? ", or a server: --url" : "");
    if (cmd->bit & CMD_ONE_POLICY) {
        const char *policy = opt->session.policy;
        unused_check(opt, &policy, 1);
    }
    reattn_log_set(on_log, &opt->verbose);
    return cmd->run(opt);
}

static int start_command(const command *cmd, int argc, char **argv)
{
    options opt = args_default();
    int rc = args_parse(&opt, cmd->bit, argc, argv);
    if (!rc)
        rc = run_command(cmd, &opt);
    args_free(&opt);
    if ((fflush(stdout) || ferror(stdout)) && rc == EXIT_DONE)
        rc = cli_fail(EXIT_FAILED, "standard output: %s", strerror(errno));
    return rc;
}

static bool is_help(const char *word)
{
    return !strcmp(word, "--help") || !strcmp(word, "-h");
}

/* Runs a command, or a task of it, with the words that follow its name; with `help` prints its help instead. */
static int start(const command *cmd, int argc, char **argv, bool help)
{
    const char *typed = argc > 0 ? argv[0] : "";
    if (!cmd->tasks && !help)
        return start_command(cmd, argc, argv);
    if (!cmd->tasks || is_help(typed) || (help && !*typed)) {
        (cmd->tasks ? help_tasks : help_command)(stdout, cmd);
        return EXIT_DONE;
    }
    if (!*typed || *typed == '-')
        return cli_fail(EXIT_USAGE, "%s needs to know what: reattn %s --help lists the tasks", cmd->name, cmd->name);
    nearest near = {.typed = typed};
    for (const command *t = cmd->tasks; t->name; t++) {
        const char *name = t->name + strlen(cmd->name) + 1;
        if (!strcmp(name, typed))
            return start(t, argc - 1, argv + 1, help);
        nearest_add(&near, name, strlen(name));
    }
    if (near.best[0])
        return cli_fail(EXIT_USAGE, "there is no %s %s; did you mean %s?", cmd->name, typed, near.best);
    return cli_fail(EXIT_USAGE, "there is no %s %s; reattn %s --help lists the tasks", cmd->name, typed, cmd->name);
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (!*name) {
        help_program(stderr, commands);
        return EXIT_USAGE;
    }
    const bool help = !strcmp(name, "help") && argc > 2;
    if (help)
        name = argv[2];
    for (const command *c = commands; c->name; c++)
        if (!strcmp(c->name, name))
            return start(c, argc - 2 - help, argv + 2 + help, help);
    if (!strcmp(name, "help") || is_help(name)) {
        help_program(stdout, commands);
        return EXIT_DONE;
    }
    if (!strcmp(name, "--version") || !strcmp(name, "version")) {
        printf("reattn %s (%s)\n", REATTN_VERSION, reattn_cpu_level());
        return EXIT_DONE;
    }
    nearest near = {.typed = name};
    for (const command *c = commands; c->name; c++)
        nearest_add(&near, c->name, strlen(c->name));
    if (near.best[0])
        return cli_fail(EXIT_USAGE, "there is no command '%s'; did you mean %s?", name, near.best);
    return cli_fail(EXIT_USAGE, "there is no command '%s'; reattn --help lists them", name);
}
