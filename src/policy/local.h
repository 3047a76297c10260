/* local.h - how many last tokens a step's scope holds. */
#ifndef REATTN_LOCAL_H
#define REATTN_LOCAL_H

#include "reattn/reattn.h"

/* Of a step of T tokens. The paper counts from the end of the text, so the first query of a chunk has next to nothing
 * just before it but what is recalled; otherwise every query has its own last `local` tokens, itself included. */
static inline int64_t reattn__last_tokens(const reattn_session_params *params, int64_t T)
{
    return params->local + (params->local_per == REATTN_LOCAL_PER_QUERY ? T - 1 : 0);
}

/* Most tokens of a step, if every scope is to hold the last of them. */
static inline int64_t reattn__most_tokens(const reattn_session_params *params)
{
    return params->local_per == REATTN_LOCAL_PER_STEP ? params->local : params->chunk;
}

#endif
