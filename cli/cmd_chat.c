/* cmd_chat.c - reattn chat: a conversation on one session. A turn appends only what the chat template adds for it. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "generate.h"
#include "interrupt.h"
#include "lines.h"
#include "load.h"

typedef struct conversation {
    const options *opt;
    reattn_model *model;
    reattn_session *session;
    text template;
    text files; /* goes before the next message */
    text held;  /* the formatted text that the session holds */
    reattn_message *messages; /* [n_messages], contents owned */
    size_t n_messages, cap_messages;
} conversation;

static size_t first_turn(const conversation *c)
{
    return c->opt->system ? 1 : 0;
}

static int push(conversation *c, const char *role, const char *content, size_t n)
{
    if (c->n_messages == c->cap_messages) {
        size_t cap = 2 * c->cap_messages + 8;
        reattn_message *grown = realloc(c->messages, cap * sizeof *grown);
        if (!grown)
            return cli_fail(EXIT_FAILED, "out of memory");
        c->messages = grown;
        c->cap_messages = cap;
    }
    char *copy = strndup(content, n);
    if (!copy)
        return cli_fail(EXIT_FAILED, "out of memory");
    c->messages[c->n_messages++] = (reattn_message){role, copy};
    return EXIT_DONE;
}

static void pop(conversation *c)
{
    free((char *)c->messages[--c->n_messages].content);
}

static int rewind_to(conversation *c, int64_t n)
{
    reattn_error err;
    return reattn_session_rewind(c->session, n, &err) ? cli_fail(EXIT_FAILED, "%s", err.msg) : EXIT_DONE;
}

/* Appends the turn's new text to the session. A template that rewrites earlier turns makes it start over. */
static int append_turn(conversation *c, const char *formatted)
{
    size_t skip = c->held.len, all = strlen(formatted);
    int32_t *tokens;
    int64_t n;
    int rc = EXIT_DONE;
    if (!reattn_session_length(c->session) || all < skip || memcmp(formatted, c->held.data, skip)) {
        skip = 0;
        rc = rewind_to(c, 0);
    }
    if (!rc)
        rc = load_tokens(c->model, formatted + skip, all - skip, skip == 0, &tokens, &n);
    if (rc)
        return rc;
    int64_t before = reattn_session_length(c->session);
    rc = generate_prompt(c->session, tokens, n, c->opt->quiet);
    free(tokens);
    if (rc == EXIT_INTERRUPTED)
        cli_note("stopped after %lld of %lld tokens; the message was dropped",
                 (long long)(reattn_session_length(c->session) - before), (long long)n);
    reattn_error err;
    if (rc && reattn_session_rewind(c->session, before, &err)) /* keys were dropped: the next turn reads all again */
        return rewind_to(c, 0) ? EXIT_FAILED : rc;
    return rc;
}

/* Answers, and remembers the answer without the blanks around it: templates drop them. */
static int answer_turn(conversation *c, const char *formatted)
{
    reattn_sampler *sampler;
    answer a = {0};
    int rc = load_sampler(c->opt, c->model, &sampler);
    if (rc)
        return rc;
    rc = generate_answer(c->model, c->session, sampler, c->opt->n_chat, true, true, NULL, &a);
    reattn_sampler_free(sampler);

    const char *from = a.text.data ? a.text.data : "", *end = from + a.text.len;
    while (from < end && isspace((unsigned char)*from))
        from++;
    while (end > from && isspace((unsigned char)end[-1]))
        end--;
    c->held.len = 0;
    if (!text_append(&c->held, formatted, strlen(formatted)) || !text_append(&c->held, from, (size_t)(end - from)))
        rc = cli_fail(EXIT_FAILED, "out of memory");
    int pushed = push(c, "assistant", from, (size_t)(end - from)); /* also a part: roles must alternate */
    text_free(&a.text);
    return rc ? rc : pushed;
}

/* One message and its answer. After a failure the message is forgotten, and the conversation can go on. */
static int turn(conversation *c, const char *line)
{
    char *formatted;
    reattn_error err;
    if (text_check("the message", line, strlen(line)))
        return EXIT_FAILED;
    if (!load_append_part(&c->files, line, strlen(line)))
        return cli_fail(EXIT_FAILED, "out of memory");
    int rc = push(c, "user", c->files.data, c->files.len);
    text_free(&c->files);
    if (rc)
        return rc;
    if (reattn_chat_format(c->model, c->template.data, c->messages, c->n_messages, true, &formatted, &err)) {
        pop(c);
        return cli_fail(EXIT_FAILED, "%s", err.msg);
    }
    interrupt_clear();
    rc = append_turn(c, formatted);
    if (rc)
        pop(c);
    else
        rc = answer_turn(c, formatted);
    interrupt_clear();
    reattn_free(formatted);
    return rc;
}

static int clear(conversation *c)
{
    while (c->n_messages > first_turn(c))
        pop(c);
    c->held.len = 0;
    text_free(&c->files);
    return rewind_to(c, 0);
}

static void print_stats(const conversation *c)
{
    reattn_stats s;
    char store[32];
    reattn_session_get_stats(c->session, &s);
    load_bytes_text(s.store_bytes, store, sizeof store);
    cli_note("%lld tokens held in %s | prompt %lld tokens, %.1f tok/s | answers %lld tokens, %.1f tok/s",
             (long long)reattn_session_length(c->session), store, (long long)s.prompt_tokens,
             generate_rate(s.prompt_tokens, s.prompt_ms), (long long)s.decode_tokens,
             generate_rate(s.decode_tokens, s.decode_ms));
}

static int add_file(conversation *c, const char *path)
{
    text file = {0};
    int rc = text_read(&file, path);
    if (!rc && !load_append_part(&c->files, file.data ? file.data : "", file.len))
        rc = cli_fail(EXIT_FAILED, "out of memory");
    if (!rc)
        cli_note("%s: %zu bytes go before the next message", path, file.len);
    text_free(&file);
    return rc;
}

/* Carries out a line that begins with '/'. */
static int command_line(conversation *c, const char *line, bool *leave)
{
    if (!strcmp(line, "/exit") || !strcmp(line, "/quit"))
        *leave = true;
    else if (!strcmp(line, "/stats"))
        print_stats(c);
    else if (!strcmp(line, "/clear"))
        return clear(c);
    else if (!strncmp(line, "/file ", 6))
        return add_file(c, line + 6 + strspn(line + 6, " "));
    else if (!strcmp(line, "/help"))
        fputs("  /file PATH   put a file's text before the next message\n"
              "  /stats       tokens held, memory, speed\n"
              "  /clear       forget the conversation\n"
              "  /exit        leave (Ctrl-D too)\n"
              "  Ctrl-C stops an answer\n", stderr);
    else
        return cli_fail(EXIT_FAILED, "there is no command %s; /help lists them", line);
    return EXIT_DONE;
}

static int converse(conversation *c)
{
    lines *in;
    int rc = lines_open(&in);
    if (rc)
        return rc;
    if (lines_are_edited(in) && !c->opt->quiet)
        cli_note("type a message; /help lists the commands");
    const char *line;
    for (bool leave = false; !leave && (line = lines_next(in));) {
        if (!*line)
            continue;
        int failed = *line == '/' ? command_line(c, line, &leave) : turn(c, line);
        /* On a terminal an error was seen and is over; in a script it decides the exit code. */
        if (failed && failed != EXIT_INTERRUPTED && !lines_are_edited(in))
            rc = failed;
    }
    if (interrupt_pending())
        rc = EXIT_INTERRUPTED;
    if (lines_are_edited(in))
        fputc('\n', stderr);
    lines_close(in);
    return rc;
}

static int start(conversation *c)
{
    const options *opt = c->opt;
    int rc = EXIT_DONE;
    if (opt->system)
        rc = text_check("the text of -sys", opt->system, strlen(opt->system));
    if (!rc && opt->system)
        rc = push(c, "system", opt->system, strlen(opt->system));
    if (!rc && opt->template_file)
        rc = text_read(&c->template, opt->template_file);
    if (!rc)
        rc = load_files(opt, &c->files);
    if (!rc)
        rc = load_model(opt, load_is_native(opt->session.policy), &c->model);
    if (!rc)
        rc = load_session(opt, c->model, 0, &c->session);
    if (!rc)
        interrupt_watch(c->session);
    if (!rc && !opt->quiet)
        rc = load_announce(c->model, reattn_session_get_params(c->session));
    return rc;
}

int cmd_chat(const options *opt)
{
    conversation c = {.opt = opt};
    int rc = start(&c);
    if (!rc)
        rc = converse(&c);
    interrupt_watch(NULL);
    while (c.n_messages)
        pop(&c);
    free(c.messages);
    text_free(&c.held);
    text_free(&c.files);
    text_free(&c.template);
    reattn_session_free(c.session);
    reattn_model_free(c.model);
    return rc;
}
