/* params.h - see the option table in params.c. */
#ifndef REATTN_PARAMS_H
#define REATTN_PARAMS_H

#include "kv/store.h"
#include "reattn/reattn.h"

/* reattn_session_params_resolve for a given trained length. */
int reattn__params_resolve(reattn_session_params *params, int64_t n_ctx_train, reattn_error *err);

#endif
