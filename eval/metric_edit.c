/* metric_edit.c - see metric_edit.h. The longest block that both have, then the same to its left and right
 * (Ratcliff and Obershelp); 2 x matched / (both lengths). As there, characters that make up more than 1 % of a second
 * string of 200 or more are not used to find blocks, only to extend them. */
#include "metric_edit.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "metric_words.h"

typedef struct strings {
    unsigned *a, *b; /* characters */
    size_t na, nb;
    bool *popular;      /* [nb] */
    size_t *run, *next; /* [nb + 1] length of the block that ends at (i, j), for this and the next i */
} strings;

static unsigned *characters(const char *s, size_t *n)
{
    size_t len = strlen(s);
    unsigned *v = malloc((len + 1) * sizeof *v);
    *n = 0;
    for (size_t at = 0; v && at < len;)
        at += metric_character(s + at, len - at, &v[(*n)++]);
    return v;
}

typedef struct block {
    size_t i, j, n;
} block;

static block longest(const strings *s, size_t alo, size_t ahi, size_t blo, size_t bhi)
{
    block best = {alo, blo, 0};
    size_t *run = s->run, *next = s->next;
    memset(run, 0, (s->nb + 1) * sizeof *run);
    for (size_t i = alo; i < ahi; i++) {
        memset(next, 0, (s->nb + 1) * sizeof *next);
        for (size_t j = blo; j < bhi; j++) {
            if (s->popular[j] || s->a[i] != s->b[j])
                continue;
            size_t k = next[j + 1] = (j > blo ? run[j] : 0) + 1;
            if (k > best.n)
                best = (block){i + 1 - k, j + 1 - k, k};
        }
        size_t *t = run;
        run = next;
        next = t;
    }
    while (best.i > alo && best.j > blo && s->a[best.i - 1] == s->b[best.j - 1])
        best.i--, best.j--, best.n++;
    while (best.i + best.n < ahi && best.j + best.n < bhi && s->a[best.i + best.n] == s->b[best.j + best.n])
        best.n++;
    return best;
}

static size_t matched(const strings *s, size_t alo, size_t ahi, size_t blo, size_t bhi)
{
    size_t total = 0;
    while (alo < ahi && blo < bhi) { /* the right side is the loop, the left one the recursion */
        block m = longest(s, alo, ahi, blo, bhi);
        if (!m.n)
            break;
        total += m.n + matched(s, alo, m.i, blo, m.j);
        alo = m.i + m.n;
        blo = m.j + m.n;
    }
    return total;
}

double metric_edit_similarity(const char *a, const char *b)
{
    strings s = {0};
    s.a = characters(a, &s.na);
    s.b = characters(b, &s.nb);
    s.popular = calloc(s.nb + 1, 1);
    s.run = malloc((s.nb + 1) * sizeof *s.run);
    s.next = malloc((s.nb + 1) * sizeof *s.next);
    double ratio = NAN;
    if (s.a && s.b && s.popular && s.run && s.next) {
        for (size_t j = 0; s.nb >= 200 && j < s.nb; j++) {
            size_t count = 0;
            for (size_t k = 0; k < s.nb; k++)
                count += s.b[k] == s.b[j];
            s.popular[j] = count > s.nb / 100 + 1;
        }
        ratio = s.na + s.nb ? 2.0 * (double)matched(&s, 0, s.na, 0, s.nb) / (double)(s.na + s.nb) : 1;
    }
    free(s.a);
    free(s.b);
    free(s.popular);
    free(s.run);
    free(s.next);
    return ratio;
}
