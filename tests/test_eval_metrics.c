/* test_eval_metrics.c - the benchmarks' metrics equal values that tests/golden/metrics.py computed in Python, with the
 * packages that the benchmarks use where there are some. */
#include <jansson.h>
#include <math.h>

#include "metric_choice.h"
#include "metric_edit.h"
#include "metric_exam.h"
#include "metric_match.h"
#include "metric_rouge.h"
#include "metric_softmax.h"
#include "test_util.h"

static const char marks[] = "\n:\"'.,?!{}";
static const char *const classes[] = {"Food",  "Sport", "Food and drink", "a person", "person", "Number of something",
                                      "Number"};

static double value_of(const char *metric, const char *a, const char *e)
{
#define IS(name, value) \
    if (!strcmp(metric, name)) return value
    IS("f1", metric_f1(a, e, WORDS_ANSWER));
    IS("f1_chinese", metric_f1(a, e, WORDS_CHINESE));
    IS("rouge_l", metric_rouge_l(a, e, WORDS_PLAIN));
    IS("rouge1", metric_rouge_score(a, e, 1));
    IS("rouge2", metric_rouge_score(a, e, 2));
    IS("rougeL", metric_rouge_score(a, e, 0));
    IS("rougeLsum", metric_rouge_lsum(a, e));
    IS("edit", metric_edit_similarity(a, e));
    IS("number_share", metric_number_share(a, e));
    IS("class", metric_class(a, e, classes, sizeof classes / sizeof *classes));
    IS("first_integer", metric_first_integer(a, e));
    IS("last_integer", metric_last_integer(a, atoll(e)));
    IS("first_number", metric_first_number(a, atof(e)));
    IS("has_word", metric_has_word(a, e, marks, 0));
    IS("correct_answer_is", metric_correct_answer_is(a) == *e);
    IS("choice", metric_choice(a, *e, "the old man"));
    IS("code_debug", metric_code_debug(a, *e, "get_item"));
    IS("exam_choice", metric_exam(a, e, EXAM_CHOICE));
    IS("exam_choices", metric_exam(a, e, EXAM_CHOICES));
    IS("exam_math", metric_exam(a, e, EXAM_MATH));
    IS("exam_code", metric_exam(a, e, EXAM_CODE));
    IS("exam_text", metric_exam(a, e, EXAM_TEXT));
    return NAN;
}

static void golden_values(void **unused)
{
    (void)unused;
    int n = 0, wrong = 0;
    char line[1 << 16];
    FILE *f = fopen(REATTN_TEST_DATA "/metrics.jsonl", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        json_t *c = json_loads(line, 0, NULL);
        assert_non_null(c);
        const char *metric = json_string_value(json_object_get(c, "metric"));
        const char *a = json_string_value(json_object_get(c, "answer")),
                   *e = json_string_value(json_object_get(c, "expected"));
        double want = json_number_value(json_object_get(c, "value")), got = value_of(metric, a, e);
        if (!(fabs(got - want) < 1e-6)) {
            printf("%s of '%s' and '%s': %g, expected %g\n", metric, a, e, got, want);
            wrong++;
        }
        n++;
        json_decref(c);
    }
    fclose(f);
    assert_int_equal(wrong, 0);
    assert_true(n > 700);
}

static void numbers_from_the_beginning(void **unused)
{
    (void)unused;
    static const long long expected[] = {3, 5, 8};
    assert_true(metric_number_prefix("[3, 5, 8, 9]", expected, 3) == 1);
    assert_true(fabs(metric_number_prefix("3 then 6 and 8", expected, 3) - 1.0 / 3) < 1e-12);
    assert_true(metric_number_prefix("none", expected, 3) == 0);
    assert_true(metric_has_word("I say: Tom!", "TOM", marks, 1) == 1 && metric_has_word("tomb", "TOM", marks, 1) == 0);
}

static void softmax(void **unused)
{
    (void)unused;
    int top;
    float p[] = {0, logf(2), logf(5)}, q[] = {1000, 1000, 1000}, equal[] = {3, 7, 7};
    double p_sum = metric_log_sum(p, 3, &top);
    assert_true(fabs(p_sum - log(8)) < 1e-6 && top == 2);
    double q_sum = metric_log_sum(q, 3, &top);
    assert_true(fabs(q_sum - 1000 - log(3)) < 1e-9 && top == 0);
    metric_log_sum(equal, 3, &top);
    assert_int_equal(top, 1);
    double want = log(3.0 / 8) / 8 + 2 * log(3.0 * 2 / 8) / 8 + 5 * log(3.0 * 5 / 8) / 8;
    assert_true(fabs(metric_divergence(p, p_sum, q, q_sum, 3) - want) < 1e-6);
    assert_true(fabs(metric_divergence(p, p_sum, p, p_sum, 3)) < 1e-12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_values),
        cmocka_unit_test(numbers_from_the_beginning),
        cmocka_unit_test(softmax),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
