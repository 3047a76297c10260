/* infinitebench.c - reattn eval infinitebench: InfiniteBench (arXiv 2402.13718). The sets of text are read from the
 * published files; passkey, number_string, kv_retrieval, math_find and code_run are made here, to any length, if no
 * file is given. Published prompts, of the models that complete text, or with --chat of those that chat; published
 * lengths of answers and metrics. Nothing is cut out of a text. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "infinite_text.h"
#include "metric_choice.h"
#include "metric_match.h"
#include "metric_rouge.h"
#include "sets.h"

enum {
    PASSKEY,
    NUMBER_STRING,
    KV,
    BOOK_SUM,
    BOOK_CHOICE,
    BOOK_QA,
    BOOK_QA_ZH,
    DIALOGUE,
    MATH_FIND,
    MATH_CALC,
    CODE_RUN,
    CODE_DEBUG
};

#define OPTIONS "A. {OPTION_A}\nB. {OPTION_B}\nC. {OPTION_C}\nD. {OPTION_D}"

static const set complete[] = {
    {"passkey",
     "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. I will quiz you "
     "about the "
     "important information.\n\n{context}\n\n{input}\n\nThe pass key is",
     NULL, 6, false, PASSKEY},
    {"number_string",
     "There is an important info hidden inside a lot of irrelevant text. Find it. I will quiz you about the important "
     "information there.\n\n{context}\n\n{input}\n\nThe sequence of digits is",
     NULL, 12, false, NUMBER_STRING},
    {"kv_retrieval",
     "Extract the value corresponding to the specified key in the JSON object below.\n\n{context}\n\n{input}", NULL, 50,
     false, KV},
    {"longbook_sum_eng", "Summarize the book below.\n\n{context}\n\nSummary:", NULL, 1200, false, BOOK_SUM},
    {"longbook_choice_eng",
     "Read the book and answer the question.\n\n{context}\n\nQuestion: {input}\n" OPTIONS
     "\n\nThe letter of the correct answer is",
     NULL, 40, false, BOOK_CHOICE},
    {"longbook_qa_eng",
     "Read the book and answer the question. Be very concise in your answer.\n\n{context}\n\nQuestion: "
     "{input}\nAnswer:",
     NULL, 40, false, BOOK_QA},
    {"longbook_qa_chn", "阅读以下书籍然后回答问题。\n\n{context}\n\n问题：{input}\n答案：", NULL, 40, false,
     BOOK_QA_ZH},
    {"longdialogue_qa_eng",
     "Below is a dialogue script where one random occurrence of a character name is replaced with \"$$MASK$$\", and "
     "you should "
     "try to guess who that character is.\n\n{context}\n\nThe name that has been replaced with $$MASK$$ is likely",
     NULL, 40, false, DIALOGUE},
    {"math_find", "{prefix}\n\n{context}\n\n{input}", NULL, 3, false, MATH_FIND},
    {"math_calc",
     "Let us calculate the intermediate values of an expression.\n\nExpression: 1 + 3 + 4\nValues: [1, 4, "
     "8]\n\nExpression: 8 - 3 "
     "+ 2 - 4\nValues: [8, 5, 7, 3]\n\nExpression: {context}\nValues:",
     NULL, 30000, false, MATH_CALC},
    {"code_run",
     "There is a function called {func} in the following Python code.\n\n{context}\n\nPlease compute the exact value "
     "of "
     "{func_call}. The value of {func_call} is",
     NULL, 5, false, CODE_RUN},
    {"code_debug",
     "Following is a Python code where exactly one of the functions/methods has a deliberate error that makes it "
     "crash.\n\n{context}\n\nOptions:\n" OPTIONS "\n\nThe correct option is:",
     NULL, 5, false, CODE_DEBUG},
    {0}};

static const set chat[] = {
    {"passkey",
     "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. I will quiz you "
     "about the "
     "important information there.\n\n{context}\n\n{input}",
     NULL, 6, false, PASSKEY},
    {"number_string",
     "There is an important info hidden inside a lot of irrelevant text. Find it. I will quiz you about the important "
     "information there.\n\n{context}\n\n{input}",
     NULL, 12, false, NUMBER_STRING},
    {"kv_retrieval",
     "Extract the value corresponding to the specified key in the JSON object below.\n\n{context}\n\n{input}", NULL, 50,
     false, KV},
    {"longbook_sum_eng", "Summarize the following book.\n\n{context}", NULL, 1200, false, BOOK_SUM},
    {"longbook_choice_eng",
     "Read the book and answer the question.\n\n{context}\n\nQuestion: {input}\n\nOnly one of the following options is "
     "correct, "
     "tell me the answer using one single letter (A, B, C, or D). Don't say anything else.\n" OPTIONS,
     NULL, 40, false, BOOK_CHOICE},
    {"longbook_qa_eng",
     "Read the book below and answer a question.\n\n{context}\n\nQuestion: {input}\n\nBe very concise.", NULL, 40,
     false, BOOK_QA},
    {"longbook_qa_chn", "请根据以下书籍回答我的问题。\n\n{context}\n\n问题：{input}\n请尽量简短地回答。", NULL, 40,
     false, BOOK_QA_ZH},
    {"longdialogue_qa_eng",
     "Below is a dialogue script where one random occurrence of a character name is replaced with \"$$MASK$$\", and "
     "you should "
     "try to guess who that character is.\n\nThe dialogue:\n\n---\n\n{context}\n\n---\n\nEnd of dialogue.\n\nWhich "
     "character is "
     "most likely \"$$MASK$$\"? Just say the name used by the scriptwriter (before the colon marks) of one single "
     "character and "
     "nothing else.",
     NULL, 40, false, DIALOGUE},
    {"math_find", "{prefix}\n\n{context}\n\n{input}", NULL, 3, false, MATH_FIND},
    {"math_calc", "Compute the intermediate values in the following long expression.\n\n{context}", NULL, 30000, false,
     MATH_CALC},
    {"code_run",
     "Following is a set of Python functions. There is a function called named {func}.\n\n{context}\n\nPlease give me "
     "the exact "
     "number of the return value of {func_call}. Be concise. Your response must end with the final returned value.",
     NULL, 5, false, CODE_RUN},
    {"code_debug",
     "There is ONLY ONE function in the large project that is deliberately made to include an obvious error. Please "
     "find the "
     "function that contains the most obvious errors. I will give you four options to narrow your scope. You can "
     "inspect the "
     "options and think. Eventually, tell me the answer using one single letter (A, B, C, or D).\n\n{context}\n\nWhich "
     "funtion has "
     "deliberate error?\n" OPTIONS
     "\n\nYou should first find the functions in the options. Repeat their content, inspect through "
     "code, and at last give me your answer for the function that has the deliberate and obvious error in A, B, C, or "
     "D.",
     NULL, 5, false, CODE_DEBUG},
    {0}};

/* -------------------------------------------------------------------------------------------- prompts -------- */

static const char *option(const json_t *item, size_t i)
{
    const char *s = json_string_value(json_array_get(json_object_get(item, "options"), i));
    return s ? s : "";
}

/* "The largest number of the list" -> "What is the largest number in the following list?" */
static bool put_prefix(const char *input, text *out)
{
    const char *from = strstr(input, "The "), *end = NULL;
    for (const char *p = from; p && (p = strstr(p, " of")); p++)
        end = p;
    if (!from || !end)
        return text_append(out, "", 0);
    return text_append(out, "What is t", 9) && text_append(out, from + 1, (size_t)(end - from) - 1) &&
           text_append(out, " in the following list?", 23);
}

/* "func_12(-3)" in the question, and its name. */
static void find_call(const char *input, char call[64], char name[64])
{
    const char *at = input;
    call[0] = name[0] = 0;
    while ((at = strstr(at, "func_"))) {
        size_t digits = strspn(at + 5, "0123456789"), n = 5 + digits;
        if (digits && at[n] == '(' && n < 48) {
            size_t sign = at[n + 1] == '-', number = strspn(at + n + 1 + sign, "0123456789");
            if (number && at[n + 1 + sign + number] == ')' && n + number < 60) {
                snprintf(call, 64, "%.*s", (int)(n + 2 + sign + number), at);
                snprintf(name, 64, "%.*s", (int)n, at);
                return;
            }
        }
        at += 5;
    }
}

/* What the metric compares with: the first of a list; for multiple choice the right option and its letter. */
static json_t *expected_of(const question *q)
{
    const json_t *answer = json_object_get(q->item, "answer");
    if (q->set->kind == BOOK_QA || q->set->kind == BOOK_QA_ZH || q->set->kind == BOOK_SUM)
        return json_is_array(answer) ? json_deep_copy(answer) : json_pack("[O]", answer);
    if (q->set->kind == MATH_CALC)
        return json_deep_copy(json_is_array(json_array_get(answer, 0)) ? json_array_get(answer, 0) : answer);
    const json_t *first = json_is_array(answer) ? json_array_get(answer, 0) : answer;
    if (q->set->kind != BOOK_CHOICE && q->set->kind != CODE_DEBUG)
        return first ? json_deep_copy(first) : NULL;
    for (size_t i = 0; i < 4 && json_is_string(first); i++)
        if (!strcmp(option(q->item, i), json_string_value(first)))
            return json_pack("[s, s%]", option(q->item, i), &"ABCD"[i], (size_t)1);
    return NULL;
}

static bool is_fine(const question *q, const json_t *expected)
{
    int kind = q->set->kind;
    const json_t *first = json_is_array(expected) ? json_array_get(expected, 0) : expected;
    bool number = kind == MATH_FIND || kind == CODE_RUN || kind == MATH_CALC;
    return json_is_string(json_object_get(q->item, "context")) &&
           (number ? json_is_number(first) : json_is_string(first)) &&
           (kind == MATH_CALC || kind == BOOK_SUM || json_is_string(json_object_get(q->item, "input")));
}

static int fill(const question *q, sample *out)
{
    char call[64], name[64];
    text prefix = {0};
    const char *input = json_string_value(json_object_get(q->item, "input"));
    const char *context = json_string_value(json_object_get(q->item, "context"));
    out->expected = expected_of(q);
    if (!is_fine(q, out->expected))
        return cli_fail(EXIT_FAILED,
                        "%s, item %lld: \"context\", \"input\", \"answer\" or \"options\" is not as InfiniteBench "
                        "publishes it",
                        q->set->name, (long long)q->index + 1);
    json_object_set(out->own, "length", json_object_get(q->item, "length"));
    json_object_set(out->own, "seed", json_object_get(q->item, "seed"));
    input = input ? input : "";
    find_call(input, call, name);
    bool fine = put_prefix(input, &prefix) &&
                eval_fill(&out->prompt, q->set->prompt, "context", context, "input", input, "prefix", prefix.data,
                          "func", name, "func_call", call, "OPTION_A", option(q->item, 0), "OPTION_B",
                          option(q->item, 1), "OPTION_C", option(q->item, 2), "OPTION_D", option(q->item, 3), NULL);
    text_free(&prefix);
    return fine ? EXIT_DONE : cli_fail(EXIT_FAILED, "out of memory");
}

/* -------------------------------------------------------------------------------------------- scores --------- */

static double best_f1(const char *answer, const json_t *expected, word_rule rule)
{
    double best = 0;
    for (size_t i = 0; i < json_array_size(expected); i++) {
        double v = metric_f1(answer, json_string_value(json_array_get(expected, i)), rule);
        best = v > best || isnan(v) ? v : best;
    }
    return best;
}

static double number_prefix(const char *answer, const json_t *expected)
{
    size_t n = json_array_size(expected);
    long long *numbers = malloc((n + 1) * sizeof *numbers);
    for (size_t i = 0; numbers && i < n; i++)
        numbers[i] = (long long)json_integer_value(json_array_get(expected, i));
    double v = numbers ? metric_number_prefix(answer, numbers, n) : NAN;
    free(numbers);
    return v;
}

static double score(const sample *one, const char *answer)
{
    const json_t *e = one->expected;
    const char *first = json_string_value(json_is_array(e) ? json_array_get(e, 0) : e);
    const char *letter = json_string_value(json_array_get(e, 1));
    switch (one->set->kind) {
    case PASSKEY:
    case NUMBER_STRING:
        return metric_first_integer(answer, first);
    case KV:
        return metric_has_word(answer, first, "\n:\"'.,?!{}", false);
    case DIALOGUE:
        return metric_has_word(answer, first, "\n:\"'.,?!{}", true);
    case BOOK_SUM:
        return metric_rouge_lsum(answer, first);
    case BOOK_CHOICE:
        return metric_choice(answer, *letter, first);
    case CODE_DEBUG:
        return metric_code_debug(answer, *letter, first);
    case BOOK_QA:
        return best_f1(answer, e, WORDS_ANSWER);
    case BOOK_QA_ZH:
        return best_f1(answer, e, WORDS_CHINESE);
    case MATH_FIND:
        return metric_first_number(answer, json_number_value(e));
    case MATH_CALC:
        return number_prefix(answer, e);
    default:
        return metric_last_integer(answer, (long long)json_integer_value(e));
    }
}

/* ---------------------------------------------------------------------------------------------- made --------- */

/* Adds items of the sets that can be made, of every length and seed. */
static int make_items(sets *s)
{
    numbers lengths, seeds = {0};
    const options *opt = s->suite.eval.opt;
    int rc = numbers_read("--lengths", opt->eval.lengths, 128, INT64_C(1) << 32, &lengths);
    if (!rc)
        rc = eval_read_seeds(opt, &seeds);
    for (const set *one = s->all; one->name && !rc; one++) {
        bool by_name;
        if (!sets_wanted(s, one->name, &by_name))
            continue;
        if (!infinite_makes(one->name)) {
            if (by_name)
                rc = cli_fail(EXIT_USAGE, "%s is read from the published file: --data FOLDER", one->name);
            continue;
        }
        for (int l = 0; l < lengths.n && !rc; l++)
            for (int i = 0; i < seeds.n && !rc; i++) {
                json_t *item;
                rc = infinite_make(&s->suite.eval, one, lengths.v[l], seeds.v[i], fill, &item);
                if (!rc)
                    rc = sets_add(s, one, item, (int64_t)l * seeds.n + i);
            }
    }
    numbers_free(&lengths);
    numbers_free(&seeds);
    return rc;
}

static json_t *settings_of(const sets *s)
{
    json_t *settings = eval_settings(&s->suite.eval);
    const eval_options *v = &s->suite.eval.opt->eval;
    if (!v->data) { /* what an index stands for */
        json_object_set_new(settings, "lengths", json_string(v->lengths));
        json_object_set_new(settings, "seeds", json_string(v->seeds));
    }
    return settings;
}

int eval_infinitebench(const options *opt)
{
    static const pivot tables[] = {{{NULL}, "set", "config", "score", "InfiniteBench score", 100, 2, false},
                                   {{"config"}, "set", "length", "score", "InfiniteBench score", 100, 2, false}};
    sets s = {.all = opt->eval.chat ? chat : complete, .fill = fill, .suite = {.score = score}};
    int rc = eval_start(&s.suite.eval, opt, "infinitebench");
    if (!rc)
        rc = opt->eval.data ? sets_read(&s) : make_items(&s);
    if (!rc)
        rc = sets_run(&s, settings_of(&s), tables, opt->eval.data ? 1 : 2);
    sets_free(&s);
    return rc;
}
