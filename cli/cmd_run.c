/* cmd_run.c - reattn run: one answer. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "generate.h"
#include "interrupt.h"
#include "load.h"

/* All that the command holds; freed in one place. */
typedef struct job {
    const options *opt;
    text user, template; /* the message, and the chat template's file */
    reattn_model *model;
    reattn_session *session;
    reattn_sampler *sampler;
    trace *recalls;
    int32_t *tokens;
    int64_t n_tokens;
    answer answer;
} job;

/* Everything that can be wrong with the texts is found before the model is loaded. */
static int read_texts(job *j)
{
    const options *opt = j->opt;
    int rc = EXIT_DONE;
    if (!opt->prompt && !opt->n_files)
        return cli_fail(EXIT_USAGE, "run needs a text: -p TEXT or -f FILE");
    if (opt->raw && (opt->system || opt->template_file))
        return cli_fail(EXIT_USAGE, "--raw has no chat template, so no %s",
                        opt->system ? "-sys" : "--chat-template-file");
    if (opt->prompt)
        rc = text_check("the text of -p", opt->prompt, strlen(opt->prompt));
    if (!rc && opt->system)
        rc = text_check("the text of -sys", opt->system, strlen(opt->system));
    if (!rc && opt->template_file)
        rc = text_read(&j->template, opt->template_file);
    if (!rc)
        rc = load_files(opt, &j->user);
    if (!rc && opt->prompt && !load_append_part(&j->user, opt->prompt, strlen(opt->prompt)))
        rc = cli_fail(EXIT_FAILED, "out of memory");
    return rc;
}

static int make_tokens(job *j)
{
    const options *opt = j->opt;
    int rc;
    if (opt->raw) {
        rc = load_tokens(j->model, j->user.data, j->user.len, true, &j->tokens, &j->n_tokens);
    } else {
        reattn_message messages[2];
        size_t n = 0;
        char *formatted;
        reattn_error err;
        if (opt->system)
            messages[n++] = (reattn_message){"system", opt->system};
        messages[n++] = (reattn_message){"user", j->user.data};
        if (reattn_chat_format(j->model, j->template.data, messages, n, true, &formatted, &err))
            return cli_fail(EXIT_FAILED, "%s", err.msg);
        rc = load_tokens(j->model, formatted, strlen(formatted), true, &j->tokens, &j->n_tokens);
        reattn_free(formatted);
    }
    if (!rc && !j->n_tokens)
        rc = cli_fail(EXIT_FAILED, "the text is empty");
    return rc;
}

static int print_json(const job *j)
{
    reattn_stats s;
    reattn_session_get_stats(j->session, &s);
    json_t *object = json_pack(
        "{s:s%, s:I, s:I, s:s, s:s, s:I, s:{s:f, s:f, s:f, s:f, s:f, s:f, s:f}}", "text", j->answer.text.data,
        j->answer.text.len, "prompt_tokens", (json_int_t)j->n_tokens, "predicted_tokens", (json_int_t)j->answer.tokens,
        "stop", j->answer.stop, "policy", reattn_session_get_params(j->session)->policy, "scope",
        (json_int_t)s.scope_max, "timings", "prompt_ms", s.prompt_ms, "prompt_per_second",
        generate_rate(s.prompt_tokens, s.prompt_ms), "predicted_ms", s.decode_ms, "predicted_per_second",
        generate_rate(s.decode_tokens, s.decode_ms), "select_ms", s.select_ms, "attend_ms", s.attend_ms, "device_ms",
        s.device_ms);
    int failed = !object || json_dumpf(object, stdout, JSON_REAL_PRECISION(9)) || putchar('\n') == EOF;
    json_decref(object);
    return failed ? cli_fail(EXIT_FAILED, "the JSON object could not be written") : EXIT_DONE;
}

static int interrupted_prompt(const job *j)
{
    return cli_fail(EXIT_INTERRUPTED, "interrupted after %lld of %lld tokens of the prompt",
                    (long long)reattn_session_length(j->session), (long long)j->n_tokens);
}

static int run(job *j)
{
    const options *opt = j->opt;
    int rc = read_texts(j);
    if (!rc)
        rc = load_model(opt, load_is_native(opt->session.policy), &j->model);
    if (!rc)
        rc = load_sampler(opt, j->model, &j->sampler);
    if (!rc)
        rc = make_tokens(j);
    if (!rc)
        rc = load_session(opt, j->model, j->n_tokens + (opt->n_predict > 0 ? opt->n_predict : 0), &j->session);
    if (!rc)
        interrupt_watch(j->session);
    if (!rc && opt->trace_file)
        rc = trace_open(opt->trace_file, j->model, j->session, &j->recalls);
    if (!rc && !opt->quiet)
        rc = load_announce(j->model, reattn_session_get_params(j->session));
    if (rc)
        return rc;

    rc = generate_prompt(j->session, j->tokens, j->n_tokens, opt->quiet);
    if (rc)
        return rc == EXIT_INTERRUPTED ? interrupted_prompt(j) : rc;
    rc = generate_answer(j->model, j->session, j->sampler, opt->n_predict, !opt->json, false, j->recalls, &j->answer);
    if (rc)
        return rc;
    if (opt->json)
        rc = print_json(j);
    if (!rc && interrupt_pending())
        return cli_fail(EXIT_INTERRUPTED, "interrupted after %lld tokens of the answer", (long long)j->answer.tokens);
    if (!rc && !opt->quiet)
        generate_report(j->session, j->answer.tokens);
    return rc;
}

int cmd_run(const options *opt)
{
    job j = {.opt = opt};
    int rc = run(&j);
    interrupt_watch(NULL);
    int trace_rc = trace_close(j.recalls);
    text_free(&j.answer.text);
    text_free(&j.template);
    text_free(&j.user);
    free(j.tokens);
    reattn_session_free(j.session);
    reattn_sampler_free(j.sampler);
    reattn_model_free(j.model);
    return rc ? rc : trace_rc;
}
