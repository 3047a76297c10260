/* longbench.c - reattn eval longbench: LongBench (arXiv 2308.14508) and LongBench v2 (arXiv 2412.15204), read from the
 * published files, with the published prompts, lengths of answers and metrics. Nothing is cut out of a text.
 *
 * What differs: LongBench parts Chinese answers into words with the package jieba; here every character is a word, in
 * multifieldqa_zh, dureader and vcsum. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "metric_choice.h"
#include "metric_edit.h"
#include "metric_match.h"
#include "metric_rouge.h"
#include "sets.h"

enum { F1, F1_ZH, ROUGE, ROUGE_ZH, CLASS, COUNT, RETRIEVAL, CODE };

#define QA_PASSAGES                                                                                                    \
    "Answer the question based on the given passages. Only give me the answer and do not output any other "            \
    "words.\n\nThe following are given passages.\n{context}\n\nAnswer the question based on the given passages. Only " \
    "give me the answer and do not output any other words.\n\nQuestion: {input}\nAnswer:"

static const set v1[] = {
    {"narrativeqa",
     "You are given a story, which can be either a novel or a movie script, and a question. Answer the question "
     "asconcisely "
     "as you can, using a single phrase if possible. Do not provide any explanation.\n\nStory: {context}\n\nNow, "
     "answer the "
     "question based on the story asconcisely as you can, using a single phrase if possible. Do not provide any "
     "explanation.\n\nQuestion: {input}\n\nAnswer:",
     NULL, 128, false, F1},
    {"qasper",
     "You are given a scientific article and a question. Answer the question as concisely as you can, using a single "
     "phrase "
     "or sentence if possible. If the question cannot be answered based on the information in the article, write "
     "\"unanswerable\". If the question is a yes/no question, answer \"yes\", \"no\", or \"unanswerable\". Do not "
     "provide any "
     "explanation.\n\nArticle: {context}\n\n Answer the question based on the above article as concisely as you can, "
     "using a "
     "single phrase or sentence if possible. If the question cannot be answered based on the information in the "
     "article, "
     "write \"unanswerable\". If the question is a yes/no question, answer \"yes\", \"no\", or \"unanswerable\". Do "
     "not provide "
     "any explanation.\n\nQuestion: {input}\n\nAnswer:",
     NULL, 128, false, F1},
    {"multifieldqa_en",
     "Read the following text and answer briefly.\n\n{context}\n\nNow, answer the following question based on the "
     "above text, "
     "only give me the answer and do not output any other words.\n\nQuestion: {input}\nAnswer:",
     NULL, 64, false, F1},
    {"multifieldqa_zh",
     "阅读以下文字并用中文简短回答：\n\n{context}"
     "\n\n现在请基于上面的文章回答下面的问题，只告诉我答案，不要输出任何其他字词。\n\n"
     "问题：{input}\n回答：",
     NULL, 64, false, F1_ZH},
    {"hotpotqa", QA_PASSAGES, NULL, 32, false, F1},
    {"2wikimqa", QA_PASSAGES, NULL, 32, false, F1},
    {"musique", QA_PASSAGES, NULL, 32, false, F1},
    {"dureader",
     "请基于给定的文章回答下述问题。\n\n文章：{context}\n\n请基于上述文章回答下面的问题。\n\n问题：{input}\n回答：",
     NULL, 128, false, ROUGE_ZH},
    {"gov_report",
     "You are given a report by a government agency. Write a one-page summary of the "
     "report.\n\nReport:\n{context}\n\nNow, "
     "write a one-page summary of the report.\n\nSummary:",
     NULL, 512, false, ROUGE},
    {"qmsum",
     "You are given a meeting transcript and a query containing a question or instruction. Answer the query in one or "
     "more "
     "sentences.\n\nTranscript:\n{context}\n\nNow, answer the query based on the above meeting transcript in one or "
     "more "
     "sentences.\n\nQuery: {input}\nAnswer:",
     NULL, 512, false, ROUGE},
    {"multi_news",
     "You are given several news passages. Write a one-page summary of all news. \n\nNews:\n{context}\n\nNow, write a "
     "one-page summary of all the news.\n\nSummary:",
     NULL, 512, false, ROUGE},
    {"vcsum", "下面有一段会议记录，请你阅读后，写一段总结，总结会议的内容。\n会议记录：\n{context}\n\n会议总结：", NULL,
     512, false, ROUGE_ZH},
    {"trec",
     "Please determine the type of the question below. Here are some examples of questions.\n\n{context}\n{input}",
     NULL, 64, true, CLASS},
    {"triviaqa",
     "Answer the question based on the given passage. Only give me the answer and do not output any other words. The "
     "following "
     "are some examples.\n\n{context}\n\n{input}",
     NULL, 32, true, F1},
    {"samsum",
     "Summarize the dialogue into a few short sentences. The following are some examples.\n\n{context}\n\n{input}",
     NULL, 128, true, ROUGE},
    {"lsht", "请判断给定新闻的类别，下面是一些例子。\n\n{context}\n{input}", NULL, 64, true, CLASS},
    {"passage_count",
     "There are some paragraphs below sourced from Wikipedia. Some of them may be duplicates. Please carefully read "
     "these "
     "paragraphs and determine how many unique paragraphs there are after removing duplicates. In other words, how "
     "many "
     "non-repeating paragraphs are there in total?\n\n{context}\n\nPlease enter the final count of unique paragraphs "
     "after "
     "removing duplicates. The output format should only contain the number, such as 1, 2, 3, and so on.\n\nThe final "
     "answer "
     "is: ",
     NULL, 32, false, COUNT},
    {"passage_retrieval_en",
     "Here are 30 paragraphs from Wikipedia, along with an abstract. Please determine which paragraph the abstract is "
     "from.\n\n{context}\n\nThe following is an abstract.\n\n{input}\n\nPlease enter the number of the paragraph that "
     "the "
     "abstract is from. The answer format must be like \"Paragraph 1\", \"Paragraph 2\", etc.\n\nThe answer is: ",
     NULL, 32, false, RETRIEVAL},
    {"passage_retrieval_zh",
     "以下是若干段落文字，以及其中一个段落的摘要。请确定给定的摘要出自哪一段。\n\n{context}\n\n下面是一个摘要\n\n{"
     "input}\n\n"
     "请输入摘要所属段落的编号。答案格式必须是\"段落1\"，\"段落2\"等格式\n\n答案是：",
     NULL, 32, false, RETRIEVAL},
    {"lcc", "Please complete the code given below. \n{context}Next line of code:\n", NULL, 64, true, CODE},
    {"repobench-p", "Please complete the code given below. \n{context}{input}Next line of code:\n", NULL, 64, true,
     CODE},
    {0}};

static const set v2[] = {{"data",
                          "Please read the following text and answer the question "
                          "below.\n\n<text>\n{context}\n</text>\n\nWhat is the correct answer "
                          "to this question: {question}\nChoices:\n(A) {choice_A}\n(B) {choice_B}\n(C) {choice_C}\n(D) "
                          "{choice_D}\n\nFormat your "
                          "response as follows: \"The correct answer is (insert answer here)\".",
                          NULL, 128, false, 0},
                         {0}};

/* ------------------------------------------------------------------------------------------------- v1 -------- */

/* The line that counts in code: the first without a backquote, # or //. */
static double code_score(const char *answer, const char *expected)
{
    double score = NAN;
    const char *line = answer + strspn(answer, "\n");
    for (;;) {
        size_t n = strcspn(line, "\n");
        char *copy = malloc(n + 1);
        if (!copy)
            return NAN;
        memcpy(copy, line, n);
        copy[n] = 0;
        bool skip = strchr(copy, '`') || strchr(copy, '#') || strstr(copy, "//");
        if (!skip)
            score = nearbyint(100 * metric_edit_similarity(copy, expected)) / 100;
        free(copy);
        if (!skip)
            return score;
        if (!line[n])
            return nearbyint(100 * metric_edit_similarity("", expected)) / 100;
        line += n + 1;
    }
}

/* The first number after "Paragraph " or 段落. */
static double retrieval_score(const char *answer, const char *expected)
{
    char number[32];
    const char *at = expected + strcspn(expected, "0123456789");
    size_t n = strspn(at, "0123456789");
    n = n < sizeof number ? n : sizeof number - 1;
    memcpy(number, at, n);
    number[n] = 0;
    return metric_number_share(answer, number);
}

static double class_score(const char *answer, const char *expected, const json_t *item)
{
    const json_t *all = json_object_get(item, "all_classes");
    size_t n = json_array_size(all);
    const char **classes = malloc((n + 1) * sizeof *classes);
    for (size_t i = 0; classes && i < n; i++)
        classes[i] = json_string_value(json_array_get(all, i));
    double score = classes ? metric_class(answer, expected, classes, n) : NAN;
    free(classes);
    return score;
}

static double score_one(const set *s, const char *answer, const char *expected, const json_t *item)
{
    switch (s->kind) {
    case F1:
        return metric_f1(answer, expected, WORDS_ANSWER);
    case F1_ZH:
        return metric_f1(answer, expected, WORDS_CHINESE);
    case ROUGE:
        return metric_rouge_l(answer, expected, WORDS_PLAIN);
    case ROUGE_ZH:
        return metric_rouge_l(answer, expected, WORDS_CHINESE);
    case CLASS:
        return class_score(answer, expected, item);
    case COUNT:
        return metric_number_share(answer, expected);
    case RETRIEVAL:
        return retrieval_score(answer, expected);
    default:
        return code_score(answer, expected);
    }
}

static bool counts_first_line(const char *name)
{
    return !strcmp(name, "trec") || !strcmp(name, "triviaqa") || !strcmp(name, "samsum") || !strcmp(name, "lsht");
}

/* The best of the answers that are right. */
static double score_v1(const sample *one, const char *answer)
{
    text line = {0};
    double best = 0;
    if (counts_first_line(one->set->name)) {
        answer += strspn(answer, "\n");
        if (!text_append(&line, answer, strcspn(answer, "\n")))
            return NAN;
        answer = line.data;
    }
    for (size_t i = 0; i < json_array_size(one->expected); i++) {
        double v = score_one(one->set, answer, json_string_value(json_array_get(one->expected, i)), one->item);
        best = v > best || isnan(v) ? v : best;
    }
    text_free(&line);
    return best;
}

static int fill_v1(const question *q, sample *out)
{
    const json_t *answers = json_object_get(q->item, "answers"), *length = json_object_get(q->item, "length");
    for (size_t i = 0; i < json_array_size(answers); i++)
        if (!json_is_string(json_array_get(answers, i)))
            answers = NULL;
    if (!json_array_size(answers) || !json_is_string(json_object_get(q->item, "context")))
        return cli_fail(EXIT_FAILED,
                        "%s, item %lld: \"context\" or \"answers\" is missing: this is no file of LongBench",
                        q->set->name, (long long)q->index + 1);
    out->expected = json_deep_copy(answers);
    /* The groups of LongBench-E, by the file's count of words. */
    json_int_t words = json_integer_value(length);
    json_object_set_new(out->own, "words", json_string(words < 4000 ? "0-4k" : words < 8000 ? "4-8k" : "8k+"));
    return sets_fill(&out->prompt, q->set->prompt, q->item) ? EXIT_DONE : cli_fail(EXIT_FAILED, "out of memory");
}

/* ------------------------------------------------------------------------------------------------- v2 -------- */

static double score_v2(const sample *one, const char *answer)
{
    return metric_correct_answer_is(answer) == *json_string_value(one->expected);
}

static int fill_v2(const question *q, sample *out)
{
    static const char *const members[] = {"difficulty", "length", "domain"};
    const char *answer = json_string_value(json_object_get(q->item, "answer"));
    if (!answer || answer[0] < 'A' || answer[0] > 'D' || !json_is_string(json_object_get(q->item, "context")))
        return cli_fail(EXIT_FAILED,
                        "item %lld has no \"context\" or no \"answer\" of A to D: this is no file of LongBench v2",
                        (long long)q->index + 1);
    out->expected = json_string(answer);
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        json_object_set(out->own, members[i], json_object_get(q->item, members[i]));
    return sets_fill(&out->prompt, q->set->prompt, q->item) ? EXIT_DONE : cli_fail(EXIT_FAILED, "out of memory");
}

int eval_longbench(const options *opt)
{
    static const pivot one[] = {{{NULL}, "set", "config", "score", "LongBench score", 100, 2, false},
                                {{"config"}, "set", "words", "score", "LongBench score by length", 100, 2, false}},
                       two[] = {{{NULL}, "config", "difficulty", "score", "% right", 100, 1, false},
                                {{NULL}, "config", "length", "score", "% right", 100, 1, false},
                                {{NULL}, "domain", "config", "score", "% right", 100, 1, false}};
    bool second = opt->eval.second;
    sets s = {
        .all = second ? v2 : v1, .fill = second ? fill_v2 : fill_v1, .suite = {.score = second ? score_v2 : score_v1}};
    int rc = eval_start(&s.suite.eval, opt, second ? "longbench-v2" : "longbench");
    if (!rc)
        rc = sets_read(&s);
    if (!rc)
        rc = sets_run(&s, eval_settings(&s.suite.eval), second ? two : one, second ? 3 : 2);
    sets_free(&s);
    return rc;
}
