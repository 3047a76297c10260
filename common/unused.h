/* unused.h - options that have no effect under the policies that they were given with. */
#ifndef UNUSED_H
#define UNUSED_H

#include "args.h"

/* Warns, in one line, of the options that were typed and that none of the n policies goes by. What the environment says
 * is for every run, so it is not warned of. */
void unused_check(const options *opt, const char *const *policies, int n);
/* Warns of one option, by long name, in the configuration of that name. */
void unused_check_config(const char *config, const char *option, const char *policy);

#endif
