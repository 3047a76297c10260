/* help.c - see help.h. */
#include "help.h"

#include <string.h>

enum { COLUMN = 29, WIDTH = 80 };

/* Prints words in the columns from COLUMN to WIDTH; `at` is where the line stands now. */
static void print_wrapped(FILE *out, const char *words, int at)
{
    if (at >= COLUMN - 1) {
        fputc('\n', out);
        at = 0;
    }
    at += fprintf(out, "%*s", COLUMN - at, "");
    while (*words) {
        int len = (int)strcspn(words, " ");
        if (at > COLUMN && at + 1 + len > WIDTH)
            at = fprintf(out, "\n%*s", COLUMN, "") - 1;
        else if (at > COLUMN)
            at += fprintf(out, " ");
        at += fprintf(out, "%.*s", len, words);
        words += len + strspn(words + len, " ");
    }
    fputc('\n', out);
}

static void print_own(FILE *out, const arg *a, const options *defaults)
{
    char text[512], value[256];
    int at = fprintf(out, "  ");
    for (const char *s = a->names; *s; s++)
        at += *s == ' ' ? fprintf(out, ", ") : fprintf(out, "%c", *s);
    if (a->value)
        at += fprintf(out, " %s", a->value);
    int n = snprintf(text, sizeof text, "%s", a->help);
    if (args_format(a, defaults, value, sizeof value) > 0)
        snprintf(text + n, sizeof text - (size_t)n, " (default %s)", value);
    print_wrapped(out, text, at);
}

static void print_engine(FILE *out, const reattn_option *o, const options *defaults)
{
    char text[512], value[64];
    int at = fprintf(out, "  %s%s--%s %s", o->alias ? o->alias : "", o->alias ? ", " : "", o->name, o->arg);
    reattn_option_get(&defaults->session, o->name, value, sizeof value);
    int n = snprintf(text, sizeof text, "%s", o->help);
    if (value[0])
        snprintf(text + n, sizeof text - (size_t)n, " (%s%sdefault %s)", o->choices ? o->choices : "",
                 o->choices ? "; " : "", value);
    print_wrapped(out, text, at);
}

void help_program(FILE *out, const command *commands)
{
    fprintf(out, "reattn %s: unlimited context for language models in GGUF files\n\n"
                 "usage: reattn COMMAND [OPTIONS]\n\n", REATTN_VERSION);
    for (const command *c = commands; c->name; c++)
        fprintf(out, "  %-8s %s\n", c->name, c->summary);
    fprintf(out, "\n  reattn COMMAND --help   options and examples of a command\n"
                 "  reattn --version        version and CPU level\n\n"
                 "Ask a question about a text that is longer than the model was trained for:\n\n"
                 "  reattn run -m model.gguf -f book.txt -p \"Who is the narrator?\"\n");
}

void help_tasks(FILE *out, const command *cmd)
{
    fprintf(out, "usage: reattn %s %s\n\n%s\n", cmd->name, cmd->usage, cmd->about);
    for (const command *t = cmd->tasks; t->name; t++)
        fprintf(out, "  %-14s %s\n", t->name + strlen(cmd->name) + 1, t->summary);
    fprintf(out, "\n  reattn %s TASK --help   options and examples of a task\n\nExamples\n%s", cmd->name,
            cmd->examples);
}

void help_command(FILE *out, const command *cmd)
{
    const options defaults = args_default();
    fprintf(out, "usage: reattn %s %s\n\n%s\n", cmd->name, cmd->usage, cmd->about);
    for (const arg *first = args_table; first->names; first++) {
        bool heads_group = first->group && (first->commands & cmd->bit);
        for (const arg *a = args_table; a < first; a++)
            heads_group = heads_group && !((a->commands & cmd->bit) && a->group == first->group);
        if (!heads_group)
            continue;
        fprintf(out, "\n%s\n", first->group);
        for (const arg *a = first; a->names; a++)
            if ((a->commands & cmd->bit) && a->group == first->group)
                print_own(out, a, &defaults);
    }
    bool engine = cmd->bit & CMD_ENGINE;
    if (engine)
        fprintf(out, "\nEngine (the defaults fit the model: see reattn info; --policy list explains the policies)\n");
    for (const reattn_option *o = reattn_option_table(); o->name && engine; o++) {
        char name[64];
        int n = snprintf(name, sizeof name, "--%s", o->name);
        if (!args_find(cmd->bit, name, (size_t)n))
            print_engine(out, o, &defaults);
    }
    fprintf(out, "\nEvery option can also be set in the environment: REATTN_ARG_TOP_K=40 is --top-k 40.\n"
                 "Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.\n\nExamples\n%s", cmd->examples);
}
