/* metric_choice.c - see metric_choice.h. */
#include "metric_choice.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool is_letter(char c)
{
    return c >= 'A' && c <= 'D';
}

char metric_correct_answer_is(const char *answer)
{
    static const char words[] = "The correct answer is ";
    char *clean = malloc(strlen(answer) + 1), found = 0;
    size_t n = 0;
    if (!clean)
        return 0;
    for (const char *s = answer; *s; s++)
        if (*s != '*')
            clean[n++] = *s;
    clean[n] = 0;
    for (int bracket = 1; bracket >= 0 && !found; bracket--)
        for (const char *s = clean; (s = strstr(s, words)) && !found; s++) {
            const char *after = s + sizeof words - 1;
            if (bracket && after[0] == '(' && is_letter(after[1]) && after[2] == ')')
                found = after[1];
            if (!bracket && is_letter(after[0]))
                found = after[0];
        }
    free(clean);
    return found;
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* A copy without blanks at its ends; characters of `marks` and the words become blanks, runs of blanks one. */
static char *cleaned(const char *s, const char *marks, const char *const *words)
{
    char *out = malloc(strlen(s) + 1);
    size_t n = 0;
    if (!out)
        return NULL;
    while (*s) {
        size_t word = 0;
        for (int i = 0; words[i]; i++)
            if (!strncmp(s, words[i], strlen(words[i])))
                word = strlen(words[i]);
        bool blank = word || strchr(marks, *s) || *s == ' ';
        if (!blank || !n || out[n - 1] != ' ')
            out[n++] = blank ? ' ' : *s;
        s += word ? word : 1;
    }
    out[n] = 0;
    return out;
}

static char *stripped(const char *s)
{
    size_t n;
    while (is_blank(*s))
        s++;
    for (n = strlen(s); n && is_blank(s[n - 1]); n--)
        ;
    char *out = malloc(n + 1);
    if (out) {
        memcpy(out, s, n);
        out[n] = 0;
    }
    return out;
}

static bool begins(const char *s, const char *with)
{
    return !strncmp(s, with, strlen(with));
}

/* What follows the first of the announcements that is there, one character skipped. NULL: none is there; "": nothing
 * follows. */
static const char *announced(const char *s, const char *const *prefixes)
{
    for (; *prefixes; prefixes++) {
        const char *at = strstr(s, *prefixes);
        if (at)
            return at[strlen(*prefixes)] ? at + strlen(*prefixes) + 1 : "";
    }
    return NULL;
}

double metric_choice(const char *answer, char letter, const char *option)
{
    static const char *const none[] = {NULL};
    static const char *const prefixes[] = {"answer is:", "answer:", "answer is", "option is", NULL};
    char *s = stripped(answer), *clean = s ? cleaned(s, "\n\"'.,?!{}", none) : NULL;
    char wanted[2] = {letter, 0};
    double score = 0;
    if (!clean) {
        score = NAN;
    } else if (!*s) {
        score = 0;
    } else if (is_letter(*s)) {
        score = *s == letter;
    } else if (!strcmp(s, option)) {
        score = 1;
    } else {
        const char *after = announced(clean, prefixes);
        if (after) {
            score = *after && (begins(after, wanted) || begins(after, option));
        } else { /* the first word that is a letter, or several in a row */
            for (const char *w = clean; *w;) {
                size_t n = strcspn(w, " ");
                if (n && n <= 4 && is_letter(*w) && !strncmp(&"ABCD"[*w - 'A'], w, n)) {
                    score = n == 1 && *w == letter;
                    break;
                }
                w += n + (w[n] == ' ');
            }
        }
    }
    free(s);
    free(clean);
    return score;
}

double metric_code_debug(const char *answer, char letter, const char *function)
{
    static const char *const words[] = {"Option", "option", NULL};
    static const char *const prefixes[] = {"answer is:", "is:", "answer:", "correct option is:", NULL};
    char *s = stripped(answer), *clean = s ? cleaned(s, "\n`'\"-*", words) : NULL;
    char wanted[2] = {letter, 0};
    double score = 0;
    if (!clean) {
        score = NAN;
    } else if (s[0] == letter && (s[1] == '.' || s[1] == ':')) {
        score = 1;
    } else {
        const char *after = announced(clean, prefixes);
        score = after && *after && (begins(after, wanted) || begins(after, function));
    }
    free(s);
    free(clean);
    return score;
}
