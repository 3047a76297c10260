/* words.c - see words.h. */
#include "words.h"

#include <stdlib.h>
#include <string.h>

enum { SHORTEST = 3, LONGEST = 12 };

static bool is_small(char c)
{
    return c >= 'a' && c <= 'z';
}

/* Whether a byte can belong to a word: letters, digits, apostrophes, hyphens, and what is not ASCII. */
static bool is_inner(char c)
{
    return is_small(c) || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '\'' || c == '-' || (c & 0x80);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

bool words_of(const char *s, words *out)
{
    size_t n = 0, cap = 0;
    *out = (words){0};
    size_t *starts = NULL;
    bool fine = true;
    for (const char *p = s; *p && fine;) {
        size_t len = 0, small = 0;
        while (p[len] && is_inner(p[len]))
            small += is_small(p[len++]);
        if (small == len && len >= SHORTEST && len <= LONGEST) {
            if (n == cap) {
                size_t *grown = realloc(starts, (cap = 2 * cap + 1024) * sizeof *starts);
                fine = grown != NULL;
                starts = grown ? grown : starts;
            }
            if (fine) {
                starts[n++] = out->memory.len;
                fine = text_append(&out->memory, p, len) && text_append(&out->memory, "", 1);
            }
        }
        p += len ? len : 1;
    }
    out->list = fine ? malloc((n + 1) * sizeof *out->list) : NULL;
    for (size_t i = 0; out->list && i < n; i++)
        out->list[i] = out->memory.data + starts[i];
    free(starts);
    if (!out->list) {
        words_free(out);
        return false;
    }
    qsort(out->list, n, sizeof *out->list, by_name);
    for (size_t i = 0; i < n; i++)
        if (!out->n || strcmp(out->list[out->n - 1], out->list[i]))
            out->list[out->n++] = out->list[i];
    return true;
}

void words_free(words *w)
{
    free(w->list);
    text_free(&w->memory);
    *w = (words){0};
}

const char *words_draw(const words *w, rng *r)
{
    return w->list[rng_below(r, w->n)];
}
