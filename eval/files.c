/* files.c - see files.h. */
#include "files.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli.h"
#include "text.h"

int files_create(FILE **out, const char *format, ...)
{
    char path[4096];
    va_list list;
    va_start(list, format);
    vsnprintf(path, sizeof path, format, list);
    va_end(list);
    for (char *slash = path; (slash = strchr(slash + 1, '/'));) {
        *slash = 0;
        mkdir(path, 0777); /* what is wrong shows when the file is opened */
        *slash = '/';
    }
    *out = fopen(path, "w");
    return *out ? EXIT_DONE : cli_fail(EXIT_FAILED, "%s: %s", path, strerror(errno));
}

int files_line(FILE *f, json_t *value)
{
    if (!value)
        return cli_fail(EXIT_FAILED, "out of memory");
    bool fine = !json_dumpf(value, f, JSON_COMPACT) && fputc('\n', f) != EOF;
    json_decref(value);
    return fine ? EXIT_DONE : cli_fail(EXIT_FAILED, "the file could not be written: %s", strerror(errno));
}

int files_close(FILE *f)
{
    return f && fclose(f) ? cli_fail(EXIT_FAILED, "the file could not be written: %s", strerror(errno)) : EXIT_DONE;
}

int files_read(const char *path, json_t **out)
{
    text all = {0};
    json_error_t err;
    int rc = text_read(&all, path);
    *out = NULL;
    if (!rc && all.len && all.data[strspn(all.data, " \t\r\n")] == '[')
        *out = json_loadb(all.data, all.len, JSON_ALLOW_NUL, &err);
    else if (!rc)
        *out = json_array();
    if (!rc && !*out)
        rc = cli_fail(EXIT_FAILED, "%s: line %d: %s", path, err.line, err.text);
    bool lines = !rc && !json_array_size(*out);
    for (size_t at = 0, line = 1; lines && !rc && at < all.len; line++) {
        size_t n = strcspn(all.data + at, "\n");
        if (strspn(all.data + at, " \t\r") < n) {
            json_t *one = json_loadb(all.data + at, n, JSON_ALLOW_NUL, &err);
            if (!one)
                rc = cli_fail(EXIT_FAILED, "%s: line %zu: %s", path, line, err.text);
            else
                json_array_append_new(*out, one);
        }
        at += n + 1;
    }
    text_free(&all);
    if (rc) {
        json_decref(*out);
        *out = NULL;
    }
    return rc;
}
