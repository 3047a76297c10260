/* minimal.c - the smallest useful program on libreattn: a greedy answer to a prompt of any length.
 *
 *     cc minimal.c -o minimal $(pkg-config --cflags --libs reattn)
 *     ./minimal model.gguf prompt.txt */
#define _POSIX_C_SOURCE 200809L /* getdelim */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <reattn/reattn.h>

enum { ANSWER_MAX = 256 };

static reattn_error err;

/* Ends the program with the library's message if a call failed: errors are negative. */
static void must(int64_t code)
{
    if (code >= 0) return;
    fprintf(stderr, "minimal: %s\n", err.msg);
    exit(1);
}

/* A file's text as a user message, in the chat template that the model brings, as tokens. */
static int32_t *read_prompt(const reattn_model *model, const char *path, int64_t *n)
{
    char *text = NULL, *formatted;
    size_t cap = 0;
    FILE *f = fopen(path, "r");
    if (!f || getdelim(&text, &cap, 0, f) < 0) { /* up to a NUL: all of it */
        fprintf(stderr, "minimal: cannot read %s\n", path);
        exit(1);
    }
    fclose(f);
    reattn_message message = {"user", text};
    must(reattn_chat_format(model, NULL, &message, 1, true, &formatted, &err));
    size_t len = strlen(formatted);
    must(*n = reattn_tokenize(model, formatted, len, true, true, NULL, 0, &err));
    int32_t *tokens = malloc((size_t)*n * sizeof *tokens);
    if (!tokens) exit(1);
    must(reattn_tokenize(model, formatted, len, true, true, tokens, *n, &err));
    reattn_free(formatted);
    free(text);
    return tokens;
}

int main(int argc, char **argv)
{
    reattn_model *model;
    reattn_session *session;
    reattn_sampler *sampler;
    reattn_sampler_params greedy = reattn_sampler_params_default();
    greedy.temp = 0;
    if (argc != 3) {
        fprintf(stderr, "usage: minimal MODEL PROMPT_FILE\n");
        return 2;
    }
    int64_t n;
    must(reattn_model_load(argv[1], NULL, &model, &err));
    must(reattn_session_create(model, NULL, &session, &err));
    must(reattn_sampler_create(model, &greedy, &sampler, &err));
    int32_t *prompt = read_prompt(model, argv[2], &n), token;
    must(reattn_session_prompt(session, prompt, n, NULL, NULL, &err));

    for (int i = 0; i < ANSWER_MAX; i++) {
        char piece[256];
        must(reattn_sampler_sample(sampler, session, &token, &err));
        if (reattn_token_is_eog(model, token)) break;
        int len = reattn_token_bytes(model, token, false, piece, sizeof piece);
        if (len <= (int)sizeof piece) fwrite(piece, 1, (size_t)len, stdout);
        fflush(stdout);
        must(reattn_session_decode(session, token, &err));
    }
    putchar('\n');

    free(prompt);
    reattn_sampler_free(sampler);
    reattn_session_free(session);
    reattn_model_free(model);
    return 0;
}
