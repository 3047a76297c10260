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
    reattn_session_cancel(watched);
}

void interrupt_watch(reattn_session *session)
{
    /* No SA_RESTART: waiting for a line of input must end as well. */
    struct sigaction action = {.sa_handler = session ? on_interrupt : SIG_DFL};
    watched = session;
    sigaction(SIGINT, &action, NULL);
}

bool interrupt_pending(void)
{
    return pending;
}

void interrupt_clear(void)
{
    pending = 0;
}
