/* params.c - the one table of session options: it sets, prints, bounds and explains them, here and in the program. */
#include "params.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/local.h"
#include "policy/policy.h"

#define TOKENS_MAX (INT64_C(1) << 40)

/* Field, kind, name, alias, argument, min, max, default, choices, help. The preset comes before what it sets: the
 * program reads its environment in this order. */
#define OPTIONS(X)                                                                                                     \
    X(policy, NAME, "policy", NULL, "NAME", 0, 0, 0, NULL, "which keys are attended to; 'list' explains them")         \
    X(preset, ENUM, "preset", NULL, "NAME", 0, 1, 0, "default|paper",                                                  \
      "recall as measured best here, or as the paper has it; options after it change it")                              \
    X(keep, INT, "keep", NULL, "G", -1, TOKENS_MAX, -1, NULL,                                                          \
      "first tokens, always in scope (-1 = 32; 128 under infllm)")                                                     \
    X(local, INT, "local", NULL, "L", 0, TOKENS_MAX, 0, NULL,                                                          \
      "last tokens, always in scope (0 = the policy's own: under reattention a quarter of the trained length, at "     \
      "most 512; under streaming and infllm half of it, at most 4096)")                                                \
    X(local_per, ENUM, "local-per", NULL, "WHO", 0, 1, 0, "query|step",                                                \
      "reattention, streaming: every query's own last tokens, or, as the paper has it, those of a step as a whole")    \
    X(recall_k, INT, "recall-k", NULL, "K", 1, 64, 4, NULL,                                                            \
      "keys that each query and head votes for; infllm: that stand for a block")                                       \
    X(recall_span, INT, "recall-span", NULL, "S", 0, 4096, 0, NULL,                                                    \
      "tokens recalled around each chosen key (0 = 32), or of a block (0 = 128 under infllm)")                         \
    X(recall_max, INT, "recall-max", NULL, "M", 0, 65536, 0, NULL,                                                     \
      "most spans a step (0 = what the trained length leaves, at most 127; 16 blocks under infllm)")                   \
    X(recall_from, INT, "recall-from", NULL, "N", 0, TOKENS_MAX, 0, NULL,                                              \
      "reattention: a text of up to N tokens is attended to whole (0 = as many as the scope holds)")                   \
    X(recall_per_head, ENUM, "recall-per", NULL, "WHO", 0, 1, 0, "layer|head",                                         \
      "one set of spans a layer or a KV head")                                                                         \
    X(recall_vote, ENUM, "recall-vote", NULL, "HOW", 0, 1, 1, "count|mass",                                            \
      "a vote counts 1, or its share of the query's softmax over its top k")                                           \
    X(recall_window, INT, "recall-window", NULL, "R", 1, 4096, 32, NULL,                                               \
      "in decode, so many last queries vote together")                                                                 \
    X(recall_type, ENUM, "recall-type", NULL, "TYPE", 0, 4, 0, "qk|k|v|qkv|qkv2",                                      \
      "what scores a key: q.k, k.k, v.v, or q.k times the 1- or 2-norm of v")                                          \
    X(recall_when, ENUM, "recall-when", NULL, "WHEN", 0, 2, 0, "always|decode|prompt", "in which steps to recall")     \
    X(positions, ENUM, "positions", NULL, "HOW", 0, 1, 0, "reassigned|original",                                       \
      "count positions through the scope, or keep those of the text")                                                  \
    X(tail, INT, "tail", NULL, "W", 0, 4096, 24, NULL, "the last W tokens of a prompt are a chunk of their own")       \
    X(chunk, INT, "chunk", NULL, "C", 1, 4096, 512, NULL, "tokens of a prompt that are read at a time")                \
    X(ctx_train, INT, "ctx-train", NULL, "N", 0, TOKENS_MAX, 0, NULL,                                                  \
      "trained length that the method goes by (0 = the model's)")                                                      \
    X(group, INT, "group", NULL, "G", 0, 65536, 0, NULL,                                                               \
      "far tokens that share a position: selfextend (0 = what -c needs, else 8), mesa (0 = 50)")                       \
    X(shift, INT, "shift", NULL, "S", 0, TOKENS_MAX, 0, NULL,                                                          \
      "string: distances from S on are shifted down by S (0 = 0.33 of the trained length)")                            \
    X(scale, INT, "scale", NULL, "X", 0, 1024, 0, NULL,                                                                \
      "ntk, yarn: times the trained length (0 = as the text grows); dynamic-ntk: its factor (0 = 2); string: "         \
      "sharpens as YaRN does for X (0 = off)")                                                                         \
    X(clex, PATH, "clex", NULL, "FILE", 0, 0, 0, NULL,                                                                 \
      "clex: GGUF file with its trained numbers; without it they are looked for in the model's file")                  \
    X(pot, INT, "pot", NULL, "M", 0, TOKENS_MAX, 0, NULL,                                                              \
      "most tokens held under infinipot (0 = half the trained length)")                                                \
    X(pot_keep, INT, "pot-keep", NULL, "N", 0, TOKENS_MAX, 0, NULL,                                                    \
      "tokens that stay when the pot is full (0 = half of it)")                                                        \
    X(pot_novelty, INT, "pot-novelty", NULL, "PERCENT", 0, 100, 50, NULL,                                              \
      "so many of these are chosen by novelty, the others by what the catalyst attends to")                            \
    X(type_k, ENUM, "cache-type-k", "-ctk", "TYPE", 0, 3, 3, "f32|f16|q8_0|split", "how keys are stored")              \
    X(type_v, ENUM, "cache-type-v", "-ctv", "TYPE", 0, 2, 1, "f32|f16|q8_0", "how values are stored")                  \
    X(ctx_limit, INT, "ctx-size", "-c", "N", 0, TOKENS_MAX, 0, NULL, "most tokens a session may hold (0 = no limit)")  \
    X(mem_limit, BYTES, "mem-limit", NULL, "BYTES", 0, INT64_MAX, 0, NULL,                                             \
      "most memory for keys and values, e.g. 512M, 8G (0 = no limit)")                                                 \
    X(n_threads, INT, "threads", "-t", "N", 0, 1024, 0, NULL, "threads (0 = all cores)")                               \
    X(flash, ENUM, "flash-attn", "-fa", "WHEN", 0, 2, 0, "auto|on|off",                                                \
      "llama.cpp's flash attention under --policy native (auto = on, unless keys and values are f32)")                 \
    X(engine, ENUM, "engine", NULL, "WHERE", 0, 1, 0, "auto|cpu",                                                      \
      "attend where a layer lies (-ngl), on a GPU too if it can be done there, or always on the CPU")                  \
    X(store, ENUM, "store", NULL, "WHERE", 0, 1, 0, "auto|host",                                                       \
      "keep keys and values where their layer attends, or always in the host's memory: a GPU gets what is in scope")

static const reattn_option table[] = {
#define ROW(field, kind, name, alias, arg, min, max, def, choices, help)                                               \
    {name, alias, arg, REATTN_OPTION_##kind, min, max, def, choices, help},
    OPTIONS(ROW)
#undef ROW
    {0},
};

static const struct {
    size_t offset, size;
} fields[] = {
#define ROW(field, kind, name, alias, arg, min, max, def, choices, help)                                               \
    {offsetof(reattn_session_params, field), sizeof(((reattn_session_params *)0)->field)},
    OPTIONS(ROW)
#undef ROW
};

const reattn_option *reattn_option_table(void)
{
    return table;
}

static int find(const char *name)
{
    for (int i = 0; name && table[i].name; i++)
        if (strcmp(table[i].name, name) == 0) return i;
    return -1;
}

/* "keep local" has "local". */
static bool names_have(const char *names, const char *name)
{
    size_t len = strlen(name);
    for (const char *s = names ? names : ""; *s; s += strcspn(s, " "), s += strspn(s, " "))
        if (strcspn(s, " ") == len && memcmp(s, name, len) == 0) return true;
    return false;
}

bool reattn_policy_uses(const char *policy, const char *name)
{
    /* What all policies go by; and those of this engine, which native is not. */
    static const char all[] = "policy preset ctx-train tail chunk cache-type-k cache-type-v ctx-size threads",
                      engine[] = "mem-limit engine store";
    const reattn__policy *p = policy ? reattn__policy_find(policy) : NULL;
    if (!p || !name) return false;
    return names_have(all, name) || (!p->native && names_have(engine, name)) || names_have(p->options, name);
}

static bool is_text(int i)
{
    return table[i].kind == REATTN_OPTION_NAME || table[i].kind == REATTN_OPTION_PATH;
}

static void set_field(reattn_session_params *p, int i, int64_t value)
{
    int narrow = (int)value;
    if (fields[i].size == sizeof narrow) memcpy((char *)p + fields[i].offset, &narrow, sizeof narrow);
    else memcpy((char *)p + fields[i].offset, &value, sizeof value);
}

static int64_t get_field(const reattn_session_params *p, int i)
{
    int narrow;
    int64_t value;
    if (fields[i].size == sizeof narrow) {
        memcpy(&narrow, (const char *)p + fields[i].offset, sizeof narrow);
        return narrow;
    }
    memcpy(&value, (const char *)p + fields[i].offset, sizeof value);
    return value;
}

/* "layer|head", "head" -> 1; -1 if it is none of them. */
static int choice_of(const char *choices, const char *value)
{
    size_t n = strlen(value);
    for (int i = 0;; i++) {
        size_t len = strcspn(choices, "|");
        if (len == n && memcmp(choices, value, n) == 0) return i;
        if (!choices[len]) return -1;
        choices += len + 1;
    }
}

/* A whole number, with K, M, G for 2^10, 2^20, 2^30. */
static int parse_number(const char *text, int64_t *value)
{
    char *end;
    errno = 0;
    long long x = strtoll(text, &end, 10);
    if (end == text || errno) return -1;
    int shift = *end == 'K' || *end == 'k' ? 10 : *end == 'M' || *end == 'm' ? 20 : *end == 'G' || *end == 'g' ? 30 : 0;
    if (shift) end++;
    if (*end || x > (INT64_MAX >> shift) || x < -(INT64_MAX >> shift)) return -1;
    *value = x * (INT64_C(1) << shift);
    return 0;
}

/* Sets what presets differ in. The paper: every query's chunk votes, its last ones too; a vote is a vote. What follows
 * from the trained length is automatic again. */
static void apply_preset(reattn_session_params *p, int preset)
{
    static const struct {
        const char *name;
        int64_t paper;
    } rows[] = {{"keep", 32},       {"local", 0},      {"local-per", 1},   {"recall-k", 4},
                {"recall-span", 32}, {"recall-max", 0}, {"recall-from", 1}, {"recall-per", 0},
                {"recall-vote", 0},  {"recall-type", 0}, {"recall-when", 0}, {"recall-window", 32},
                {"positions", 0},    {"tail", 0}};
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        int i = find(rows[r].name);
        set_field(p, i, preset == REATTN_PRESET_PAPER ? rows[r].paper : table[i].def);
    }
}

int reattn_option_set(reattn_session_params *p, const char *name, const char *value, reattn_error *err)
{
    int i = find(name);
    int64_t x = 0;
    if (!p || i < 0 || !value) return reattn__fail(err, REATTN_E_ARG, "there is no option %s", name ? name : "(null)");
    const reattn_option *o = &table[i];
    if (o->kind == REATTN_OPTION_NAME) {
        if (!reattn__policy_find(value))
            return reattn__fail(err, REATTN_E_ARG, "--%s %s: there is no such policy; --policy list names them", name,
                                value);
        snprintf(p->policy, sizeof p->policy, "%s", value);
        return REATTN_OK;
    }
    if (o->kind == REATTN_OPTION_PATH) {
        if (strlen(value) >= fields[i].size)
            return reattn__fail(err, REATTN_E_ARG, "--%s: a path of %zu bytes, at most %zu are taken", name,
                                strlen(value), fields[i].size - 1);
        memset((char *)p + fields[i].offset, 0, fields[i].size);
        memcpy((char *)p + fields[i].offset, value, strlen(value));
        return REATTN_OK;
    }
    if (o->kind == REATTN_OPTION_ENUM) {
        int choice = choice_of(o->choices, value);
        if (choice < 0) return reattn__fail(err, REATTN_E_ARG, "--%s %s: must be one of %s", name, value, o->choices);
        set_field(p, i, choice);
        if (fields[i].offset == offsetof(reattn_session_params, preset)) apply_preset(p, choice);
        return REATTN_OK;
    }
    if (parse_number(value, &x) != 0)
        return reattn__fail(err, REATTN_E_ARG, "--%s %s: not a whole number", name, value);
    if (x < o->min || x > o->max)
        return reattn__fail(err, REATTN_E_ARG, "--%s %s: must be %lld .. %lld", name, value, (long long)o->min,
                            (long long)o->max);
    set_field(p, i, x);
    return REATTN_OK;
}

int reattn_option_get(const reattn_session_params *p, const char *name, char *buf, size_t cap)
{
    int i = find(name);
    if (i < 0) return snprintf(buf, cap, "%s", "");
    if (is_text(i)) return snprintf(buf, cap, "%s", (const char *)p + fields[i].offset);
    int64_t value = get_field(p, i);
    if (table[i].kind != REATTN_OPTION_ENUM) return snprintf(buf, cap, "%lld", (long long)value);
    const char *choice = table[i].choices;
    for (int64_t c = 0; c < value; c++) choice += strcspn(choice, "|") + 1;
    return snprintf(buf, cap, "%.*s", (int)strcspn(choice, "|"), choice);
}

reattn_session_params reattn_session_params_default(void)
{
    reattn_session_params p = {.size = sizeof p, .policy = "reattention"};
    for (int i = 0; table[i].name; i++)
        if (!is_text(i)) set_field(&p, i, table[i].def);
    return p;
}

/* What a caller may have written into the struct without the setter. */
static int check_bounds(const reattn_session_params *p, reattn_error *err)
{
    if (p->size != sizeof *p)
        return reattn__fail(err, REATTN_E_ARG, "reattn_session_params.size is %zu, not %zu", p->size, sizeof *p);
    if (!memchr(p->policy, 0, sizeof p->policy) || !reattn__policy_find(p->policy))
        return reattn__fail(err, REATTN_E_ARG, "there is no policy %.*s", (int)sizeof p->policy, p->policy);
    for (int i = 0; table[i].name; i++) {
        if (is_text(i)) {
            if (memchr((const char *)p + fields[i].offset, 0, fields[i].size)) continue;
            return reattn__fail(err, REATTN_E_ARG, "--%s is not ended by a NUL", table[i].name);
        }
        int64_t x = get_field(p, i);
        if (x < table[i].min || x > table[i].max)
            return reattn__fail(err, REATTN_E_ARG, "--%s %lld: must be %lld .. %lld", table[i].name, (long long)x,
                                (long long)table[i].min, (long long)table[i].max);
    }
    return REATTN_OK;
}

int reattn__params_resolve(reattn_session_params *out, int64_t N, reattn_error *err)
{
    reattn_session_params p = *out;
    int code = check_bounds(&p, err);
    if (code != REATTN_OK) return code;
    const reattn__policy *policy = reattn__policy_find(p.policy);
    if (p.n_threads == 0) p.n_threads = reattn__cores();
    if (p.ctx_train == 0) p.ctx_train = N;
    N = p.ctx_train;
    if (p.keep < 0) p.keep = policy->keep ? policy->keep : 32;
    if (p.recall_span == 0) p.recall_span = policy->span ? policy->span : 32;
    const bool spans = reattn_policy_uses(p.policy, "recall-max"), whole = reattn_policy_uses(p.policy, "recall-from");
    if (!spans) p.recall_max = 0;
    if (!whole) p.recall_from = 0;
    bool automatic = p.local == 0, per_query = !policy->own_local && p.local_per == REATTN_LOCAL_PER_QUERY;
    if (policy->resolve && (code = policy->resolve(&p, err)) != REATTN_OK) return code;
    if (p.local == 0) p.local = REATTN__MIN(N / 2, INT64_C(4096));
    if (automatic) {
        /* A model of a few hundred tokens: the default chunk does not fit its half, or the local part if that is all
         * that a chunk sees of itself. One that was asked for is not cut. */
        int64_t room = policy->finite ? p.local : REATTN__MAX(p.local, N / 2);
        if (policy->finite && per_query) room = REATTN__MIN(room, N - p.keep - p.local + 1);
        if (p.chunk == 512) p.chunk = REATTN__MIN(p.chunk, REATTN__MAX(room, 1));
        p.tail = REATTN__MIN(p.tail, p.chunk);
    }
    int64_t last = per_query ? reattn__last_tokens(&p, p.chunk) : p.local; /* most last tokens of a step */
    if (p.recall_max == 0 && spans) {
        int64_t room = N - p.keep - last;
        p.recall_max = REATTN__MIN(policy->max ? policy->max : INT64_C(127), REATTN__MAX(room, 0) / p.recall_span);
    }
    if (p.pot == 0) p.pot = N / 2;
    if (p.pot_keep == 0) p.pot_keep = p.pot / 2;
    if (policy->budget && (p.pot > N || p.pot_keep < 1 || p.pot_keep >= p.pot))
        return reattn__fail(
            err, REATTN_E_ARG,
            "--pot %lld with --pot-keep %lld: the pot must hold more than it keeps, and no more than the "
            "%lld tokens that the model was trained on",
            (long long)p.pot, (long long)p.pot_keep, (long long)N);
    if (p.tail > p.chunk)
        return reattn__fail(err, REATTN_E_ARG, "--tail %lld is larger than --chunk %lld: it is read as one chunk",
                            (long long)p.tail, (long long)p.chunk);
    if (policy->finite) {
        int64_t scope = p.keep + p.recall_max * p.recall_span + last;
        if (!per_query && p.chunk > p.local)
            return reattn__fail(err, REATTN_E_ARG, "--local %lld is smaller than --chunk %lld: a chunk must see itself",
                                (long long)p.local, (long long)p.chunk);
        if (scope > N)
            return reattn__fail(
                err, REATTN_E_ARG,
                "the scope can reach %lld tokens (keep %lld + %lld spans of %lld + local %lld%s), the model "
                "was trained on %lld",
                (long long)scope, (long long)p.keep, (long long)p.recall_max, (long long)p.recall_span,
                (long long)p.local, per_query ? " of each token of a chunk" : "", (long long)N);
        if (p.recall_from > N)
            return reattn__fail(
                err, REATTN_E_ARG,
                "--recall-from %lld: the model was trained on %lld tokens and cannot attend to more at once",
                (long long)p.recall_from, (long long)N);
        if (p.recall_from == 0 && whole) p.recall_from = scope;
    }
    *out = p;
    return REATTN_OK;
}

int reattn_session_params_resolve(reattn_session_params *params, const reattn_model *model, reattn_error *err)
{
    reattn_model_info info;
    if (!params || !model) return reattn__fail(err, REATTN_E_ARG, "params and model must not be NULL");
    reattn_model_get_info(model, &info);
    int code = reattn__params_resolve(params, info.n_ctx_train, err);
    if (code == REATTN_OK && !params->clex[0] && reattn__policy_find(params->policy)->reads_file)
        code = reattn_option_set(params, "clex", info.path, err);
    return code;
}
