/* metric_words.c - see metric_words.h. Characters are classed as Python's re and str do, as far as benchmarks need it:
 * ASCII exactly; of the rest blanks, the blocks of punctuation, and the case of Latin, Greek and Cyrillic letters. */
#include "metric_words.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const char punctuation[] = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

size_t metric_character(const char *s, size_t len, unsigned *code)
{
    const unsigned char *b = (const unsigned char *)s;
    size_t n = b[0] < 0x80 ? 1 : b[0] < 0xC2 ? 1 : b[0] < 0xE0 ? 2 : b[0] < 0xF0 ? 3 : b[0] < 0xF5 ? 4 : 1;
    *code = n == 1 ? b[0] : b[0] & (0x7F >> n);
    for (size_t i = 1; i < n; i++) {
        if (i == len || (b[i] & 0xC0) != 0x80) {
            *code = b[0];
            return 1;
        }
        *code = *code << 6 | (b[i] & 0x3F);
    }
    return n;
}

static size_t put_character(char *out, unsigned c)
{
    if (c < 0x80)
        return out[0] = (char)c, 1;
    if (c < 0x800)
        return out[0] = (char)(0xC0 | c >> 6), out[1] = (char)(0x80 | (c & 0x3F)), 2;
    if (c < 0x10000)
        return out[0] = (char)(0xE0 | c >> 12), out[1] = (char)(0x80 | (c >> 6 & 0x3F)),
               out[2] = (char)(0x80 | (c & 0x3F)), 3;
    return out[0] = (char)(0xF0 | c >> 18), out[1] = (char)(0x80 | (c >> 12 & 0x3F)),
           out[2] = (char)(0x80 | (c >> 6 & 0x3F)), out[3] = (char)(0x80 | (c & 0x3F)), 4;
}

static unsigned lower(unsigned c)
{
    if ((c >= 'A' && c <= 'Z') || (c >= 0xC0 && c <= 0xDE && c != 0xD7) || (c >= 0x391 && c <= 0x3A9 && c != 0x3A2) ||
        (c >= 0x410 && c <= 0x42F))
        return c + 32;
    if (c >= 0x400 && c <= 0x40F)
        return c + 80;
    if ((c >= 0x100 && c <= 0x137 && c != 0x130) || (c >= 0x14A && c <= 0x177))
        return c | 1;
    if ((c >= 0x139 && c <= 0x148) || (c >= 0x179 && c <= 0x17E))
        return c + (c & 1);
    return c;
}

static bool is_blank(unsigned c)
{
    return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x1F) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static bool is_ascii_punctuation(unsigned c)
{
    return c && c < 0x80 && strchr(punctuation, (int)c);
}

/* What the Chinese normalisation takes away: ASCII punctuation and zhon's list with the full stop. */
static bool is_chinese_punctuation(unsigned c)
{
    static const unsigned marks[] = {0xFF01, 0xFF1F, 0xFF61, 0x3002, 0xFF5F, 0xFF60, 0xFF62, 0xFF63, 0xFF64, 0x3001,
                                     0x3003, 0x301C, 0x301D, 0x301E, 0x301F, 0x3030, 0x303E, 0x303F, 0x2013, 0x2014,
                                     0x2018, 0x2019, 0x201B, 0x201C, 0x201D, 0x201E, 0x201F, 0x2026, 0x2027, 0xFE4F};
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (marks[i] == c)
            return true;
    return is_ascii_punctuation(c) || (c >= 0x300A && c <= 0x3011) || (c >= 0x3014 && c <= 0x301B) ||
           (c >= 0xFF02 && c <= 0xFF0F) || (c >= 0xFF1A && c <= 0xFF1E) || c == 0xFF20 ||
           (c >= 0xFF3B && c <= 0xFF40) || (c >= 0xFF5B && c <= 0xFF5E);
}

/* Python's \w: letters, digits, underscore. */
static bool is_word(unsigned c)
{
    if (c < 0x80)
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    if (c < 0xC0)
        return c == 0xAA || c == 0xB2 || c == 0xB3 || c == 0xB5 || c == 0xB9 || c == 0xBA || (c >= 0xBC && c <= 0xBE);
    return c != 0xD7 && c != 0xF7 && !(c >= 0x2000 && c <= 0x206F) && !(c >= 0x2190 && c <= 0x245F) &&
           !(c >= 0x2500 && c <= 0x2BFF) && !(c >= 0x3000 && c <= 0x3004) && !(c >= 0x3008 && c <= 0x3020) &&
           !is_chinese_punctuation(c) && !is_blank(c);
}

static bool is_article(const char *s, size_t n)
{
    return (n == 1 && *s == 'a') || (n == 2 && !memcmp(s, "an", 2)) || (n == 3 && !memcmp(s, "the", 3));
}

/* Blanks out articles that stand alone, as \b(a|an|the)\b does. */
static void drop_articles(char *s, size_t len)
{
    for (size_t at = 0; at < len;) {
        unsigned c;
        size_t end = at, n;
        while (end < len && (n = metric_character(s + end, len - end, &c), is_word(c)))
            end += n;
        if (is_article(s + at, end - at))
            memset(s + at, ' ', end - at);
        at = end > at ? end : at + metric_character(s + at, len - at, &c);
    }
}

int words_split(const char *s, size_t len, word_rule rule, word_list *out)
{
    /* A byte that is no UTF-8 becomes two; every character may become a word of its own, with a NUL. */
    *out = (word_list){.memory = malloc(4 * len + 2), .v = malloc((len + 1) * sizeof *out->v)};
    char *clean = malloc(2 * len + 1);
    if (!out->memory || !out->v || !clean) {
        free(clean);
        words_drop(out);
        return -1;
    }
    size_t n = 0, used = 0;
    for (size_t at = 0; at < len;) {
        unsigned c;
        at += metric_character(s + at, len - at, &c);
        if (rule != WORDS_PLAIN)
            c = lower(c);
        if ((rule == WORDS_ANSWER && is_ascii_punctuation(c)) || (rule == WORDS_CHINESE && is_chinese_punctuation(c)))
            continue;
        if (rule == WORDS_ROUGE && !((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')))
            c = ' ';
        n += put_character(clean + n, c);
    }
    if (rule == WORDS_ANSWER)
        drop_articles(clean, n);
    bool in_word = false;
    for (size_t at = 0; at < n;) {
        unsigned c;
        size_t size = metric_character(clean + at, n - at, &c);
        bool blank = is_blank(c);
        if (in_word && (blank || rule == WORDS_CHINESE)) {
            out->memory[used++] = 0;
            in_word = false;
        }
        if (!blank) {
            if (!in_word)
                out->v[out->n++] = out->memory + used;
            memcpy(out->memory + used, clean + at, size);
            used += size;
            in_word = true;
        }
        at += size;
    }
    out->memory[used] = 0;
    free(clean);
    return 0;
}

void words_drop(word_list *w)
{
    free(w->memory);
    free(w->v);
    *w = (word_list){0};
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

double metric_f1(const char *answer, const char *expected, word_rule rule)
{
    word_list a = {0}, e = {0};
    double f1 = NAN;
    if (!words_split(answer, strlen(answer), rule, &a) && !words_split(expected, strlen(expected), rule, &e)) {
        size_t same = 0;
        qsort(a.v, a.n, sizeof *a.v, by_name);
        qsort(e.v, e.n, sizeof *e.v, by_name);
        for (size_t i = 0, k = 0; i < a.n && k < e.n;) {
            int order = strcmp(a.v[i], e.v[k]);
            same += order == 0;
            i += order <= 0;
            k += order >= 0;
        }
        f1 = same ? 2.0 * (double)same / (double)(a.n + e.n) : 0;
    }
    words_drop(&a);
    words_drop(&e);
    return f1;
}
