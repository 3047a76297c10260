/* unused.c - see unused.h. */
#include "unused.h"

#include <stdio.h>
#include <string.h>

/* Options of the program that are not policies' affair count as used. */
static bool uses(const char *policy, const char *option)
{
    if (!strcmp(option, "catalyst")) /* the program's own, and no field of the library's parameters */
        return reattn_policy_drops(policy);
    for (const reattn_option *o = reattn_option_table(); o->name; o++)
        if (!strcmp(o->name, option))
            return reattn_policy_uses(policy, option);
    return true;
}

static void append(char list[512], const char *between, const char *name)
{
    size_t len = strlen(list);
    snprintf(list + len, 512 - len, "%s%s", len ? between : "", name);
}

void unused_check(const options *opt, const char *const *policies, int n)
{
    char names[512] = "", list[512] = "";
    int n_names = 0;
    for (int p = 0; p < n; p++)
        append(list, ",", policies[p]);
    for (int i = 0; i < opt->typed.n; i++) {
        bool used = false;
        for (int p = 0; p < n && !used; p++)
            used = uses(policies[p], opt->typed.items[i]);
        if (used)
            continue;
        append(names, ", --", opt->typed.items[i]);
        n_names++;
    }
    if (n_names)
        cli_note("--%s %s no effect under --policy %s", names, n_names > 1 ? "have" : "has", list);
}

void unused_check_config(const char *config, const char *option, const char *policy)
{
    if (!uses(policy, option))
        cli_note("--config %s: %s has no effect under the policy %s", config, option, policy);
}
