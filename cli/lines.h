/* lines.h - lines of input: edited on a terminal, plain otherwise. */
#ifndef LINES_H
#define LINES_H

#include "cli.h"

typedef struct lines lines;

/* Reads standard input. */
int lines_open(lines **out);
/* The next line without its newline, valid until the next call; NULL at the end of input or on Ctrl-C without a
 * terminal. On a terminal Ctrl-C drops the line that is being typed. */
const char *lines_next(lines *l);
bool lines_are_edited(const lines *l);
/* Accepts NULL. */
void lines_close(lines *l);

#endif
