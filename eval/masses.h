/* masses.h - how much of the exact attention the latest step's scope held, by layer and head. */
#ifndef MASSES_H
#define MASSES_H

#include <jansson.h>
#include <stdbool.h>

#include "cli.h"

typedef struct masses masses;

int masses_open(reattn_session *session, masses **out);
/* Accepts NULL. */
void masses_close(masses *m);
/* Steps are measured while this is on, and take longer. */
void masses_measure(masses *m, bool on);

/* Of the last step that was measured, if that was the session's last token's; else an empty object:
 *   mass_share     mean over layers and heads of the share of the softmax without positions over all keys
 *   mass_layers    [n_layer] mean over heads
 *   mass_heads     [n_layer][n_head]
 *   rotated_share, rotated_heads   the same of the model's own softmax, within the trained length
 * NULL if there is no memory (and the error was printed). */
json_t *masses_json(const masses *m);

#endif
