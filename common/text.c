/* text.c - see text.h. */
#include "text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

bool text_append(text *t, const char *bytes, size_t n)
{
    if (t->len + n + 1 > t->cap) {
        size_t cap = 2 * t->cap > t->len + n + 1 ? 2 * t->cap : t->len + n + 64;
        char *data = realloc(t->data, cap);
        if (!data)
            return false;
        t->data = data;
        t->cap = cap;
    }
    if (n)
        memcpy(t->data + t->len, bytes, n);
    t->len += n;
    t->data[t->len] = 0;
    return true;
}

void text_free(text *t)
{
    free(t->data);
    *t = (text){0};
}

int utf8_length(const char *s, size_t n)
{
    const unsigned char *b = (const unsigned char *)s;
    /* The second byte's range keeps out overlong forms, surrogates and what lies above U+10FFFF. */
    int len = b[0] < 0x80 ? 1 : b[0] < 0xC2 ? -1 : b[0] < 0xE0 ? 2 : b[0] < 0xF0 ? 3 : b[0] < 0xF5 ? 4 : -1;
    unsigned lo = b[0] == 0xE0 ? 0xA0 : b[0] == 0xF0 ? 0x90 : 0x80;
    unsigned hi = b[0] == 0xED ? 0x9F : b[0] == 0xF4 ? 0x8F : 0xBF;
    for (int i = 1; i < len; i++) {
        if ((size_t)i == n)
            return 0;
        if (b[i] < lo || b[i] > hi)
            return -1;
        lo = 0x80;
        hi = 0xBF;
    }
    return len;
}

bool utf8_feed(text *out, text *pending, const char *bytes, size_t n)
{
    static const char replacement[] = "\xEF\xBF\xBD";
    if (!text_append(pending, bytes, n))
        return false;
    size_t at = 0;
    while (at < pending->len) {
        int len = utf8_length(pending->data + at, pending->len - at);
        if (len == 0 && n)
            break;
        bool good = len > 0;
        if (!text_append(out, good ? pending->data + at : replacement, good ? (size_t)len : 3))
            return false;
        at += good ? (size_t)len : len ? 1 : pending->len - at;
    }
    memmove(pending->data, pending->data + at, pending->len - at);
    pending->len -= at;
    return true;
}

int text_check(const char *what, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n;) {
        int len = utf8_length(bytes + i, n - i);
        if (!bytes[i])
            return cli_fail(EXIT_FAILED, "%s is no text: byte %zu is NUL", what, i);
        if (len <= 0)
            return cli_fail(EXIT_FAILED, "%s is not valid UTF-8 at byte %zu (0x%02x)", what, i,
                            (unsigned char)bytes[i]);
        i += (size_t)len;
    }
    return EXIT_DONE;
}

int text_read(text *t, const char *path)
{
    bool std = !strcmp(path, "-");
    const char *shown = std ? "standard input" : path;
    size_t before = t->len;
    char block[1 << 16];
    FILE *f = std ? stdin : fopen(path, "rb");
    if (!f)
        return cli_fail(EXIT_FAILED, "%s: %s", shown, strerror(errno));

    int rc = EXIT_DONE;
    errno = 0;
    for (size_t n; !rc && (n = fread(block, 1, sizeof block, f));)
        if (!text_append(t, block, n))
            rc = cli_fail(EXIT_FAILED, "%s: out of memory", shown);
    if (!rc && ferror(f))
        rc = cli_fail(EXIT_FAILED, "%s: %s", shown, strerror(errno));
    if (!std)
        fclose(f);
    return rc ? rc : text_check(shown, t->data ? t->data + before : "", t->len - before);
}
