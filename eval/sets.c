/* sets.c - see sets.h. */
#include "sets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files.h"

bool sets_wanted(const sets *s, const char *name, bool *by_name)
{
    const char *list = s->suite.eval.opt->eval.tasks;
    *by_name = false;
    if (!list || !strcmp(list, "all"))
        return true;
    for (const char *p = list; *p;) {
        size_t n = strcspn(p, ",");
        if (strlen(name) == n && !memcmp(name, p, n))
            return *by_name = true;
        p += n + (p[n] == ',');
    }
    return false;
}

/* Every name of --tasks is that of a set. */
static int check_names(const sets *s)
{
    const char *list = s->suite.eval.opt->eval.tasks;
    for (const char *p = list ? list : ""; *p;) {
        size_t n = strcspn(p, ",");
        const set *one = s->all;
        while (one->name && (strlen(one->name) != n || memcmp(one->name, p, n)))
            one++;
        if (!one->name && !(n == 3 && !memcmp(p, "all", 3))) {
            text names = {0};
            for (one = s->all; one->name; one++)
                if (!text_append(&names, one == s->all ? "" : ", ", one == s->all ? 0 : 2) ||
                    !text_append(&names, one->name, strlen(one->name)))
                    break;
            int rc = cli_fail(EXIT_USAGE, "%s has no task %.*s; it has %s", s->suite.eval.task, (int)n, p, names.data);
            text_free(&names);
            return rc;
        }
        p += n + (p[n] == ',');
    }
    return EXIT_DONE;
}

int sets_add(sets *s, const set *one, json_t *item, int64_t index)
{
    int n = s->parts ? s->parts(one, item) : 1;
    question *grown = realloc(s->questions, (size_t)(s->suite.n + n + 1) * sizeof *grown);
    if (!grown || !item) {
        json_decref(item);
        s->questions = grown ? grown : s->questions;
        return cli_fail(EXIT_FAILED, "out of memory");
    }
    s->questions = grown;
    for (int i = 0; i < n; i++)
        grown[s->suite.n++] = (question){one, json_incref(item), index, i};
    json_decref(item);
    return EXIT_DONE;
}

static int read_set(sets *s, const set *one, bool by_name, int *read)
{
    const eval_options *opt = &s->suite.eval.opt->eval;
    char path[4096];
    json_t *items;
    snprintf(path, sizeof path, "%s/%s.jsonl", opt->data, one->name);
    if (access(path, F_OK))
        snprintf(path, sizeof path, "%s/%s.json", opt->data, one->name);
    if (access(path, F_OK))
        return by_name ? cli_fail(EXIT_FAILED, "there is no %s.jsonl in %s", one->name, opt->data) : EXIT_DONE;
    int rc = files_read(path, &items);
    if (rc)
        return rc;
    for (size_t i = 0; i < json_array_size(items) && !rc && (!opt->samples || (int64_t)i < opt->samples); i++) {
        json_t *item = json_array_get(items, i);
        rc = json_is_object(item) ? sets_add(s, one, json_incref(item), (int64_t)i)
                                  : cli_fail(EXIT_FAILED, "%s: item %zu is no JSON object", path, i + 1);
    }
    json_decref(items);
    *read += 1;
    return rc;
}

int sets_read(sets *s)
{
    const char *folder = s->suite.eval.opt->eval.data;
    int read = 0, rc = check_names(s);
    if (!rc && !folder)
        rc = cli_fail(EXIT_USAGE, "%s is read from the published files: --data FOLDER", s->suite.eval.task);
    for (const set *one = s->all; one->name && !rc; one++) {
        bool by_name;
        if (sets_wanted(s, one->name, &by_name))
            rc = read_set(s, one, by_name, &read);
    }
    if (!rc && !read)
        rc = cli_fail(EXIT_FAILED, "%s has none of the files of %s, such as %s.jsonl", folder, s->suite.eval.task,
                      s->all->name);
    return rc;
}

bool sets_fill(text *out, const char *template, const json_t *item)
{
    bool fine = true;
    while (*template && fine) {
        size_t plain = strcspn(template, "{"), n = strcspn(template + plain, "}");
        bool named = template[plain] && template[plain + n]; /* "{name}" begins there, n + 1 bytes */
        char name[64] = "", number[64];
        const char *value = NULL;
        if (named && n - 1 < sizeof name)
            snprintf(name, sizeof name, "%.*s", (int)n - 1, template + plain + 1);
        const json_t *member = *name ? json_object_get(item, name) : NULL;
        if (json_is_integer(member)) {
            snprintf(number, sizeof number, "%lld", (long long)json_integer_value(member));
            value = number;
        } else if (json_is_string(member)) {
            value = json_string_value(member);
        }
        fine = text_append(out, template, plain + (value || !template[plain] ? 0 : 1)) &&
               (!value || text_append(out, value, strlen(value)));
        template += plain + (value ? n + 1 : template[plain] != 0);
    }
    return fine;
}

/* ----------------------------------------------------------------------------------------------- suite ------- */

static void name_of(const suite *s, int64_t i, char *buf, size_t cap)
{
    const question *q = &((const sets *)s->task)->questions[i];
    snprintf(buf, cap, "%s/%lld/%d", q->set->name, (long long)q->index, q->part);
}

/* About four bytes a token. */
static int64_t cost_of(const suite *s, const config *c, int64_t i, int64_t before)
{
    const sets *j = s->task;
    const question *q = &j->questions[i];
    size_t bytes = strlen(q->set->prompt);
    const char *key;
    json_t *value;
    if (before >= 0 && j->questions[before].item == q->item) /* the text is there already */
        return c->opt.session.chunk;
    json_object_foreach(q->item, key, value) bytes += json_string_length(value);
    return (int64_t)bytes / 4 + 1;
}

static int make_case(suite *s, int64_t i, sample *out)
{
    const sets *j = s->task;
    const question *q = &j->questions[i];
    out->limit = s->eval.opt->eval.n_answer ? s->eval.opt->eval.n_answer : q->set->limit;
    out->plain = q->set->plain;
    out->set = q->set;
    out->item = json_incref(q->item);
    out->own = json_pack("{s:s, s:I, s:i}", "set", q->set->name, "index", (json_int_t)q->index, "part", q->part);
    return out->own ? j->fill(q, out) : cli_fail(EXIT_FAILED, "out of memory");
}

int sets_run(sets *s, json_t *settings, const pivot *tables, int n_tables)
{
    suite *u = &s->suite;
    u->task = s;
    u->name = name_of;
    u->cost = cost_of;
    u->make = make_case;
    /* Room, which only llama.cpp's own cache needs to know: a token has at least two bytes on average. */
    for (int64_t i = 0; i < u->n; i++) {
        int64_t most = 2 * cost_of(u, NULL, i, -1) + s->questions[i].set->limit + 1024;
        u->room = most > u->room ? most : u->room;
    }
    return suite_run(u, settings, tables, n_tables);
}

void sets_free(sets *s)
{
    for (int64_t i = 0; i < s->suite.n && s->questions; i++)
        json_decref(s->questions[i].item);
    free(s->questions);
    eval_end(&s->suite.eval);
}
