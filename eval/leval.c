/* leval.c - reattn eval leval: L-Eval (arXiv 2307.11088), read from the published files, with the published prompts
 * and its automatic metrics. Questions of one text share its reading. Nothing is cut out of a text.
 *
 * Left out, and said so: questions that only a person or another model can judge ("evaluation": "LLM", "human"), and
 * sci_fi, whose score takes a second question without the text. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "metric_exam.h"
#include "metric_rouge.h"
#include "sets.h"

#define VERY_LONG "Now you are given a very long document. Please follow the instruction "
#define CLOSED                                                                                                         \
    VERY_LONG                                                                                                          \
    "based on this document. For multi-choice questions, there is only a sinlge correct option. Please only "          \
    "provide the letter corresponding to the answer (like A or B) when answering. For other questions, please "        \
    "directly give the concise and accurate answer. "
#define OPEN                                                                                                           \
    VERY_LONG                                                                                                          \
    "after this document. These instructions may include summarizing a document, answering questions based on "        \
    "the document, or writing a required paragraph. "
#define ASK                                                                                                            \
    "Document is as follows. {input} \nQuestion: {instruction}.  Please directly give answer without any additonal "   \
    "output or explanation "
#define INSTRUCT "Document is as follows. {input} Instruction: {instruction} \nAnswer this question with {words} words."

static const set all[] = {
    {"coursera",
     VERY_LONG
     "based on this document. For multi-choice questions, there could be a sinlge correct option or multiple correct "
     "options. Please only provide the letter corresponding to the answer (like A or AB) when answering. \n\n" ASK,
     "\nAnswer:", 512, false, EXAM_CHOICES},
    {"quality", CLOSED "\n\n" ASK, "\nAnswer:", 512, false, EXAM_CHOICE},
    {"tpo", CLOSED "\n\n" ASK, "\nAnswer:", 512, false, EXAM_CHOICE},
    {"topic_retrieval_longchat",
     "Below is a record of our previous conversation on many different topics. You are the ASSISTANT, and I am the "
     "USER. At the "
     "beginning of each topic, the USER will say 'I would like to discuss the topic of <TOPIC>'. Memorize each "
     "<TOPIC>. At the "
     "end of the record, I will ask you to retrieve the first/second/third topic names. Now the record start. "
     "\n\n{input}\n\n"
     "{instruction}",
     NULL, 512, false, EXAM_TEXT},
    {"gsm100",
     "Given several question answer pairs, you need to follow a similar format to answer the last question. Make sure "
     "the "
     "response is end with The answer is _ . \n\n{input}\n\n{instruction}",
     NULL, 512, false, EXAM_MATH},
    {"codeU",
     "Now you are given a code base consisting of a large amount of functions and the corresponding comments. In the "
     "end, I will "
     "call some functions defined in the code base. Please carefully read these codes and comments and answer the "
     "question."
     "\n\n{input}\n\n{instruction}",
     NULL, 512, false, EXAM_CODE},
    {"financial_qa", OPEN "\n\n" INSTRUCT, NULL, 512, false, EXAM_TEXT},
    {"gov_report_summ", OPEN "\n\n" INSTRUCT, NULL, 512, false, EXAM_TEXT},
    {"legal_contract_qa", OPEN "\n\n" INSTRUCT, NULL, 512, false, EXAM_TEXT},
    {"meeting_summ", OPEN "\n\n" INSTRUCT, NULL, 512, false, EXAM_TEXT},
    {"multidoc_qa", OPEN "\n\n" INSTRUCT, NULL, 512, false, EXAM_TEXT},
    {"narrative_qa", OPEN "\n\n" INSTRUCT, NULL, 512, false, EXAM_TEXT},
    {"natural_question", OPEN "\n\n" INSTRUCT, NULL, 512, false, EXAM_TEXT},
    {"news_summ", OPEN "\n\n" INSTRUCT, NULL, 512, false, EXAM_TEXT},
    {"paper_assistant", OPEN "\n\n" INSTRUCT, NULL, 512, false, EXAM_TEXT},
    {"patent_summ", OPEN "\n\n" INSTRUCT, NULL, 512, false, EXAM_TEXT},
    {"review_summ", OPEN "\n\n" INSTRUCT, NULL, 512, false, EXAM_TEXT},
    {"scientific_qa", OPEN "\n\n" INSTRUCT, NULL, 512, false, EXAM_TEXT},
    {"tv_show_summ", OPEN "\n\n" INSTRUCT, NULL, 512, false, EXAM_TEXT},
    {0}};

static const char *metric_of(const json_t *item)
{
    const char *s = json_string_value(json_object_get(item, "evaluation"));
    return s ? s : "";
}

static int parts(const set *s, const json_t *item)
{
    static const char *noted;
    const char *metric = metric_of(item);
    if (!strcmp(metric, "exam") || !strcmp(metric, "f1") || !strcmp(metric, "rouge"))
        return (int)json_array_size(json_object_get(item, "instructions"));
    if (noted != s->name)
        cli_note(
            "%s: texts whose answers only a person or another model can judge (\"evaluation\": \"%s\") are left out",
            s->name, metric);
    noted = s->name;
    return 0;
}

static int count_words(const char *s)
{
    int n = 0;
    for (; *(s += strspn(s, " \t\r\n")); s += strcspn(s, " \t\r\n"))
        n++;
    return n;
}

static int fill(const question *q, sample *out)
{
    const char *instruction =
        json_string_value(json_array_get(json_object_get(q->item, "instructions"), (size_t)q->part));
    const char *expected = json_string_value(json_array_get(json_object_get(q->item, "outputs"), (size_t)q->part));
    const char *input = json_string_value(json_object_get(q->item, "input"));
    char words[16];
    if (!instruction || !expected || !input)
        return cli_fail(EXIT_FAILED,
                        "%s, item %lld: \"input\", \"instructions\" or \"outputs\" is missing: this is no file of "
                        "L-Eval",
                        q->set->name, (long long)q->index + 1);
    snprintf(words, sizeof words, "%d", count_words(expected));
    out->expected = json_string(expected);
    json_object_set_new(out->own, "metric", json_string(metric_of(q->item)));
    bool fine =
        eval_fill(&out->prompt, q->set->prompt, "input", input, "instruction", instruction, "words", words, NULL) &&
        (!q->set->lead || text_append(&out->lead, q->set->lead, strlen(q->set->lead)));
    return fine ? EXIT_DONE : cli_fail(EXIT_FAILED, "out of memory");
}

static double score(const sample *one, const char *answer)
{
    const char *expected = json_string_value(one->expected), *metric = metric_of(one->item);
    if (!strcmp(metric, "exam"))
        return metric_exam(answer, expected, (exam_kind)one->set->kind);
    if (!strcmp(metric, "f1"))
        return metric_f1(answer, expected, WORDS_ANSWER);
    /* Published is the cube root of the product of the three means, which the tables have; a text's own is this. */
    static const char *const names[] = {"rougeL", "rouge1", "rouge2"};
    double product = 1;
    for (int n = 0; n < 3; n++) {
        double v = metric_rouge_score(answer, expected, n);
        json_object_set_new(one->own, names[n], json_real(isnan(v) ? 0 : v));
        product *= v;
    }
    return cbrt(product);
}

int eval_leval(const options *opt)
{
    static const pivot tables[] = {{{"metric"}, "set", "config", "score", "L-Eval score", 100, 2, false},
                                   {{NULL}, "set", "config", "rouge1", "ROUGE-1", 100, 2, false},
                                   {{NULL}, "set", "config", "rouge2", "ROUGE-2", 100, 2, false},
                                   {{NULL}, "set", "config", "rougeL", "ROUGE-L", 100, 2, false}};
    sets s = {.all = all, .parts = parts, .fill = fill, .suite = {.score = score}};
    int rc = eval_start(&s.suite.eval, opt, "leval");
    if (!rc)
        rc = sets_read(&s);
    if (!rc)
        rc = sets_run(&s, eval_settings(&s.suite.eval), tables, 4);
    sets_free(&s);
    return rc;
}
