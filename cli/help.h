/* help.h - what --help prints. */
#ifndef HELP_H
#define HELP_H

#include <stdio.h>

#include "args.h"

typedef struct command {
    const char *name;
    unsigned bit;
    const char *mode; /* word that must follow the command, which has an entry for each of them; or NULL */
    int (*run)(const options *opt);
    const char *summary;  /* one line */
    const char *usage;    /* after "reattn NAME" */
    const char *about;    /* a few sentences */
    const char *examples; /* lines, indented */
} command;

/* The commands, ended by an entry whose name is NULL. */
void help_program(FILE *out, const command *commands);
/* The modes of a command. */
void help_modes(FILE *out, const command *commands, const char *name);
/* One command: its groups of options, those of the engine from the library's table. */
void help_command(FILE *out, const command *cmd);

#endif
