/* numbers.c - see numbers.h. */
#include "numbers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

enum { MOST = 100000 };

static int wrong(const char *option, const char *typed, int64_t min, int64_t max)
{
    return cli_fail(EXIT_USAGE, "%s takes whole numbers from %lld to %lld, such as 8K,16K or FROM:TO:STEP, not '%s'",
                    option, (long long)min, (long long)max, typed);
}

const char *number_read(const char *s, int64_t *out)
{
    char *end;
    errno = 0;
    long long v = strtoll(s, &end, 10);
    if (end == s || errno)
        return NULL;
    if (*end == 'K' || *end == 'k') {
        if (v > INT64_MAX / 1024 || v < INT64_MIN / 1024)
            return NULL;
        v *= 1024;
        end++;
    }
    *out = v;
    return end;
}

int numbers_read(const char *option, const char *typed, int64_t min, int64_t max, numbers *out)
{
    *out = (numbers){0};
    for (const char *s = typed;; s++) {
        int64_t part[3] = {0, 0, 1};
        int n = 0;
        do {
            s = number_read(n ? s + 1 : s, &part[n]);
            n++;
        } while (s && *s == ':' && n < 3);
        if (n == 1)
            part[1] = part[0];
        if (!s || (*s && *s != ',') || part[0] < min || part[1] > max || part[1] < part[0] || part[2] < 1 ||
            (part[1] - part[0]) / part[2] >= MOST - out->n) {
            numbers_free(out);
            return wrong(option, typed, min, max);
        }
        int64_t more = (part[1] - part[0]) / part[2] + 1;
        int64_t *v = realloc(out->v, (size_t)(out->n + more) * sizeof *v);
        if (!v) {
            numbers_free(out);
            return cli_fail(EXIT_FAILED, "out of memory");
        }
        out->v = v;
        for (int64_t i = 0; i < more; i++)
            v[out->n++] = part[0] + i * part[2];
        if (!*s)
            return EXIT_DONE;
    }
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

void numbers_sort(numbers *n)
{
    if (n->n)
        qsort(n->v, (size_t)n->n, sizeof *n->v, by_value);
}

void numbers_free(numbers *n)
{
    free(n->v);
    *n = (numbers){0};
}
