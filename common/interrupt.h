/* interrupt.h - Ctrl-C. */
#ifndef INTERRUPT_H
#define INTERRUPT_H

#include "cli.h"

/* From now on the first SIGINT cancels what the session is doing, and a second one ends the process at once. Without a
 * session SIGINT does what it does by default. */
void interrupt_watch(reattn_session *session);
/* True if a SIGINT came since the last interrupt_clear. */
bool interrupt_pending(void);
void interrupt_clear(void);

#endif
