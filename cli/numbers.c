/* numbers.c - see numbers.h. */
#include "numbers.h"

#include <stdlib.h>

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

int numbers_read(const char *option, const char *text, int64_t least, int64_t *out, int cap, int *n)
{
    const int64_t most = (int64_t)1 << 30;
    *n = 0;
    for (const char *s = text; *s;) {
        char *end;
        double v = strtod(s, &end);
        if (end > s && (*end == 'K' || *end == 'k'))
            v *= 1024, end++;
        if (end == s || (*end && *end != ',') || !(v >= (double)least && v <= (double)most) || v != (double)(int64_t)v)
            return cli_fail(EXIT_USAGE, "%s takes whole numbers from %lld to %lld, such as 1,8K,16K, not '%s'", option,
                            (long long)least, (long long)most, text);
        if (*n == cap)
            return cli_fail(EXIT_USAGE, "%s takes at most %d numbers", option, cap);
        out[(*n)++] = (int64_t)v;
        s = *end ? end + 1 : end;
    }
    qsort(out, (size_t)*n, sizeof *out, by_value);
    return *n ? EXIT_DONE : cli_fail(EXIT_USAGE, "%s needs at least one number", option);
}
