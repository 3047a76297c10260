/* metric_rouge.c - see metric_rouge.h. Words become numbers first: what follows compares numbers. */
#include "metric_rouge.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* A text as sentences of numbered words; equal words of both texts have equal numbers. */
typedef struct sentences {
    int *word;     /* [n] */
    size_t *start; /* [n_sentences + 1] */
    size_t n, n_sentences;
} sentences;

typedef struct pair {
    sentences a, e;
    int n_words; /* distinct, of both */
} pair;

static void pair_free(pair *p)
{
    free(p->a.word);
    free(p->a.start);
    free(p->e.word);
    free(p->e.start);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(**(char **const *)a, **(char **const *)b);
}

/* Words of each part of the text between `stop` characters (0: one part). Parts without a character are no
 * sentences; to the package rouge a part of blanks is a sentence with one word, which is empty. */
static bool split(const char *s, word_rule rule, char stop, word_list *words, sentences *out)
{
    size_t len = strlen(s), parts = 0;
    word_list *list = NULL;
    for (size_t i = 0; i <= len; i++)
        parts += i == len || s[i] == stop;
    list = calloc(parts, sizeof *list);
    out->start = calloc(parts + 1, sizeof *out->start);
    bool fine = list && out->start;
    size_t total = 0;
    for (size_t at = 0; fine && at <= len;) {
        size_t n = 0;
        while (at + n < len && !(stop && s[at + n] == stop))
            n++;
        if (n) {
            word_list *part = &list[out->n_sentences];
            fine = !words_split(s + at, n, rule, part);
            if (fine && !part->n && rule == WORDS_PLAIN)
                part->v[part->n++] = part->memory; /* "" */
            total += part->n;
            out->start[++out->n_sentences] = total;
        }
        at += n + 1;
    }
    /* One list of all words, which keeps their memory. */
    out->n = total;
    words->v = malloc((total + 1) * sizeof *words->v);
    fine = fine && words->v;
    for (size_t i = 0; i < out->n_sentences && list; i++) {
        for (size_t k = 0; fine && k < list[i].n; k++) {
            words->v[words->n] = strdup(list[i].v[k]);
            fine = words->v[words->n] != NULL;
            words->n += fine;
        }
        words_drop(&list[i]);
    }
    free(list);
    return fine;
}

static void drop_copies(word_list *w)
{
    for (size_t i = 0; i < w->n; i++)
        free(w->v[i]);
    free(w->v);
}

static bool pair_of(const char *answer, const char *expected, word_rule rule, char stop, pair *out)
{
    word_list a = {0}, e = {0};
    *out = (pair){0};
    bool fine = split(answer, rule, stop, &a, &out->a) && split(expected, rule, stop, &e, &out->e);
    char ***order = malloc((a.n + e.n + 1) * sizeof *order);
    out->a.word = malloc((a.n + 1) * sizeof(int));
    out->e.word = malloc((e.n + 1) * sizeof(int));
    fine = fine && order && out->a.word && out->e.word;
    for (size_t i = 0; fine && i < a.n + e.n; i++)
        order[i] = i < a.n ? &a.v[i] : &e.v[i - a.n];
    if (fine)
        qsort(order, a.n + e.n, sizeof *order, by_name);
    for (size_t i = 0; fine && i < a.n + e.n; i++) {
        out->n_words += i == 0 || strcmp(*order[i - 1], *order[i]);
        bool first = order[i] >= a.v && order[i] < a.v + a.n;
        if (first)
            out->a.word[order[i] - a.v] = out->n_words - 1;
        else
            out->e.word[order[i] - e.v] = out->n_words - 1;
    }
    free(order);
    drop_copies(&a);
    drop_copies(&e);
    return fine;
}

/* Marks the places of x that a longest common subsequence of x and y takes. `up_first`: where both ways are as long,
 * x is shortened first. False if there is no memory. */
static bool mark_lcs(const int *x, size_t n, const int *y, size_t m, bool up_first, bool *taken)
{
    unsigned *table = calloc((n + 1) * (m + 1), sizeof *table);
    if (!table)
        return false;
#define AT(i, j) table[(i) * (m + 1) + (j)]
    for (size_t i = 1; i <= n; i++)
        for (size_t j = 1; j <= m; j++)
            AT(i, j) = x[i - 1] == y[j - 1]          ? AT(i - 1, j - 1) + 1
                       : AT(i - 1, j) > AT(i, j - 1) ? AT(i - 1, j)
                                                     : AT(i, j - 1);
    for (size_t i = n, j = m; i && j;) {
        bool up = up_first ? AT(i - 1, j) >= AT(i, j - 1) : AT(i - 1, j) > AT(i, j - 1);
        if (x[i - 1] == y[j - 1])
            taken[i - 1] = true, i--, j--;
        else if (up)
            i--;
        else
            j--;
    }
#undef AT
    free(table);
    return true;
}

/* Marks in taken [e.n] the union over the answer's sentences, for every sentence of the expected text. */
static bool mark_union(const pair *p, bool up_first, bool *taken)
{
    for (size_t i = 0; i < p->e.n_sentences; i++)
        for (size_t k = 0; k < p->a.n_sentences; k++)
            if (!mark_lcs(p->e.word + p->e.start[i], p->e.start[i + 1] - p->e.start[i], p->a.word + p->a.start[k],
                          p->a.start[k + 1] - p->a.start[k], up_first, taken + p->e.start[i]))
                return false;
    return true;
}

static size_t distinct(const int *word, const bool *only, size_t n, bool *seen, int n_words)
{
    size_t count = 0;
    memset(seen, 0, (size_t)n_words + 1);
    for (size_t i = 0; i < n; i++)
        if ((!only || only[i]) && !seen[word[i]]) {
            seen[word[i]] = true;
            count++;
        }
    return count;
}

double metric_rouge_l(const char *answer, const char *expected, word_rule rule)
{
    pair p;
    double f = NAN;
    bool fine = pair_of(answer, expected, rule, rule == WORDS_PLAIN ? '.' : 0, &p);
    bool *taken = calloc(p.e.n + 1, 1), *seen = malloc((size_t)p.n_words + 1);
    if (fine && taken && seen && mark_union(&p, false, taken)) {
        double both = (double)distinct(p.e.word, taken, p.e.n, seen, p.n_words);
        double m = (double)distinct(p.e.word, NULL, p.e.n, seen, p.n_words);
        double n = (double)distinct(p.a.word, NULL, p.a.n, seen, p.n_words);
        double recall = m > 0 ? both / m : 0, precision = n > 0 ? both / n : 0;
        f = 2 * precision * recall / (precision + recall + 1e-8);
    }
    free(taken);
    free(seen);
    pair_free(&p);
    return f;
}

static double f_of(double same, double a, double e)
{
    return same > 0 ? 2 * same / (a + e) : 0;
}

/* n-grams that both have, counted as often as the one that has them less often. */
static double same_grams(const pair *p, int n)
{
    size_t same = 0, na = p->a.n >= (size_t)n ? p->a.n - (size_t)n + 1 : 0,
           ne = p->e.n >= (size_t)n ? p->e.n - (size_t)n + 1 : 0;
    bool *used = calloc(ne + 1, 1);
    if (!used)
        return NAN;
    for (size_t i = 0; i < na; i++)
        for (size_t k = 0; k < ne; k++)
            if (!used[k] && !memcmp(p->a.word + i, p->e.word + k, (size_t)n * sizeof(int))) {
                used[k] = true;
                same++;
                break;
            }
    free(used);
    return (double)same;
}

double metric_rouge_score(const char *answer, const char *expected, int n)
{
    pair p;
    double f = NAN;
    if (pair_of(answer, expected, WORDS_ROUGE, 0, &p)) {
        bool *taken = calloc(p.e.n + 1, 1);
        double a = (double)p.a.n - (n ? n - 1 : 0), e = (double)p.e.n - (n ? n - 1 : 0), same = 0;
        if (n)
            same = same_grams(&p, n);
        else if (taken && mark_lcs(p.e.word, p.e.n, p.a.word, p.a.n, true, taken))
            for (size_t i = 0; i < p.e.n; i++)
                same += taken[i];
        else
            same = NAN;
        f = isnan(same) ? NAN : f_of(same, a, e);
        free(taken);
    }
    pair_free(&p);
    return f;
}

double metric_rouge_lsum(const char *answer, const char *expected)
{
    pair p;
    double f = NAN;
    bool fine = pair_of(answer, expected, WORDS_ROUGE, '\n', &p);
    bool *taken = calloc(p.e.n + 1, 1);
    int *left = calloc((size_t)p.n_words + 1, sizeof *left);
    if (fine && taken && left && mark_union(&p, true, taken)) {
        double same = 0;
        for (size_t i = 0; i < p.a.n; i++)
            left[p.a.word[i]]++;
        /* A word counts at most as often as each text has it; the expected text has it as often as it is marked. */
        for (size_t i = 0; i < p.e.n; i++)
            if (taken[i] && left[p.e.word[i]] > 0) {
                left[p.e.word[i]]--;
                same++;
            }
        f = f_of(same, (double)p.a.n, (double)p.e.n);
    }
    free(taken);
    free(left);
    pair_free(&p);
    return f;
}
