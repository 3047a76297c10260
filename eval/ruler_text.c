/* ruler_text.c - see ruler_text.h. */
#include "ruler_text.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "eval.h"

#define NOISE "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."

enum { DEPTHS = 40, HOPS = 4, COMMON = 10 };

const ruler_task ruler_tasks[] = {{"niah_single_1", RULER_NIAH, 128, RULER_NOISE, false, false, 1, 1, 1},
                                  {"niah_single_2", RULER_NIAH, 128, RULER_ESSAY, false, false, 1, 1, 1},
                                  {"niah_single_3", RULER_NIAH, 128, RULER_ESSAY, false, true, 1, 1, 1},
                                  {"niah_multikey_1", RULER_NIAH, 128, RULER_ESSAY, false, false, 4, 1, 1},
                                  {"niah_multikey_2", RULER_NIAH, 128, RULER_NEEDLE, false, false, 1, 1, 1},
                                  {"niah_multikey_3", RULER_NIAH, 128, RULER_NEEDLE, true, true, 1, 1, 1},
                                  {"niah_multivalue", RULER_NIAH, 128, RULER_ESSAY, false, false, 1, 4, 1},
                                  {"niah_multiquery", RULER_NIAH, 128, RULER_ESSAY, false, false, 4, 1, 4},
                                  {"vt", RULER_VT, 30, RULER_NOISE, false, false, 0, 0, 0},
                                  {"cwe", RULER_CWE, 120, RULER_NOISE, false, false, 0, 0, 0},
                                  {"fwe", RULER_FWE, 50, RULER_NOISE, false, false, 0, 0, 0},
                                  {0}};

/* --------------------------------------------------------------------------------------------- source -------- */

int ruler_source_load(const haystack *h, ruler_source *out)
{
    *out = (ruler_source){0};
    bool fine = words_of(h->text.data, &out->words), space = true;
    for (const char *s = h->text.data; *s && fine; s++) {
        bool is = isspace((unsigned char)*s);
        if (!is || !space)
            fine = text_append(&out->prose, is ? " " : s, 1);
        space = is;
    }
    out->ends = fine ? malloc((out->prose.len / 2 + 2) * sizeof *out->ends) : NULL;
    if (!out->ends)
        return cli_fail(EXIT_FAILED, "out of memory");
    for (size_t i = 0; i < out->prose.len; i++)
        if (out->prose.data[i] != ' ' && (i + 1 == out->prose.len || out->prose.data[i + 1] == ' '))
            out->ends[out->n_words++] = i + 1;
    if (out->words.n < 100 || out->n_words < 100)
        return cli_fail(EXIT_FAILED, "%s has %d distinct words; RULER's tasks are made of at least 100", h->name,
                        out->words.n);
    return EXIT_DONE;
}

void ruler_source_free(ruler_source *s)
{
    free(s->ends);
    text_free(&s->prose);
    words_free(&s->words);
}

/* ------------------------------------------------------------------------------------------- pieces ---------- */

static bool put(text *t, const char *s)
{
    return text_append(t, s, strlen(s));
}

static void draw_uuid(rng *r, char *buf)
{
    uint64_t a = rng_next(r), b = rng_next(r);
    a = (a & ~UINT64_C(0xF000)) | 0x4000; /* version 4 */
    b = (b & ~(UINT64_C(3) << 62)) | (UINT64_C(1) << 63);
    snprintf(buf, 40, "%08llx-%04llx-%04llx-%04llx-%012llx", (unsigned long long)(a >> 32),
             (unsigned long long)(a >> 16 & 0xFFFF), (unsigned long long)(a & 0xFFFF), (unsigned long long)(b >> 48),
             (unsigned long long)(b & 0xFFFFFFFFFFFF));
}

static void draw_number(rng *r, char *buf, int64_t least, int64_t n)
{
    snprintf(buf, 40, "%lld", (long long)(least + rng_below(r, n)));
}

static void draw_key(rng *r, const words *w, bool uuid, char *buf)
{
    if (uuid)
        draw_uuid(r, buf);
    else
        snprintf(buf, 40, "%s-%s", words_draw(w, r), words_draw(w, r));
}

static void draw_value(rng *r, bool uuid, char *buf)
{
    if (uuid)
        draw_uuid(r, buf);
    else
        draw_number(r, buf, 1000000, 9000000);
}

/* n different numbers below `below` in ascending order. */
static void draw_places(rng *r, int64_t below, int64_t *places, int n)
{
    for (int i = 0; i < n; i++) {
        int64_t p = rng_below(r, below - i);
        int k = 0;
        while (k < i && places[k] <= p) /* the p-th of those that are left */
            p++, k++;
        memmove(places + k + 1, places + k, (size_t)(i - k) * sizeof *places);
        places[k] = p;
    }
}

/* ----------------------------------------------------------------------------------------------- niah -------- */

enum { MOST_NEEDLES = 4 };

typedef struct needles {
    char keys[MOST_NEEDLES][40], values[MOST_NEEDLES][40]; /* of needle i; needles of one key follow each other */
    char sentences[MOST_NEEDLES][160];
    int n;
} needles;

static bool put_needle(text *out, const ruler_task *t, const char *key, const char *value)
{
    return eval_fill(out, "One of the special magic {type} for {key} is: {value}.", "type",
                     t->uuid_values ? "uuids" : "numbers", "key", key, "value", value, NULL);
}

static bool draw_needles(const ruler_task *t, const ruler_source *s, rng *r, needles *out)
{
    bool fine = true;
    out->n = 0;
    for (int k = 0; k < t->keys; k++) {
        char key[40];
        draw_key(r, &s->words, t->uuid_keys, key);
        for (int v = 0; v < t->values && fine; v++) {
            text one = {0};
            int i = out->n++;
            memcpy(out->keys[i], key, sizeof key);
            draw_value(r, t->uuid_values, out->values[i]);
            fine = put_needle(&one, t, key, out->values[i]);
            snprintf(out->sentences[i], sizeof out->sentences[i], "%s", one.data ? one.data : "");
            text_free(&one);
        }
    }
    return fine;
}

/* The essays' first `size` words, with needles after sentences at depths that are drawn from 40. */
static bool put_essay(text *out, const ruler_source *s, rng *r, int64_t size, const needles *n, const int *order)
{
    int64_t places[MOST_NEEDLES], sentences = 0, at = 0;
    text hay = {0};
    bool fine = true;
    for (int64_t left = size; left > 0 && fine; left -= s->n_words)
        fine = (!hay.len || put(&hay, " ")) &&
               text_append(&hay, s->prose.data, s->ends[left < s->n_words ? left - 1 : s->n_words - 1]);
    for (size_t i = 0; i < hay.len && fine; i++)
        sentences += strchr(".!?", hay.data[i]) && (i + 1 == hay.len || hay.data[i + 1] == ' ');
    draw_places(r, DEPTHS, places, n->n);
    const char *p = hay.data, *end = hay.data + hay.len;
    int next = 0;
    while (fine && (p < end || next < n->n)) {
        /* Sentence number `at` comes next; a needle whose place is there comes before it. */
        while (next < n->n && fine &&
               ((int64_t)((double)sentences * (double)lround(places[next] * 100.0 / (DEPTHS - 1)) / 100) <= at ||
                p >= end))
            fine = (!out->len || put(out, " ")) && put(out, n->sentences[order[next++]]);
        const char *stop = p;
        while (stop < end && !(strchr(".!?", *stop) && (stop + 1 == end || stop[1] == ' ')))
            stop++;
        stop += stop < end;
        if (stop > p)
            fine = fine && (!out->len || put(out, " ")) && text_append(out, p, (size_t)(stop - p));
        p = stop + (stop < end);
        at++;
    }
    text_free(&hay);
    return fine;
}

/* `size` lines of noise or of other needles, and the needles among them. */
static bool put_lines(text *out, const ruler_task *t, const ruler_source *s, rng *r, int64_t size, const needles *n,
                      const int *order)
{
    int64_t places[MOST_NEEDLES];
    bool fine = true;
    draw_places(r, size, places, n->n);
    int next = 0;
    for (int64_t i = 0; i < size && fine; i++) {
        for (; next < n->n && places[next] == i && fine; next++)
            fine = (!out->len || put(out, "\n")) && put(out, n->sentences[order[next]]);
        fine = fine && (!out->len || put(out, "\n"));
        if (t->hay == RULER_NOISE) {
            fine = fine && put(out, NOISE);
        } else {
            char key[40], value[40];
            draw_key(r, &s->words, t->uuid_keys, key);
            draw_value(r, t->uuid_values, value);
            fine = fine && put_needle(out, t, key, value);
        }
    }
    return fine;
}

static bool make_niah(const ruler_task *t, const ruler_source *s, rng *r, int64_t size, text *prompt, text *lead,
                      json_t *outputs)
{
    static const char several[] =
        "Some special magic {type} are hidden within the following text. Make sure to memorize it. "
        "I will quiz you about the {type} afterwards.\n{context}\nWhat are all the special magic "
        "{type} for {query} mentioned in the provided text?",
                      single[] =
                          "A special magic {type} is hidden within the following text. Make sure to memorize it. "
                          "I will quiz you about the {type} afterwards.\n{context}\nWhat is the special magic "
                          "{type} for {query} mentioned in the provided text?";
    bool one = t->queries * t->values == 1;
    const char *type = one ? (t->uuid_values ? "uuid" : "number") : t->uuid_values ? "uuids" : "numbers";
    needles n;
    int order[MOST_NEEDLES], asked[MOST_NEEDLES];
    text context = {0}, query = {0};
    bool fine = draw_needles(t, s, r, &n);
    rng_order(r, order, n.n);
    fine = fine && (t->hay == RULER_ESSAY ? put_essay(&context, s, r, size, &n, order)
                                          : put_lines(&context, t, s, r, size, &n, order));
    rng_order(r, asked, t->keys);
    for (int q = 0; q < t->queries && fine; q++) {
        fine = put(&query, q == 0               ? ""
                           : q + 1 < t->queries ? ", "
                                                : ", and ") &&
               put(&query, n.keys[asked[q] * t->values]);
        for (int v = 0; v < t->values; v++)
            json_array_append_new(outputs, json_string(n.values[asked[q] * t->values + v]));
    }
    fine =
        fine &&
        eval_fill(prompt, one ? single : several, "type", type, "context", context.data, "query", query.data, NULL) &&
        eval_fill(lead,
                  one ? " The special magic {type} for {query} mentioned in the provided text is"
                      : " The special magic {type} for {query} mentioned in the provided text are",
                  "type", type, "query", query.data, NULL);
    text_free(&context);
    text_free(&query);
    return fine;
}

/* ------------------------------------------------------------------------------------------------- vt -------- */

static void draw_variable(rng *r, int letters, char *buf)
{
    for (int i = 0; i < letters; i++)
        buf[i] = (char)('A' + rng_below(r, 26));
    buf[letters] = 0;
}

/* A chain VAR A = 12345, VAR B = VAR A, ... among `size` lines of noise. */
static bool make_chain(rng *r, int letters, int64_t size, text *prompt, text *lead, json_t *outputs)
{
    char names[HOPS + 1][8], value[40], count[8];
    int64_t places[HOPS + 1];
    text context = {0};
    bool fine = true;
    for (int i = 0; i <= HOPS; i++)
        for (bool taken = true; taken;) {
            draw_variable(r, letters, names[i]);
            taken = false;
            for (int k = 0; k < i; k++)
                taken = taken || !strcmp(names[k], names[i]);
        }
    draw_number(r, value, 10000, 89999);
    draw_places(r, size, places, HOPS + 1);
    int next = 0;
    for (int64_t i = 0; i < size && fine; i++) {
        for (; next <= HOPS && places[next] == i && fine; next++)
            fine = (!context.len || put(&context, "\n")) && put(&context, "VAR ") && put(&context, names[next]) &&
                   put(&context, next ? " = VAR " : " = ") && put(&context, next ? names[next - 1] : value) &&
                   put(&context, next ? " " : "");
        fine = fine && (!context.len || put(&context, "\n")) && put(&context, NOISE);
    }
    for (int i = 0; i <= HOPS; i++)
        json_array_append_new(outputs, json_string(names[i]));
    snprintf(count, sizeof count, "%d", HOPS + 1);
    fine =
        fine &&
        eval_fill(prompt,
                  "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n{context}\n"
                  "Question: Find all variables that are assigned the value {query} in the text above.",
                  "context", context.data, "query", value, NULL) &&
        eval_fill(lead,
                  " Answer: According to the chain(s) of variable assignment in the text above, {n} variables are "
                  "assigned the value {query}, they are: ",
                  "n", count, "query", value, NULL);
    text_free(&context);
    return fine;
}

bool ruler_make_example(int64_t seed, int icl_size, text *out)
{
    rng r = rng_start(seed, "vt example");
    text prompt = {0}, lead = {0};
    json_t *outputs = json_array();
    bool fine = make_chain(&r, 3, icl_size, &prompt, &lead, outputs) && text_append(out, prompt.data, prompt.len) &&
                text_append(out, lead.data, lead.len);
    for (size_t i = 0; i < json_array_size(outputs) && fine; i++)
        fine = put(out, " ") && put(out, json_string_value(json_array_get(outputs, i)));
    fine = fine && put(out, "\n\n");
    json_decref(outputs);
    text_free(&prompt);
    text_free(&lead);
    return fine;
}

/* ------------------------------------------------------------------------------------------------ cwe -------- */

static const char cwe_prompt[] =
    "Below is a numbered list of words. In these words, some appear more often than others. "
    "Memorize the ones that appear most often.\n{context}\nQuestion: What are the 10 most "
    "common words in the above list?",
                  cwe_lead[] = " Answer: The top 10 words that appear most often in the list are:";

/* A list of `size` words, the first 10 of them `often` times and the others `seldom` times. */
static bool make_list(const words *w, rng *r, int size, int often, int seldom, text *context, json_t *common)
{
    int n = COMMON * often + (size - COMMON) * seldom;
    int *drawn = malloc((size_t)w->n * sizeof *drawn), *order = malloc((size_t)n * sizeof *order);
    bool fine = drawn && order;
    if (fine) {
        rng_order(r, drawn, w->n);
        rng_order(r, order, n);
    }
    for (int i = 0; i < n && fine; i++) {
        char line[64];
        int k = order[i], which = k < COMMON * often ? k % COMMON : COMMON + (k - COMMON * often) % (size - COMMON);
        snprintf(line, sizeof line, "%s%d. %s", i ? " " : "", i + 1, w->list[drawn[which]]);
        fine = put(context, line);
    }
    for (int i = 0; i < COMMON && fine; i++)
        json_array_append_new(common, json_string(w->list[drawn[i]]));
    free(drawn);
    free(order);
    return fine;
}

static bool make_cwe(const ruler_source *s, rng *r, int64_t length, int64_t size, text *prompt, text *lead,
                     json_t *outputs)
{
    bool small = length < 4096;
    text example = {0}, context = {0};
    json_t *shown = json_array();
    bool fine = make_list(&s->words, r, small ? 20 : 40, small ? 3 : 10, small ? 1 : 3, &example, shown) &&
                make_list(&s->words, r, (int)size, small ? 6 : 30, small ? 1 : 3, &context, outputs) &&
                eval_fill(prompt, cwe_prompt, "context", example.data, NULL) && put(prompt, cwe_lead);
    for (int i = 0; i < COMMON && fine; i++) {
        char line[64];
        snprintf(line, sizeof line, " %d. %s", i + 1, json_string_value(json_array_get(shown, (size_t)i)));
        fine = put(prompt, line);
    }
    fine = fine && put(prompt, "\n") && eval_fill(prompt, cwe_prompt, "context", context.data, NULL) &&
           put(lead, cwe_lead);
    json_decref(shown);
    text_free(&example);
    text_free(&context);
    return fine;
}

/* ------------------------------------------------------------------------------------------------ fwe -------- */

/* Coded words whose counts fall as rank^-2; the most frequent one is noise, "...". */
static bool make_fwe(rng *r, int64_t length, int64_t size, text *prompt, text *lead, json_t *outputs)
{
    const double zeta2 = 1.6449340668482264; /* pi^2 / 6 */
    int64_t vocabulary = length / 50 > 4 ? length / 50 : 4, n = 0;
    char(*coded)[8] = malloc((size_t)vocabulary * sizeof *coded);
    int *rank = malloc((size_t)(size + 1) * sizeof *rank), *order = malloc((size_t)(size + 1) * sizeof *order);
    text context = {0};
    bool fine = coded && rank && order;
    for (int64_t i = 0; i < vocabulary && fine; i++) {
        for (int k = 0; k < 6; k++)
            coded[i][k] = (char)('a' + rng_below(r, 26));
        coded[i][6] = 0;
    }
    if (fine)
        strcpy(coded[0], "...");
    for (int64_t k = 0; k < vocabulary && fine; k++)
        for (int64_t c = (int64_t)((double)size / ((double)(k + 1) * (double)(k + 1)) / zeta2); c > 0 && n < size; c--)
            rank[n++] = (int)k;
    if (fine)
        rng_order(r, order, (int)n);
    for (int64_t i = 0; i < n && fine; i++)
        fine = put(&context, i ? " " : "") && put(&context, coded[rank[order[i]]]);
    for (int i = 1; i <= 3 && fine; i++)
        json_array_append_new(outputs, json_string(coded[i]));
    fine = fine &&
           eval_fill(prompt,
                     "Read the following coded text and track the frequency of each coded word. Find the three most "
                     "frequently appeared coded words. {context}\nQuestion: Do not provide any explanation. Please "
                     "ignore the dots '....'. What are the three most frequently appeared words in the above coded "
                     "text?",
                     "context", context.data ? context.data : "", NULL) &&
           put(lead, " Answer: According to the coded text above, the three most frequently appeared words are:");
    free(coded);
    free(rank);
    free(order);
    text_free(&context);
    return fine;
}

/* ------------------------------------------------------------------------------------------------ all -------- */

int64_t ruler_least(const ruler_task *t)
{
    return t->kind == RULER_CWE ? COMMON + 1 : t->kind == RULER_FWE ? 40 : 8;
}

int64_t ruler_most(const ruler_task *t, const ruler_source *s)
{
    return t->kind == RULER_CWE ? s->words.n : INT64_C(1) << 30;
}

bool ruler_make(const ruler_task *t, const ruler_source *s, int64_t seed, int64_t length, int64_t size, int icl_size,
                text *prompt, text *lead, json_t **outputs)
{
    rng r = rng_start(seed, t->name);
    prompt->len = lead->len = 0;
    if (!(*outputs = json_array()))
        return false;
    switch (t->kind) {
    case RULER_NIAH:
        return make_niah(t, s, &r, size, prompt, lead, *outputs);
    case RULER_VT:
        return ruler_make_example(seed, icl_size, prompt) && make_chain(&r, 5, size, prompt, lead, *outputs);
    case RULER_CWE:
        return make_cwe(s, &r, length, size, prompt, lead, *outputs);
    case RULER_FWE:
        return make_fwe(&r, length, size, prompt, lead, *outputs);
    }
    return false;
}

/* Python's str.lower() for ASCII. */
static bool contains(const char *s, const char *what)
{
    size_t n = strlen(what);
    for (; *s; s++) {
        size_t i = 0;
        while (i < n && s[i] && tolower((unsigned char)s[i]) == tolower((unsigned char)what[i]))
            i++;
        if (i == n)
            return true;
    }
    return n == 0;
}

double ruler_score(const char *answer, const json_t *outputs)
{
    double found = 0;
    for (size_t i = 0; i < json_array_size(outputs); i++)
        found += contains(answer, json_string_value(json_array_get(outputs, i)));
    return json_array_size(outputs) ? found / (double)json_array_size(outputs) : 0;
}
