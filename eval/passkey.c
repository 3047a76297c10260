/* passkey.c - reattn eval passkey: a number of five digits in a text that says the same again and again, as in
 * llama.cpp's example and in InfiniteBench; the text is read for each number. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fit.h"
#include "metric_match.h"
#include "random.h"
#include "suite.h"

enum { ANSWER = 8 };

typedef struct passkey {
    suite suite;
    numbers lengths, depths, seeds;
} passkey;

typedef struct place {
    int64_t length, depth, seed;
} place;

static place place_of(const passkey *j, int64_t i)
{
    int64_t rest = i / j->depths.n;
    return (place){j->lengths.v[rest / j->seeds.n], j->depths.v[i % j->depths.n], j->seeds.v[rest % j->seeds.n]};
}

static void name_of(const suite *s, int64_t i, char *buf, size_t cap)
{
    place p = place_of(s->task, i);
    snprintf(buf, cap, "%lld/%lld/%lld", (long long)p.length, (long long)p.depth, (long long)p.seed);
}

static int64_t cost_of(const suite *s, const config *c, int64_t i, int64_t before)
{
    (void)c;
    (void)before;
    return place_of(s->task, i).length;
}

/* `n` sentences of noise with the key after `depth` percent of them. */
static bool build(int64_t n, int64_t depth, const char *key, text *out)
{
    static const char noise[] =
        "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n";
    int64_t before = (n * depth + 50) / 100;
    out->len = 0;
    bool fine = eval_fill(out,
                          "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. "
                          "I will quiz you about the important information.\n\n",
                          NULL);
    for (int64_t i = 0; i <= n && fine; i++) {
        if (i == before)
            fine = eval_fill(out, "The pass key is {key}. Remember it. {key} is the pass key.\n", "key", key, NULL);
        if (i < n)
            fine = fine && text_append(out, noise, sizeof noise - 1);
    }
    return fine && eval_fill(out, "\nWhat is the pass key?", NULL);
}

static const char lead[] = "\n\nThe pass key is";

typedef struct sizing {
    const eval *eval;
    const place *place;
    const char *key;
    text *prompt;
} sizing;

static int count(void *user, int64_t size, int64_t *tokens)
{
    sizing *z = user;
    text sent = {0};
    int rc = build(size, z->place->depth, z->key, z->prompt) ? eval_wrap(z->eval, z->prompt->data, lead, false, &sent)
                                                             : cli_fail(EXIT_FAILED, "out of memory");
    if (!rc)
        rc = eval_count(z->eval, sent.data, sent.len, tokens);
    text_free(&sent);
    return rc;
}

static int make_case(suite *s, int64_t i, sample *out)
{
    place p = place_of(s->task, i);
    char stream[64], key[24];
    int64_t size;
    snprintf(stream, sizeof stream, "passkey %lld %lld", (long long)p.length, (long long)p.depth);
    rng r = rng_start(p.seed, stream);
    snprintf(key, sizeof key, "%lld", (long long)(10000 + rng_below(&r, 90000)));
    int rc =
        fit_size("a pass key", p.length, 0, INT64_C(1) << 30, count, &(sizing){&s->eval, &p, key, &out->prompt}, &size);
    if (rc)
        return rc;
    out->limit = s->eval.opt->eval.n_answer ? s->eval.opt->eval.n_answer : ANSWER;
    out->expected = json_string(key);
    out->own = json_pack("{s:I, s:I, s:I}", "length", (json_int_t)p.length, "depth", (json_int_t)p.depth, "seed",
                         (json_int_t)p.seed);
    bool fine = build(size, p.depth, key, &out->prompt) && text_append(&out->lead, lead, sizeof lead - 1);
    return fine ? EXIT_DONE : cli_fail(EXIT_FAILED, "out of memory");
}

static double score(const sample *one, const char *answer)
{
    return metric_first_integer(answer, json_string_value(one->expected));
}

static int run(passkey *j, const options *opt)
{
    const pivot tables[] = {{{"config"}, "length", "depth", "score", "% exact", 100, 0, false},
                            {{NULL}, "config", "length", "score", "% exact", 100, 1, false}};
    suite *s = &j->suite;
    int rc = eval_start(&s->eval, opt, "passkey");
    if (!rc)
        rc = numbers_read("--lengths", opt->eval.lengths, 64, INT64_C(1) << 32, &j->lengths);
    if (!rc)
        rc = numbers_read("--depths", opt->eval.depths, 0, 100, &j->depths);
    if (!rc)
        rc = eval_read_seeds(opt, &j->seeds);
    if (rc)
        return rc;
    s->task = j;
    s->n = (int64_t)j->lengths.n * j->depths.n * j->seeds.n;
    for (int i = 0; i < j->lengths.n; i++)
        s->room = j->lengths.v[i] + 64 > s->room ? j->lengths.v[i] + 64 : s->room;
    s->name = name_of;
    s->cost = cost_of;
    s->make = make_case;
    s->score = score;
    return suite_run(s, eval_settings(&s->eval), tables, 2);
}

int eval_passkey(const options *opt)
{
    passkey j = {0};
    int rc = run(&j, opt);
    numbers_free(&j.lengths);
    numbers_free(&j.depths);
    numbers_free(&j.seeds);
    eval_end(&j.suite.eval);
    return rc;
}
