/* interrupt.h - Ctrl-C. */
#ifndef INTERRUPT_H
#define INTERRUPT_H

#include "cli.h"

/* From now on the first SIGINT cancels what the session is doing, and a second one ends the process at once. Without a
 * session SIGINT does what it does by default. */
void interrupt_watch(reattn_session *session);
/* From now on, between two sessions, the first SIGINT is only noted: the caller looks with interrupt_pending. */
void interrupt_note(void);
/* True if a SIGINT came since the last interrupt_clear. */
bool interrupt_pending(void);
void interrupt_clear(void);

#endif
