/* metric_match.c - see metric_match.h. */
#include "metric_match.h"

#include <string.h>

static const char digits[] = "0123456789";

double metric_first_integer(const char *answer, const char *expected)
{
    const char *first = answer + strcspn(answer, digits);
    size_t n = strspn(first, digits);
    return n && n == strlen(expected) && !memcmp(first, expected, n);
}
