/* table.c - the one list of policies. */
#include <string.h>

#include "policy.h"

static const reattn__policy *const policies[] = {
    &reattn__policy_reattention,
    &reattn__policy_streaming,
    &reattn__policy_lm_infinite,
    &reattn__policy_selfextend,
    &reattn__policy_dca,
    &reattn__policy_string,
    &reattn__policy_mesa,
    &reattn__policy_ntk,
    &reattn__policy_dynamic_ntk,
    &reattn__policy_yarn,
    &reattn__policy_clex,
    &reattn__policy_mspoe,
    &reattn__policy_infllm,
    &reattn__policy_infinipot,
    &reattn__policy_full,
    &reattn__policy_native,
};

enum { N_POLICY = sizeof policies / sizeof *policies };

const reattn__policy *reattn__policy_find(const char *name)
{
    for (int i = 0; i < N_POLICY; i++)
        if (strcmp(policies[i]->info.name, name) == 0) return policies[i];
    return NULL;
}

bool reattn_policy_drops(const char *name)
{
    const reattn__policy *policy = name ? reattn__policy_find(name) : NULL;
    return policy && policy->budget;
}

const reattn_policy_info *reattn_policy_list(void)
{
    static reattn_policy_info list[N_POLICY + 1];
    for (int i = 0; i < N_POLICY; i++) list[i] = policies[i]->info; /* the same bytes on every call */
    return list;
}
