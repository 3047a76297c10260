/* together.c - several prompts, each of any length, answered together: a session for each, and in every step one token
 * of each, so that the model's weights are read once for all of them. Greedy.
 *
 *     cc together.c -o together $(pkg-config --cflags --libs reattn)
 *     ./together model.gguf first.txt second.txt ... */
#define _POSIX_C_SOURCE 200809L /* getdelim */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <reattn/reattn.h>

enum { ANSWER_MAX = 256, MOST = 64 };

typedef struct answer {
    const char *path;
    reattn_session *session;
    char *text; /* what was said so far */
    size_t len;
} answer;

static reattn_error err;

/* Ends the program with the library's message if a call failed: errors are negative. */
static void must(int64_t code)
{
    if (code >= 0) return;
    fprintf(stderr, "together: %s\n", err.msg);
    exit(1);
}

/* Reads a file's text as a user message, in the chat template that the model brings. */
static void read_prompt(reattn_model *model, answer *a)
{
    char *text = NULL, *formatted;
    size_t cap = 0;
    FILE *f = fopen(a->path, "r");
    if (!f || getdelim(&text, &cap, 0, f) < 0) { /* up to a NUL: all of it */
        fprintf(stderr, "together: cannot read %s\n", a->path);
        exit(1);
    }
    fclose(f);
    reattn_message message = {"user", text};
    must(reattn_chat_format(model, NULL, &message, 1, true, &formatted, &err));
    size_t len = strlen(formatted);
    int64_t n;
    must(n = reattn_tokenize(model, formatted, len, true, true, NULL, 0, &err));
    int32_t *tokens = malloc((size_t)n * sizeof *tokens);
    if (!tokens) exit(1);
    must(reattn_tokenize(model, formatted, len, true, true, tokens, n, &err));
    must(reattn_session_create(model, NULL, &a->session, &err));
    must(reattn_session_prompt(a->session, tokens, n, NULL, NULL, &err));
    free(tokens);
    reattn_free(formatted);
    free(text);
}

/* Appends a token to what was said; false if it ends the answer. */
static bool say(const reattn_model *model, answer *a, int32_t token)
{
    char piece[256];
    if (reattn_token_is_eog(model, token)) return false;
    int n = reattn_token_bytes(model, token, false, piece, sizeof piece);
    if (n > (int)sizeof piece) n = 0;
    char *grown = realloc(a->text, a->len + (size_t)n + 1);
    if (!grown) exit(1);
    memcpy(grown + a->len, piece, (size_t)n);
    a->text = grown;
    a->len += (size_t)n;
    a->text[a->len] = 0;
    return true;
}

int main(int argc, char **argv)
{
    reattn_model *model;
    reattn_sampler *sampler;
    reattn_sampler_params greedy = reattn_sampler_params_default();
    answer answers[MOST] = {{0}};
    const int n = argc - 2;
    greedy.temp = 0;
    if (n < 1 || n > MOST) {
        fprintf(stderr, "usage: together MODEL PROMPT_FILE...\n");
        return 2;
    }
    must(reattn_model_load(argv[1], NULL, &model, &err));
    must(reattn_sampler_create(model, &greedy, &sampler, &err)); /* greedy keeps no state, so one serves all */
    for (int i = 0; i < n; i++) {
        answers[i].path = argv[2 + i];
        read_prompt(model, &answers[i]);
    }

    answer *going[MOST]; /* those that are not at their end */
    int n_going = n;
    for (int i = 0; i < n; i++) going[i] = &answers[i];
    for (int step = 0; step < ANSWER_MAX && n_going; step++) {
        reattn_session *sessions[MOST];
        int32_t tokens[MOST];
        int codes[MOST], m = 0;
        for (int i = 0; i < n_going; i++) {
            int32_t token;
            must(reattn_sampler_sample(sampler, going[i]->session, &token, &err));
            if (!say(model, going[i], token)) continue;
            going[m] = going[i];
            sessions[m] = going[i]->session;
            tokens[m++] = token;
        }
        n_going = 0;
        if (m == 0) break;
        if (reattn_session_decode_many(sessions, tokens, m, codes, &err)) fprintf(stderr, "together: %s\n", err.msg);
        for (int i = 0; i < m; i++) /* one that failed ends here, the others go on */
            if (codes[i] == REATTN_OK) going[n_going++] = going[i];
    }

    for (int i = 0; i < n; i++) {
        printf("%s: %s\n", answers[i].path, answers[i].text ? answers[i].text : "");
        free(answers[i].text);
        reattn_session_free(answers[i].session);
    }
    reattn_sampler_free(sampler);
    reattn_model_free(model);
    return 0;
}
