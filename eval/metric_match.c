/* metric_match.c - see metric_match.h. */
#include "metric_match.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const char digits[] = "0123456789";

/* The next run of digits from *s on; its length, 0 if there is none. */
static size_t next_digits(const char **s)
{
    *s += strcspn(*s, digits);
    return strspn(*s, digits);
}

double metric_first_integer(const char *answer, const char *expected)
{
    size_t n = next_digits(&answer);
    return n && n == strlen(expected) && !memcmp(answer, expected, n);
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1C && c <= 0x1F);
}

/* The next word from *s on, parted by blanks and marks; its length, 0 at the end. */
static size_t next_word(const char **s, const char *marks)
{
    size_t n = 0;
    while (**s && (is_blank(**s) || strchr(marks, **s)))
        ++*s;
    while ((*s)[n] && !is_blank((*s)[n]) && !strchr(marks, (*s)[n]))
        n++;
    return n;
}

double metric_last_integer(const char *answer, long long expected)
{
    const char *last = NULL;
    size_t n, len = 0;
    for (; (n = next_word(&answer, ".`'\":")); answer += n) {
        last = answer;
        len = n;
    }
    char *end;
    errno = 0;
    long long value = last ? strtoll(last, &end, 10) : 0;
    return last && end == last + len && !errno && value == expected;
}

double metric_first_number(const char *answer, double expected)
{
    size_t n = next_digits(&answer), fraction;
    char number[64];
    if (n && answer[n] == '.' && (fraction = strspn(answer + n + 1, digits)))
        n += 1 + fraction;
    if (!n || n >= sizeof number)
        return 0;
    memcpy(number, answer, n);
    number[n] = 0;
    return strtod(number, NULL) == expected;
}

double metric_number_prefix(const char *answer, const long long *expected, size_t n)
{
    size_t right = 0, len;
    while (right < n && (len = next_digits(&answer))) {
        errno = 0;
        if (strtoll(answer, NULL, 10) != expected[right] || errno)
            break;
        right++;
        answer += len;
    }
    return n ? (double)right / (double)n : 0;
}

double metric_has_word(const char *answer, const char *expected, const char *marks, int upper)
{
    size_t n, len = strlen(expected);
    for (; (n = next_word(&answer, marks)); answer += n) {
        size_t same = 0;
        while (n == len && same < n &&
               (upper ? toupper((unsigned char)answer[same]) : (unsigned char)answer[same]) ==
                   (unsigned char)expected[same])
            same++;
        if (len && same == len)
            return 1;
    }
    return 0;
}

double metric_number_share(const char *answer, const char *expected)
{
    size_t all = 0, right = 0, len;
    for (; (len = next_digits(&answer)); answer += len) {
        all++;
        right += len == strlen(expected) && !memcmp(answer, expected, len);
    }
    return all ? (double)right / (double)all : 0;
}

double metric_class(const char *answer, const char *expected, const char *const *classes, size_t n)
{
    const char **named = malloc((n + 1) * sizeof *named);
    size_t count = 0;
    bool right = false;
    if (!named)
        return NAN;
    for (size_t i = 0; i < n; i++)
        if (strstr(answer, classes[i]))
            named[count++] = classes[i];
    /* A part of the expected name does not count. As published, one that follows a removed one is not looked at. */
    for (size_t i = 0; i < count; i++)
        if (strstr(expected, named[i]) && strcmp(expected, named[i])) {
            memmove(named + i, named + i + 1, (count - i - 1) * sizeof *named);
            count--;
        }
    for (size_t i = 0; i < count; i++)
        right = right || !strcmp(named[i], expected);
    free(named);
    return right ? 1.0 / (double)count : 0;
}
