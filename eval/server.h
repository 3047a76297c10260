/* server.h - an OpenAI-compatible server instead of a model: its completion endpoint, and llama.cpp's /tokenize. */
#ifndef SERVER_H
#define SERVER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "text.h"

typedef struct server server;

/* `url` is http://host:port, with or without /v1. Asks for the server's models; the first is used. key may be NULL. */
int server_open(const char *url, const char *key, server **out);
/* Accepts NULL. */
void server_close(server *s);
const char *server_model(const server *s);
/* False if the server cannot count tokens: they are then taken to have four bytes. */
bool server_counts(const server *s);

int server_count(server *s, const char *text, size_t n, int64_t *tokens);
/* The likeliest continuation. *prompt_tokens and *tokens are what the server says, or -1. Appends to `answer`. */
int server_complete(server *s, const char *prompt, size_t n, int64_t limit, text *answer, int64_t *prompt_tokens,
                    int64_t *tokens);

#endif
