/* configs.h - the configurations that are compared: from --policy and --config. */
#ifndef CONFIGS_H
#define CONFIGS_H

#include "eval.h"

/* Every policy of --policy with the engine options of the command line, then every --config; without either, the
 * engine options alone, named after their policy. */
int configs_read(const options *opt, config **out, int *n);
/* The one configuration of a server, which is not ours to set. */
int configs_server(const options *opt, config **out, int *n);
/* Resolves the session options for the model: what is automatic becomes a number. Again for another model. */
int configs_resolve(config *configs, int n, const reattn_model *model);
void configs_free(config *configs, int n);

#endif
