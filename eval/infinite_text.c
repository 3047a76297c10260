/* infinite_text.c - see infinite_text.h.
 *
 * passkey, number_string: a sentence after a random share of repeated ones. kv_retrieval: pairs of UUIDs, one asked
 * for. math_find: numbers of 20 to 80 and one that is larger or smaller than all. code_run: functions that call each
 * other in chains and add or subtract. */
#include "infinite_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fit.h"
#include "random.h"

static const char noise[] =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n";

typedef bool (*maker)(rng *r, int64_t size, text *context, text *input, json_t **answer);

static bool put(text *t, const char *s)
{
    return text_append(t, s, strlen(s));
}

/* `size` lines of noise and a sentence with the key among them. */
static bool hide(rng *r, int64_t size, const char *sentence, const char *key, text *context)
{
    int64_t at = rng_below(r, size + 1);
    bool fine = true;
    for (int64_t i = 0; i <= size && fine; i++) {
        if (i == at)
            fine = eval_fill(context, sentence, "key", key, NULL);
        if (i < size)
            fine = fine && put(context, noise);
    }
    return fine;
}

static bool make_passkey(rng *r, int64_t size, text *context, text *input, json_t **answer)
{
    char key[6];
    for (int i = 0; i < 5; i++)
        key[i] = (char)('0' + rng_below(r, 10));
    key[5] = 0;
    *answer = json_string(key);
    return put(input, "What is the pass key?") &&
           hide(r, size, "The pass key is {key}. Remember it. {key} is the pass key.\n", key, context);
}

/* Ten digits of which neighbours are often equal. */
static bool make_number_string(rng *r, int64_t size, text *context, text *input, json_t **answer)
{
    char key[11];
    int n = 5;
    for (int i = 0; i < n; i++)
        key[i] = (char)('0' + rng_below(r, 10));
    for (; n < 10; n++) {
        int at = (int)rng_below(r, n);
        memmove(key + at + 1, key + at, (size_t)(n - at));
    }
    key[10] = 0;
    *answer = json_string(key);
    return put(input, "What is the sequence of digits?") &&
           hide(r, size, "The sequence of digits is {key}. Remember it. {key} is the sequence of digits.\n", key,
                context);
}

static void draw_uuid(rng *r, char *buf)
{
    uint64_t a = rng_next(r), b = rng_next(r);
    snprintf(buf, 40, "%08llx-%04llx-4%03llx-%04llx-%012llx", (unsigned long long)(a >> 32),
             (unsigned long long)(a >> 16 & 0xFFFF), (unsigned long long)(a & 0xFFF),
             (unsigned long long)(0x8000 | (b >> 48 & 0x3FFF)), (unsigned long long)(b & 0xFFFFFFFFFFFF));
}

static bool make_kv(rng *r, int64_t size, text *context, text *input, json_t **answer)
{
    int64_t asked = rng_below(r, size);
    bool fine = put(context, "JSON data:\n{");
    for (int64_t i = 0; i < size && fine; i++) {
        char key[40], value[40];
        draw_uuid(r, key);
        draw_uuid(r, value);
        fine = put(context, i ? ", " : "") &&
               eval_fill(context, "\"{key}\": \"{value}\"", "key", key, "value", value, NULL);
        if (i == asked) {
            fine = fine && eval_fill(input, "\nKey: \"{key}\"\nThe value associated with the specified key is: ", "key",
                                     key, NULL);
            *answer = json_string(value);
        }
    }
    return fine && put(context, "}");
}

static bool make_math_find(rng *r, int64_t size, text *context, text *input, json_t **answer)
{
    static const char *const asked[] = {"largest", "smallest", "second largest", "second smallest"};
    int which = (int)rng_below(r, 4), small = which % 2, second = which / 2;
    int64_t extreme = small ? 10 + rng_below(r, 8) : 83 + rng_below(r, 16), next = small ? extreme + 1 : extreme - 1;
    int64_t at = rng_below(r, size), at_next = (at + 1 + rng_below(r, size - 1)) % size;
    bool fine = put(context, "[");
    for (int64_t i = 0; i < size && fine; i++) {
        char number[32];
        int64_t v = i == at ? extreme : i == at_next && second ? next : 20 + rng_below(r, 61);
        snprintf(number, sizeof number, "%s%lld", i ? ", " : "", (long long)v);
        fine = put(context, number);
    }
    *answer = json_integer(second ? next : extreme);
    return fine && put(context, "]") &&
           eval_fill(input,
                     "You should answer with only one number, no other words. The {which} number of the list is: ",
                     "which", asked[which], NULL);
}

/* Function i of a chain calls the next one and adds a constant; chains are mixed. */
static bool make_code_run(rng *r, int64_t size, text *context, text *input, json_t **answer)
{
    enum { DEPTH = 4 };
    int n = (int)(size / DEPTH * DEPTH);
    int *order = malloc((size_t)(n + 1) * sizeof *order);
    int64_t *add = malloc((size_t)(n + 1) * sizeof *add);
    bool fine = order && add;
    if (fine)
        rng_order(r, order,
                  n); /* order[k] is the name of function k; k and k + 1 are one chain unless k + 1 starts one */
    for (int k = 0; k < n && fine; k++)
        add[k] = rng_below(r, 19) - 9;
    for (int name = 0; name < n && fine; name++) {
        int k = 0;
        while (order[k] != name)
            k++;
        char body[128];
        const char *sign = add[k] < 0 ? "-" : "+";
        int64_t size_of = add[k] < 0 ? -add[k] : add[k];
        if (k % DEPTH == DEPTH - 1)
            snprintf(body, sizeof body, "def func_%d(x):\n    return x %s %lld\n\n", name, sign, (long long)size_of);
        else
            snprintf(body, sizeof body, "def func_%d(x):\n    return func_%d(x) %s %lld\n\n", name, order[k + 1], sign,
                     (long long)size_of);
        fine = put(context, body);
    }
    if (fine) {
        int chain = (int)rng_below(r, n / DEPTH) * DEPTH;
        int64_t x = rng_below(r, 41) - 20, value = x;
        char question[128];
        for (int k = chain; k < chain + DEPTH; k++)
            value += add[k];
        snprintf(question, sizeof question, "Please give me the exact number of the return value of func_%d(%lld).",
                 order[chain], (long long)x);
        fine = put(input, question);
        *answer = json_integer(value);
    }
    free(order);
    free(add);
    return fine;
}

static const struct {
    const char *name;
    maker make;
    int64_t least, most;
} makers[] = {{"passkey", make_passkey, 1, INT64_C(1) << 30},
              {"number_string", make_number_string, 1, INT64_C(1) << 30},
              {"kv_retrieval", make_kv, 2, INT64_C(1) << 30},
              {"math_find", make_math_find, 4, INT64_C(1) << 30},
              {"code_run", make_code_run, 8, 20000}};

static int find(const char *name)
{
    for (int i = 0; i < (int)(sizeof makers / sizeof *makers); i++)
        if (!strcmp(makers[i].name, name))
            return i;
    return -1;
}

bool infinite_makes(const char *name)
{
    return find(name) >= 0;
}

typedef struct job {
    const eval *eval;
    const set *set;
    int64_t length, seed;
    int (*fill)(const question *q, sample *out);
    json_t *item;
} job;

static int build(job *j, int64_t size)
{
    char stream[64];
    text context = {0}, input = {0};
    json_t *answer = NULL;
    snprintf(stream, sizeof stream, "%s %lld", j->set->name, (long long)j->length);
    rng r = rng_start(j->seed, stream);
    json_decref(j->item);
    bool fine = makers[find(j->set->name)].make(&r, size, &context, &input, &answer);
    j->item = fine
                  ? json_pack("{s:s%, s:s%, s:o, s:I, s:I}", "context", context.data, context.len, "input", input.data,
                              input.len, "answer", answer, "length", (json_int_t)j->length, "seed", (json_int_t)j->seed)
                  : (json_decref(answer), NULL);
    text_free(&context);
    text_free(&input);
    return j->item ? EXIT_DONE : cli_fail(EXIT_FAILED, "out of memory");
}

static int tokens(void *user, int64_t size, int64_t *count)
{
    job *j = user;
    sample one = {.own = json_object()};
    text sent = {0};
    int rc = build(j, size);
    question q = {j->set, j->item, 0, 0};
    if (!rc)
        rc = j->fill(&q, &one);
    if (!rc)
        rc = eval_wrap(j->eval, one.prompt.data, one.lead.data, one.plain, &sent);
    if (!rc)
        rc = eval_count(j->eval, sent.data, sent.len, count);
    sample_free(&one);
    text_free(&sent);
    return rc;
}

int infinite_make(const eval *e, const set *s, int64_t length, int64_t seed,
                  int (*fill)(const question *q, sample *out), json_t **item)
{
    job j = {e, s, length, seed, fill, NULL};
    int m = find(s->name);
    int64_t size;
    int rc = fit_size(s->name, length, makers[m].least, makers[m].most, tokens, &j, &size);
    if (!rc)
        rc = build(&j, size);
    *item = j.item;
    if (rc)
        json_decref(j.item);
    return rc;
}
