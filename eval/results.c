/* results.c - see results.h. */
#include "results.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "text.h"

struct results {
    const char *path;
    FILE *file;
    bool timings;
    json_t *settings, *cases;
    json_t *by_id; /* id -> case */
};

static int no_memory(void)
{
    return cli_fail(EXIT_FAILED, "out of memory");
}

int results_read(const char *path, json_t **settings, json_t **cases, long *good)
{
    text all = {0};
    int rc = text_read(&all, path);
    *settings = NULL;
    *cases = json_array();
    size_t at = 0;
    for (int line = 1; !rc && at < all.len; line++) {
        const char *start = all.data + at, *end = memchr(start, '\n', all.len - at);
        json_error_t err;
        if (!end)
            break;
        json_t *one = json_loadb(start, (size_t)(end - start), JSON_ALLOW_NUL, &err);
        const char *record = json_string_value(json_object_get(one, "record"));
        if (!one || !record) {
            rc = cli_fail(EXIT_FAILED, "%s: line %d is no record of an evaluation%s%s", path, line, one ? "" : ": ",
                          one ? "" : err.text);
            json_decref(one);
        } else if (!strcmp(record, "settings") && line == 1) {
            *settings = one;
        } else {
            json_array_append_new(*cases, one);
        }
        at = (size_t)(end - all.data) + 1;
    }
    text_free(&all);
    if (!rc && at && !*settings)
        rc = cli_fail(EXIT_FAILED, "%s: the first line is no record with the settings of an evaluation", path);
    if (good)
        *good = (long)at;
    if (rc) {
        json_decref(*settings);
        json_decref(*cases);
        *settings = *cases = NULL;
    }
    return rc;
}

/* Settings that may differ between the runs of one file. */
static bool may_differ(const char *key)
{
    return !strcmp(key, "version") || !strcmp(key, "threads");
}

static int compare_settings(const char *path, const json_t *old, const json_t *new)
{
    const json_t *both[] = {new, old};
    for (int i = 0; i < 2; i++) {
        const char *key;
        json_t *value;
        json_object_foreach((json_t *)both[i], key, value)
        {
            const json_t *other = json_object_get(both[1 - i], key);
            if (may_differ(key) || (other && json_equal(value, other)))
                continue;
            char *was = json_dumps(json_object_get(old, key), JSON_ENCODE_ANY | JSON_COMPACT);
            char *is = json_dumps(json_object_get(new, key), JSON_ENCODE_ANY | JSON_COMPACT);
            int rc = cli_fail(EXIT_USAGE, "%s was begun with %s = %s, this run has %s: choose another --out", path, key,
                              was ? was : "nothing", is ? is : "nothing");
            free(was);
            free(is);
            return rc;
        }
    }
    return EXIT_DONE;
}

static int write_line(results *r, const json_t *record)
{
    if (!r->file)
        return EXIT_DONE;
    char *line = json_dumps(record, JSON_COMPACT | JSON_REAL_PRECISION(9));
    if (!line)
        return no_memory();
    bool fine = fprintf(r->file, "%s\n", line) >= 0 && !fflush(r->file);
    free(line);
    return fine ? EXIT_DONE : cli_fail(EXIT_FAILED, "%s: %s", r->path, strerror(errno));
}

static int open_file(results *r, const char *path)
{
    json_t *old = NULL, *cases = NULL;
    long good = 0;
    if (!access(path, F_OK)) {
        int rc = results_read(path, &old, &cases, &good);
        if (!rc && old)
            rc = compare_settings(path, old, r->settings);
        if (rc) {
            json_decref(old);
            json_decref(cases);
            return rc;
        }
        json_decref(r->cases);
        r->cases = cases;
    }
    r->file = fopen(path, good ? "r+" : "w");
    bool fine = r->file && !fseek(r->file, good, SEEK_SET) && !ftruncate(fileno(r->file), good);
    if (old)
        json_decref(old);
    if (!fine)
        return cli_fail(EXIT_FAILED, "%s: %s", path, strerror(errno));
    return good ? EXIT_DONE : write_line(r, r->settings);
}

int results_open(const char *path, json_t *settings, bool timings, results **out)
{
    results *r = calloc(1, sizeof *r);
    if (!r || !settings) {
        free(r);
        json_decref(settings);
        return no_memory();
    }
    *r = (results){
        .path = path, .timings = timings, .settings = settings, .cases = json_array(), .by_id = json_object()};
    json_object_set_new(settings, "record", json_string("settings"));
    int rc = path ? open_file(r, path) : EXIT_DONE;
    for (size_t i = 0; !rc && i < json_array_size(r->cases); i++) {
        json_t *one = json_array_get(r->cases, i);
        const char *id = json_string_value(json_object_get(one, "id"));
        if (!id || json_object_set(r->by_id, id, one))
            rc = cli_fail(EXIT_FAILED, "%s: case %zu has no id", path, i + 1);
    }
    if (rc) {
        results_close(r);
        return rc;
    }
    *out = r;
    return EXIT_DONE;
}

int results_has(results *r, const char *id, const json_t *options, bool *has)
{
    const json_t *one = json_object_get(r->by_id, id);
    *has = one != NULL;
    if (!one || json_equal(json_object_get(one, "options"), options))
        return EXIT_DONE;
    return cli_fail(EXIT_USAGE,
                    "%s has the case %s with other options: give the configuration another name, or choose "
                    "another --out",
                    r->path, id);
}

const json_t *results_find(const results *r, const char *id)
{
    return json_object_get(r->by_id, id);
}

static void drop_timings(json_t *one)
{
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe(one, next, key, value)
    {
        size_t n = strlen(key);
        if (!strcmp(key, "ms") || !strcmp(key, "timings") || (n > 3 && !strcmp(key + n - 3, "_ms")))
            json_object_del(one, key);
    }
}

int results_add(results *r, json_t *one)
{
    if (!one)
        return no_memory();
    if (!r->timings)
        drop_timings(one);
    int rc = write_line(r, one);
    const char *id = json_string_value(json_object_get(one, "id"));
    if (!rc && (!id || json_object_set(r->by_id, id, one) || json_array_append(r->cases, one)))
        rc = no_memory();
    json_decref(one);
    return rc;
}

const json_t *results_cases(const results *r)
{
    return r->cases;
}

const json_t *results_settings(const results *r)
{
    return r->settings;
}

void results_close(results *r)
{
    if (!r)
        return;
    if (r->file)
        fclose(r->file);
    json_decref(r->settings);
    json_decref(r->cases);
    json_decref(r->by_id);
    free(r);
}
