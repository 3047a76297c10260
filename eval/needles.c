/* needles.c - see needles.h. */
#include "needles.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "random.h"

static const char *const cities[] = {
    "Berlin",   "Paris",    "London",    "Madrid",    "Rome",      "Vienna",     "Prague",   "Warsaw",     "Lisbon",
    "Dublin",   "Athens",   "Oslo",      "Stockholm", "Helsinki",  "Copenhagen", "Budapest", "Bucharest",  "Sofia",
    "Zagreb",   "Belgrade", "Brussels",  "Amsterdam", "Hamburg",   "Munich",     "Cologne",  "Milan",      "Naples",
    "Turin",    "Venice",   "Florence",  "Barcelona", "Valencia",  "Seville",    "Porto",    "Lyon",       "Marseille",
    "Toulouse", "Geneva",   "Zurich",    "Krakow",    "Moscow",    "Kiev",       "Riga",     "Vilnius",    "Tallinn",
    "Istanbul", "Ankara",   "Cairo",     "Tunis",     "Algiers",   "Casablanca", "Dakar",    "Lagos",      "Accra",
    "Nairobi",  "Kampala",  "Harare",    "Pretoria",  "Durban",    "Windhoek",   "Tehran",   "Baghdad",    "Damascus",
    "Beirut",   "Amman",    "Jerusalem", "Riyadh",    "Dubai",     "Muscat",     "Karachi",  "Lahore",     "Delhi",
    "Mumbai",   "Chennai",  "Calcutta",  "Dhaka",     "Kathmandu", "Colombo",    "Bangkok",  "Hanoi",      "Saigon",
    "Jakarta",  "Manila",   "Singapore", "Taipei",    "Shanghai",  "Beijing",    "Seoul",    "Tokyo",      "Osaka",
    "Kyoto",    "Sydney",   "Melbourne", "Brisbane",  "Perth",     "Auckland",   "Toronto",  "Montreal",   "Vancouver",
    "Boston",   "Chicago",  "Denver",    "Dallas",    "Houston",   "Seattle",    "Phoenix",  "Miami",      "Atlanta",
    "Detroit",  "Havana",   "Caracas",   "Bogota",    "Lima",      "Quito",      "Santiago", "Montevideo", "Brasilia",
    "Salvador", "Recife",   "Asuncion"};
enum { CITIES = sizeof cities / sizeof *cities };

int needles_most(void)
{
    return CITIES;
}

int needles_draw(int64_t seed, const numbers *depths, needle **out)
{
    int order[CITIES];
    rng keys = rng_start(seed, "keys"), values = rng_start(seed, "values");
    if (depths->n > CITIES)
        return cli_fail(EXIT_USAGE, "--depths has %d depths; there are names for %d needles", depths->n, CITIES);
    needle *list = calloc((size_t)depths->n, sizeof *list);
    if (!list)
        return cli_fail(EXIT_FAILED, "out of memory");
    rng_order(&keys, order, CITIES);
    for (int i = 0; i < depths->n; i++) {
        needle *one = &list[i];
        bool taken = true;
        one->depth = depths->v[i];
        one->key = cities[order[i]];
        while (taken) {
            snprintf(one->value, sizeof one->value, "%lld", (long long)(1000000 + rng_below(&values, 9000000)));
            taken = false;
            for (int j = 0; j < i; j++)
                taken = taken || !strcmp(list[j].value, one->value);
        }
        snprintf(one->sentence, sizeof one->sentence, "The special magic %s number is: %s.", one->key, one->value);
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
