/* needles.c - see needles.h. */
#include "needles.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "random.h"

/* A key is "THING number of the KIND OWNER", e.g. "serial number of the bronze elephant". Small models mix up needles
 * that differ in one word; up to PARTS needles differ in three. And they answer "permit of the stolen statue" with
 * words: a key must call for a number. */
enum { PARTS = 26, KEYS = PARTS * PARTS };

static const char *const things[PARTS] = {
    "serial",   "phone",      "license",  "catalog",  "ticket",    "account",  "model",        "order",   "badge",
    "permit",   "patent",     "invoice",  "tracking", "insurance", "batch",    "case",         "locker",  "flight",
    "passport", "membership", "contract", "customer", "tax",       "shipping", "registration", "warranty"};
static const char *const kinds[PARTS] = {"green",  "broken",   "marble",  "bronze",  "hidden", "ancient", "frozen",
                                         "wooden", "silent",   "royal",   "flying",  "muddy",  "purple",  "plastic",
                                         "haunted", "electric", "golden", "stolen",  "tiny",   "square",  "velvet",
                                         "rusty",  "crystal",  "striped", "foreign", "crooked"};
static const char *const owners[PARTS] = {
    "laptop", "tower",   "elephant", "bakery", "safe",      "violin",  "submarine",  "painting", "radio",
    "castle", "penguin", "bridge",   "carpet", "telescope", "tractor", "lighthouse", "piano",    "statue",
    "garden", "bicycle", "umbrella", "engine", "helmet",    "mirror",  "wagon",      "candle"};

int needles_draw(int64_t seed, const numbers *depths, needle **out)
{
    int order[3][PARTS];
    rng keys = rng_start(seed, "keys"), values = rng_start(seed, "values");
    if (depths->n > KEYS)
        return cli_fail(EXIT_USAGE, "--depths has %d depths; there are names for %d needles", depths->n, KEYS);
    needle *list = calloc((size_t)depths->n, sizeof *list);
    if (!list)
        return cli_fail(EXIT_FAILED, "out of memory");
    for (int i = 0; i < 3; i++)
        rng_order(&keys, order[i], PARTS);
    for (int i = 0; i < depths->n; i++) {
        needle *one = &list[i];
        bool taken = true;
        one->depth = depths->v[i];
        /* The owners shift from round to round, so that no two keys have both kind and owner in common. */
        snprintf(one->key, sizeof one->key, "%s number of the %s %s", things[order[0][i % PARTS]],
                 kinds[order[1][i % PARTS]], owners[order[2][(i + i / PARTS) % PARTS]]);
        while (taken) {
            snprintf(one->value, sizeof one->value, "%lld", (long long)(1000000 + rng_below(&values, 9000000)));
            taken = false;
            for (int j = 0; j < i; j++)
                taken = taken || !strcmp(list[j].value, one->value);
        }
        snprintf(one->sentence, sizeof one->sentence, "The %s is: %s.", one->key, one->value);
    }
    *out = list;
    return EXIT_DONE;
}

/* Bytes [from, to) of the haystack; what it begins with may have to be parted from a needle before it. */
static bool put_hay(text *out, const text *hay, size_t from, size_t to)
{
    bool part = !from && out->len && to;
    return (!part || text_append(out, " ", 1)) && text_append(out, hay->data + from, to - from);
}

bool needles_hide(const haystack *h, int64_t seed, size_t n, const needle *list, int n_list, text *out, int *rounds)
{
    text hay = {0};
    size_t done = 0;
    out->len = 0;
    bool fine = text_append(out, "", 0) && text_append(&hay, "", 0) && haystack_take(h, seed, n, &hay, rounds);
    for (int i = 0; i < n_list && fine; i++) { /* depths ascend */
        size_t at = haystack_sentence_end(hay.data, hay.len, (size_t)((double)hay.len * (double)list[i].depth / 100));
        fine = put_hay(out, &hay, done, at) && (!out->len || text_append(out, " ", 1)) &&
               text_append(out, list[i].sentence, strlen(list[i].sentence));
        done = at;
    }
    fine = fine && put_hay(out, &hay, done, hay.len);
    text_free(&hay);
    return fine;
}

/* Tokens of a text with a question after it, as it is sent. */
static int count_with(const eval *e, const text *body, const char *ask, int64_t *count)
{
    text whole = {0}, sent = {0};
    bool fine = text_append(&whole, body->data, body->len) && text_append(&whole, ask, strlen(ask));
    int rc = fine ? eval_wrap(e, whole.data, NULL, false, &sent) : cli_fail(EXIT_FAILED, "out of memory");
    if (!rc)
        rc = eval_count(e, sent.data, sent.len, count);
    text_free(&whole);
    text_free(&sent);
    return rc;
}

int needles_fit(const eval *e, const haystack *h, int64_t seed, int64_t length, const needle *list, int n_list,
                const char *ask, text *out, int *rounds)
{
    enum { CLOSE = 24, TRIES = 16 };
    /* Bytes that fit and bytes that do not, with their tokens. */
    double fits = 0, over = -1, n = 4.0 * (double)length;
    int64_t count;
    int rc = needles_hide(h, seed, 0, list, n_list, out, rounds) ? count_with(e, out, ask, &count)
                                                                 : cli_fail(EXIT_FAILED, "out of memory");
    if (!rc && count > length)
        rc = cli_fail(EXIT_USAGE, "%d needles and the question are %lld tokens: more than --lengths %lld", n_list,
                      (long long)count, (long long)length);
    for (int i = 0; i < TRIES && !rc; i++) {
        if (!needles_hide(h, seed, (size_t)n, list, n_list, out, rounds))
            return cli_fail(EXIT_FAILED, "out of memory");
        rc = count_with(e, out, ask, &count);
        if (count <= length)
            fits = n;
        else
            over = n;
        if (count <= length && (length - count <= CLOSE || (over > 0 && over - fits < 16)))
            return rc;
        double guess = n * (double)(length - CLOSE / 2) / (double)(count ? count : 1);
        if (over > 0 && (guess >= over || guess <= fits || i > TRIES / 2))
            guess = 0.5 * (fits + over);
        n = guess;
    }
    if (!rc && !needles_hide(h, seed, (size_t)fits, list, n_list, out, rounds))
        rc = cli_fail(EXIT_FAILED, "out of memory");
    return rc;
}
