/* metric_exam.c - see metric_exam.h. Written after L-Eval's Evaluation/auto_eval.py and em.py. */
#include "metric_exam.h"

#include <ctype.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char blanks[] = " \t\n\r\f\v";

static bool is_letter(char c)
{
    return c >= 'A' && c <= 'D';
}

/* ------------------------------------------------------------------------------------------- choice ---------- */

/* The letters A to D of s[0 .. n-1] as a set of bits. */
static unsigned letters_of(const char *s, size_t n)
{
    unsigned set = 0;
    for (size_t i = 0; i < n; i++)
        if (is_letter(s[i]))
            set |= 1u << (s[i] - 'A');
    return set;
}

static unsigned expected_letters(const char *expected)
{
    expected += strspn(expected, blanks);
    unsigned set = letters_of(expected, strcspn(expected, blanks));
    return set ? set : 1;
}

/* The answer is nothing but letters in their order, or, as published, nothing at all. */
static bool only_letters(const char *answer)
{
    return strstr("ABCD", answer) != NULL;
}

/* The first letter; as published, A where there is none. */
static unsigned one_letter(const char *answer)
{
    if (only_letters(answer))
        return letters_of(answer, strlen(answer));
    for (; *answer; answer++)
        if (is_letter(*answer))
            return 1u << (*answer - 'A');
    return 1;
}

/* Letters that the answer begins with, if there are several; else capitals that a blank, a point or a bracket follows,
 * before the word "Question". */
static unsigned several_letters(const char *answer)
{
    size_t n = 0;
    if (only_letters(answer))
        return letters_of(answer, strlen(answer));
    while (is_letter(answer[n]))
        n++;
    if (n > 1)
        return letters_of(answer, n);
    unsigned set = letters_of(answer, n);
    const char *end = strstr(answer, "Question");
    for (const char *s = answer + n; *s && (!end || s < end); s++)
        if (is_letter(*s) && s[1] && (!end || s + 1 < end) && (strchr(blanks, s[1]) || s[1] == '.' || s[1] == ')'))
            set |= 1u << (*s - 'A');
    return set ? set : 1;
}

static double compare_letters(unsigned said, unsigned right)
{
    return said == right ? 1 : (said & ~right) ? 0 : 0.25;
}

/* --------------------------------------------------------------------------------------------- math ---------- */

/* The digits of the word that holds the answer, up to a point. */
static void math_answer(const char *s, char *out, size_t cap)
{
    static const char words[] = "The answer is ";
    const char *at = strstr(s, words);
    size_t n = 0, len = 0;
    if (at && at[sizeof words - 1] && !strchr(blanks, at[sizeof words - 1])) {
        at += sizeof words - 1;
        len = strcspn(at, blanks);
    } else { /* the last word with a digit of the first paragraph; words are parted by spaces */
        const char *end = strstr(s, "\n\n"), *w = s;
        size_t total = end ? (size_t)(end - s) : strlen(s);
        at = s;
        while (w <= s + total) {
            size_t k = 0;
            while (w + k < s + total && w[k] != ' ')
                k++;
            for (size_t i = 0; i < k; i++)
                if (isdigit((unsigned char)w[i])) {
                    at = w;
                    len = k;
                }
            w += k + 1;
        }
    }
    for (size_t i = 0; i < len && at[i] != '.'; i++)
        if (isdigit((unsigned char)at[i]) && n + 1 < cap)
            out[n++] = at[i];
    out[n] = 0;
}

/* --------------------------------------------------------------------------------------------- text ---------- */

/* Replaces `what` by `with`, which is not longer, in place. */
static void replace(char *s, const char *what, const char *with)
{
    size_t n = strlen(what), m = strlen(with);
    char *out = s;
    while (*s) {
        if (!strncmp(s, what, n)) {
            memcpy(out, with, m);
            out += m;
            s += n;
        } else {
            *out++ = *s++;
        }
    }
    *out = 0;
}

static char *copy(const char *s)
{
    char *out = malloc(strlen(s) + 1);
    if (out)
        strcpy(out, s);
    return out;
}

/* Output of code in one form: blanks are one space, no commas, quotes, backslashes and ".0", brackets close up. */
static char *code_form(const char *s)
{
    char *out = malloc(strlen(s) + 1);
    size_t n = 0;
    if (!out)
        return NULL;
    for (; *s; s++) {
        bool blank = strchr(blanks, *s) != NULL;
        if (!blank || !n || out[n - 1] != ' ')
            out[n++] = blank ? ' ' : *s;
    }
    out[n] = 0;
    static const char *const rules[][2] = {{",", ""},     {"'", ""},     {"\\", ""},   {".0", ""},
                                           {"] [", "]["}, {"[ [", "[["}, {"] ]", "]]"}};
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        replace(out, rules[i][0], rules[i][1]);
    return out;
}

/* The words of s, of which `from_end` (or from the start) at most `most` are kept, joined by single spaces, in
 * place. As Python's re.split: blanks at an end make an empty word, which counts. */
static void keep_words(char *s, size_t most, bool from_end)
{
    size_t words = 1;
    char *out = s, *p = s;
    for (char *q = s; *q; q++)
        words += *q != ' ' ? 0 : q[1] != ' ';
    size_t skip = from_end && words > most ? words - most : 0;
    for (size_t i = 0; i < words; i++) {
        size_t n = strcspn(p, " ");
        if (i >= skip && i < skip + most) {
            if (i > skip)
                *out++ = ' ';
            memmove(out, p, n);
            out += n;
        }
        p += n;
        p += strspn(p, " ");
    }
    *out = 0;
}

static char *code_answer(const char *answer, const char *expected)
{
    static const char *const said[] = {"will be",      "of the code",   "is",     "would be",
                                       "the value of", "the result of", "printed"};
    char *s = code_form(answer), *gt = copy(expected);
    size_t n = 0;
    for (char *w = gt; w && *(w += strspn(w, blanks)); w += strcspn(w, blanks))
        n++;
    free(gt);
    if (!s)
        return NULL;
    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        replace(s, said[i], "");
    char *final = NULL;
    for (char *at = s; (at = strstr(at, "the final output")); at++)
        final = at + strlen("the final output");
    if (final)
        memmove(s, final, strlen(final) + 1);
    keep_words(s, n + 3, !final);
    return s;
}

/* Lower case without spaces. */
static void squeeze(char *s)
{
    char *out = s;
    for (; *s; s++)
        if (*s != ' ')
            *out++ = (char)tolower((unsigned char)*s);
    *out = 0;
}

/* Both are numbers and equal; or the expected text is in the first line of the answer that has two characters or
 * more. */
static double compare_text(const char *answer, const char *expected)
{
    char *end_a, *end_e;
    double a = strtod(answer, &end_a), e = strtod(expected, &end_e);
    if (end_a != answer && !end_a[strspn(end_a, blanks)] && end_e != expected && !end_e[strspn(end_e, blanks)])
        return a == e;
    const char *line = answer;
    size_t n = strcspn(line, "\n");
    while (n < 2 && line[n]) {
        line += n + 1;
        n = strcspn(line, "\n");
    }
    if (n < 2) { /* no such line: the answer as it is */
        line = answer;
        n = strlen(answer);
    }
    char *said = malloc(n + 1), *right = copy(expected);
    double score = NAN;
    if (said && right) {
        memcpy(said, line, n);
        said[n] = 0;
        squeeze(said);
        squeeze(right);
        score = strstr(said, right) != NULL;
    }
    free(said);
    free(right);
    return score;
}

double metric_exam(const char *answer, const char *expected, exam_kind kind)
{
    if (kind == EXAM_CHOICE)
        return compare_letters(one_letter(answer), expected_letters(expected));
    if (kind == EXAM_CHOICES)
        return compare_letters(several_letters(answer), expected_letters(expected));
    if (kind == EXAM_MATH) {
        char a[64], e[64];
        math_answer(answer, a, sizeof a);
        math_answer(expected, e, sizeof e);
        return compare_text(a, e);
    }
    if (kind == EXAM_TEXT)
        return compare_text(answer, expected);
    char *a = code_answer(answer, expected), *e = code_form(expected);
    double score = a && e ? compare_text(a, e) : NAN;
    free(a);
    free(e);
    return score;
}
