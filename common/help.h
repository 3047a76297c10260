/* help.h - what --help prints. */
#ifndef HELP_H
#define HELP_H

#include <stdio.h>

#include "args.h"

typedef struct command {
    const char *name;
    unsigned bit;
    int (*run)(const options *opt);
    const char *summary;  /* one line */
    const char *usage;    /* after "reattn NAME" */
    const char *about;    /* a few sentences */
    const char *examples; /* lines, indented */
    const struct command *tasks; /* words that may follow, each a command of its own; NULL if there are none */
} command;

/* The tasks of `reattn eval`, ended by an entry whose name is NULL. */
extern const command eval_tasks[];

/* The commands, ended by an entry whose name is NULL. */
void help_program(FILE *out, const command *commands);
/* One command: its groups of options, those of the engine from the library's table. */
void help_command(FILE *out, const command *cmd);
/* A command that has tasks: their list. */
void help_tasks(FILE *out, const command *cmd);

#endif
