/* interrupt.c - see interrupt.h. */
#include "interrupt.h"

#include <signal.h>
#include <unistd.h>

static reattn_session *volatile watched;
static volatile sig_atomic_t pending;

static void on_interrupt(int signal)
{
    (void)signal;
    if (pending)
        _exit(EXIT_INTERRUPTED);
    pending = 1;
    if (watched)
        reattn_session_cancel(watched);
}

/* No SA_RESTART: waiting for a line of input must end as well. */
static void handle_by(void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler};
    sigaction(SIGINT, &action, NULL);
}

void interrupt_watch(reattn_session *session)
{
    watched = session;
    handle_by(session ? on_interrupt : SIG_DFL);
}

void interrupt_note(void)
{
    watched = NULL;
    handle_by(on_interrupt);
}

bool interrupt_pending(void)
{
    return pending;
}

void interrupt_clear(void)
{
    pending = 0;
}
