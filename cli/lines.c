/* lines.c - see lines.h. */
#include "lines.h"

#include <histedit.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "interrupt.h"

struct lines {
    EditLine *editor; /* NULL without a terminal */
    History *history;
    char *line;
    size_t cap;
};

static char *prompt_text(EditLine *editor)
{
    (void)editor;
    static char text[] = "> ";
    return text;
}

static int open_editor(lines *l)
{
    HistEvent event;
    setlocale(LC_CTYPE, ""); /* the editor counts columns of UTF-8 characters */
    l->history = history_init();
    /* Not standard output, which carries only answers. */
    l->editor = el_init("reattn", stdin, stderr, stderr);
    if (!l->history || !l->editor)
        return cli_fail(EXIT_FAILED, "the terminal cannot be used for editing");
    history(l->history, &event, H_SETSIZE, 500);
    el_set(l->editor, EL_PROMPT, prompt_text);
    el_set(l->editor, EL_EDITOR, "emacs");
    el_set(l->editor, EL_HIST, history, l->history);
    el_source(l->editor, NULL);
    return EXIT_DONE;
}

int lines_open(lines **out)
{
    lines *l = calloc(1, sizeof *l);
    if (!l)
        return cli_fail(EXIT_FAILED, "out of memory");
    int rc = isatty(STDIN_FILENO) ? open_editor(l) : EXIT_DONE;
    if (rc) {
        lines_close(l);
        return rc;
    }
    *out = l;
    return EXIT_DONE;
}

static const char *next_edited(lines *l)
{
    int n;
    HistEvent event;
    const char *got;
    while (!(got = el_gets(l->editor, &n)) && interrupt_pending()) { /* Ctrl-C: drop the line, ask again */
        interrupt_clear();
        el_reset(l->editor);
        fputc('\n', stderr);
    }
    if (!got || n <= 0)
        return NULL;
    if (strcspn(got, "\n"))
        history(l->history, &event, H_ENTER, got);
    free(l->line);
    return l->line = strndup(got, strcspn(got, "\n"));
}

const char *lines_next(lines *l)
{
    if (l->editor)
        return next_edited(l);
    ssize_t n = getline(&l->line, &l->cap, stdin);
    if (n < 0)
        return NULL;
    l->line[strcspn(l->line, "\n")] = 0;
    return l->line;
}

bool lines_are_edited(const lines *l)
{
    return l->editor;
}

void lines_close(lines *l)
{
    if (!l)
        return;
    if (l->editor)
        el_end(l->editor);
    if (l->history)
        history_end(l->history);
    free(l->line);
    free(l);
}
