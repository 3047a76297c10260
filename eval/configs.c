/* configs.c - see configs.h. */
#include "configs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unused.h"

static int add(config **list, int *n, const options *opt, const char *name, size_t len)
{
    for (int i = 0; i < *n; i++)
        if (strlen((*list)[i].name) == len && !memcmp((*list)[i].name, name, len))
            return cli_fail(EXIT_USAGE, "two configurations are named %.*s", (int)len, name);
    if (!len || len >= sizeof(*list)->name || memchr(name, '/', len))
        return cli_fail(EXIT_USAGE, "a configuration's name has 1 to %zu characters and no '/', unlike '%.*s'",
                        sizeof(*list)->name - 1, (int)len, name);
    config *grown = realloc(*list, (size_t)(*n + 1) * sizeof *grown);
    if (!grown)
        return cli_fail(EXIT_FAILED, "out of memory");
    *list = grown;
    config *c = &grown[(*n)++];
    *c = (config){.opt = *opt};
    memcpy(c->name, name, len);
    return EXIT_DONE;
}

static int set(config *c, const char *name, size_t name_len, const char *value, size_t value_len)
{
    char option[64], text[512];
    reattn_error err;
    snprintf(option, sizeof option, "%.*s", (int)name_len, name);
    snprintf(text, sizeof text, "%.*s", (int)value_len, value);
    if (reattn_option_set(&c->opt.session, option, text, &err))
        return cli_fail(EXIT_USAGE, "--config %s: %s", c->name, err.msg);
    return EXIT_DONE;
}

/* NAME:OPTION=VALUE,... */
static int read_config(const options *opt, const char *typed, config **list, int *n)
{
    const char *colon = strchr(typed, ':');
    int rc = add(list, n, opt, typed, colon ? (size_t)(colon - typed) : strlen(typed));
    for (const char *s = colon ? colon + 1 : ""; *s && !rc;) {
        size_t len = strcspn(s, ","), name = strcspn(s, "=");
        if (name >= len)
            return cli_fail(EXIT_USAGE,
                            "--config takes NAME:OPTION=VALUE,..., such as wide:recall-span=64,tail=0, not '%s'",
                            typed);
        rc = set(&(*list)[*n - 1], s, name, s + name + 1, len - name - 1);
        s += len + (s[len] == ',');
    }
    for (const char *s = colon ? colon + 1 : ""; *s && !rc;) { /* now that its policy is known */
        char option[64];
        snprintf(option, sizeof option, "%.*s", (int)strcspn(s, "="), s);
        unused_check_config((*list)[*n - 1].name, option, (*list)[*n - 1].opt.session.policy);
        s += strcspn(s, ",");
        s += *s == ',';
    }
    return rc;
}

static int check_typed(const options *opt, const config *configs, int n)
{
    const char **policies = malloc((size_t)n * sizeof *policies);
    if (!policies)
        return cli_fail(EXIT_FAILED, "out of memory");
    for (int i = 0; i < n; i++)
        policies[i] = configs[i].opt.session.policy;
    unused_check(opt, policies, n);
    free(policies);
    return EXIT_DONE;
}

int configs_read(const options *opt, config **out, int *n)
{
    int rc = EXIT_DONE;
    *out = NULL;
    *n = 0;
    for (const char *s = opt->eval.policies; s && *s && !rc;) {
        size_t len = strcspn(s, ",");
        rc = add(out, n, opt, s, len);
        if (!rc)
            rc = set(&(*out)[*n - 1], "policy", strlen("policy"), s, len);
        s += len + (s[len] == ',');
    }
    for (int i = 0; i < opt->eval.configs.n && !rc; i++)
        rc = read_config(opt, opt->eval.configs.items[i], out, n);
    if (!rc && !*n)
        rc = add(out, n, opt, opt->session.policy, strlen(opt->session.policy));
    return rc ? rc : check_typed(opt, *out, *n);
}

int configs_server(const options *opt, config **out, int *n)
{
    *out = NULL;
    *n = 0;
    int rc = add(out, n, opt, "server", strlen("server"));
    if (!rc && !((*out)->options = json_object()))
        rc = cli_fail(EXIT_FAILED, "out of memory");
    return rc;
}

int configs_resolve(config *configs, int n, const reattn_model *model)
{
    for (config *c = configs; c < configs + n; c++) {
        reattn_session_params params = c->opt.session;
        reattn_error err;
        char value[512];
        if (reattn_session_params_resolve(&params, model, &err))
            return cli_fail(EXIT_USAGE, "configuration %s: %s", c->name, err.msg);
        json_decref(c->options);
        if (!(c->options = json_object()))
            return cli_fail(EXIT_FAILED, "out of memory");
        for (const reattn_option *o = reattn_option_table(); o->name; o++) {
            if (!strcmp(o->name, "threads")) /* the results are the same bits for any number of them */
                continue;
            reattn_option_get(&params, o->name, value, sizeof value);
            json_object_set_new(c->options, o->name, json_string(value));
        }
        if (c->opt.catalyst && reattn_policy_drops(params.policy))
            json_object_set_new(c->options, "catalyst", json_string(c->opt.catalyst));
    }
    return EXIT_DONE;
}

void configs_free(config *configs, int n)
{
    for (int i = 0; i < n; i++)
        json_decref(configs[i].options);
    free(configs);
}
