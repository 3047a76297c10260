/* main.c - the program reattn: commands, --help, --version, and the lines it prints on standard error. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "args.h"
#include "help.h"
#include "progress.h"

static const command commands[] = {
    {"run", CMD_RUN, NULL, cmd_run, "one answer about files and a question",
     "-m MODEL (-f FILE)... [-p TEXT] [OPTIONS]",
     "Reads the files and the question, and prints the answer. The text may be longer than\n"
     "the model was trained for: nothing is cut, all of it is searched for every token.",
     "  reattn run -m model.gguf -f book.txt -p \"Who is the narrator?\"\n"
     "  git log | reattn run -m model.gguf -f - -p \"What changed in the parser?\" -n 400\n"
     "  reattn run -m model.gguf --raw -p \"Once upon a time\" --temp 0 --json\n"},
    {"chat", CMD_CHAT, NULL, cmd_chat, "a conversation that is never cut", "-m MODEL [OPTIONS]",
     "A conversation. /help lists the commands, Ctrl-C stops an answer, Ctrl-D leaves.\n"
     "Without a terminal each line of standard input is a message.",
     "  reattn chat -m model.gguf\n"
     "  reattn chat -m model.gguf -f manual.txt -sys \"Answer from the manual.\"\n"},
    {"info", CMD_INFO, NULL, cmd_info, "what a model is and what fits in memory", "-m MODEL [OPTIONS]",
     "Shows the model's shapes, the scope that was chosen for it, how positions are encoded,\n"
     "and how much memory a text takes.",
     "  reattn info -m model.gguf\n"
     "  reattn info -m model.gguf --local 2048 --json\n"},
    {"bench", CMD_E2E, "e2e", cmd_bench, "speed of policies at growing depth", "e2e -m MODEL [OPTIONS]",
     "Measures prompt and decode speed of several policies with more and more text held.\n"
     "The policy native is llama.cpp's own attention: the baseline.",
     "  reattn bench e2e -m model.gguf\n"
     "  reattn bench e2e -m model.gguf --policy native,reattention --depths 0,8K,16K -f book.txt\n"},
    {"bench", CMD_SELECT, "select", cmd_bench_select, "speed of exact top-k selection", "select [OPTIONS]",
     "Fills a store with keys and times the selection of the best of them, next to what this\n"
     "machine can read and compute, and checks the result. The keys are synthetic, with the\n"
     "shape given or a model's; with a model and -f they are those that it has for the text.",
     "  reattn bench select --keys 16K,128K --queries 1\n"
     "  reattn bench select -m model.gguf -f book.txt --keys 8K --seeds\n"},
    {"bench", CMD_ATTEND, "attend", cmd_bench_attend, "speed of attention over a scope", "attend [OPTIONS]",
     "Fills a store and times attention over a scope of it: the first keys, spans, the last\n"
     "keys, next to what this machine can read and compute, and checks the result.",
     "  reattn bench attend --queries 1,512\n"
     "  reattn bench attend -m model.gguf --scope 4096 -ctk q8_0 -ctv q8_0\n"},
    {"bench", CMD_PLOT, "plot", cmd_bench_plot, "a picture of what e2e measured", "plot FILE.csv -o FILE.svg",
     "Draws decode and prompt speed of all policies over the tokens held, from a file that\n"
     "bench e2e --csv wrote. Both axes are logarithmic.",
     "  reattn bench e2e -m model.gguf --depths 0,8K,32K --csv speed.csv\n"
     "  reattn bench plot speed.csv -o speed.svg\n"},
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

static int print_policies(void)
{
    for (const reattn_policy_info *p = reattn_policy_list(); p->name; p++)
        printf("%-14s %s\n%-14s cost: %s\n%-14s from: %s\n", p->name, p->rule, "", p->cost, "", p->paper);
    return EXIT_DONE;
}

/* Usage errors of a command, after its options were read. */
static int run_command(const command *cmd, options *opt)
{
    if (opt->help) {
        help_command(stdout, cmd);
        return EXIT_DONE;
    }
    if (opt->list_policies || !strcmp(opt->policies, "list"))
        return print_policies();
    if (!opt->model && (cmd->bit & CMD_ENGINE))
        return cli_fail(EXIT_USAGE, "%s needs a model: -m FILE", cmd->name);
    reattn_log_set(on_log, &opt->verbose);
    return cmd->run(opt);
}

static int start_command(const command *cmd, int argc, char **argv)
{
    options opt = args_default();
    int rc = args_parse(&opt, cmd->bit, argc, argv);
    if (rc)
        return rc;
    rc = run_command(cmd, &opt);
    free(opt.files);
    if ((fflush(stdout) || ferror(stdout)) && rc == EXIT_DONE)
        rc = cli_fail(EXIT_FAILED, "standard output: %s", strerror(errno));
    return rc;
}

/* Without a word that says which of a command's modes is meant, or with one that none has. */
static int wrong_mode(const char *name, const char *mode)
{
    char modes[256] = "";
    for (const command *c = commands; c->name; c++)
        if (!strcmp(c->name, name))
            snprintf(modes + strlen(modes), sizeof modes - strlen(modes), "%sreattn %s %s", *modes ? ", " : "", name,
                     c->mode);
    return *mode ? cli_fail(EXIT_USAGE, "there is no %s %s; there is %s", name, mode, modes)
                 : cli_fail(EXIT_USAGE, "%s needs to know what: %s", name, modes);
}

/* argv[0] is the name of a command; *known says whether there is such a one. */
static int find_command(int argc, char **argv, bool help, bool *known)
{
    const char *mode = argc > 1 && argv[1][0] != '-' ? argv[1] : "";
    bool overview = help || (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")));
    *known = false;
    for (const command *c = commands; c->name; c++) {
        if (strcmp(c->name, argv[0]))
            continue;
        *known = true;
        if (c->mode && strcmp(c->mode, mode))
            continue;
        if (!help)
            return start_command(c, argc - (c->mode ? 2 : 1), argv + (c->mode ? 2 : 1));
        help_command(stdout, c);
        return EXIT_DONE;
    }
    if (!*known || !overview || *mode)
        return *known ? wrong_mode(argv[0], mode) : EXIT_USAGE;
    help_modes(stdout, commands, argv[0]);
    return EXIT_DONE;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (!*name) {
        help_program(stderr, commands);
        return EXIT_USAGE;
    }
    bool known, help = !strcmp(name, "help") && argc > 2;
    int rc = find_command(argc - 1 - help, argv + 1 + help, help, &known);
    if (known)
        return rc;
    name = argv[1 + help];
    if (!strcmp(name, "help") || !strcmp(name, "--help") || !strcmp(name, "-h")) {
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
