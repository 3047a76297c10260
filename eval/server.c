/* server.c - see server.h. */
#include "server.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

struct server {
    CURL *curl;
    struct curl_slist *headers;
    char *base;  /* without a slash at the end */
    char *model; /* owned */
    bool counts;
};

static size_t take(char *data, size_t size, size_t n, void *user)
{
    return text_append(user, data, size * n) ? size * n : 0;
}

/* Sends a request: POST of `body` (taken over), or GET without one. *answer is the caller's, NULL if it is no JSON. */
static int request(server *s, const char *path, json_t *body, long *status, json_t **answer)
{
    text url = {0}, got = {0};
    char *sent = body ? json_dumps(body, JSON_COMPACT) : NULL;
    bool fine = text_append(&url, s->base, strlen(s->base)) && text_append(&url, path, strlen(path)) && (!body || sent);
    json_decref(body);
    *answer = NULL;
    CURLcode code = CURLE_OUT_OF_MEMORY;
    if (fine) {
        curl_easy_reset(s->curl);
        curl_easy_setopt(s->curl, CURLOPT_URL, url.data);
        curl_easy_setopt(s->curl, CURLOPT_HTTPHEADER, s->headers);
        curl_easy_setopt(s->curl, CURLOPT_WRITEFUNCTION, take);
        curl_easy_setopt(s->curl, CURLOPT_WRITEDATA, &got);
        curl_easy_setopt(s->curl, CURLOPT_CONNECTTIMEOUT, 10L); /* none for the answer: a prompt may take an hour */
        curl_easy_setopt(s->curl, CURLOPT_NOSIGNAL, 1L);
        if (sent) {
            curl_easy_setopt(s->curl, CURLOPT_POSTFIELDS, sent);
            curl_easy_setopt(s->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(sent));
        }
        code = curl_easy_perform(s->curl);
    }
    int rc =
        code ? cli_fail(EXIT_FAILED, "%s: %s", url.data ? url.data : s->base, curl_easy_strerror(code)) : EXIT_DONE;
    if (!rc) {
        curl_easy_getinfo(s->curl, CURLINFO_RESPONSE_CODE, status);
        *answer = json_loadb(got.data ? got.data : "", got.len, JSON_ALLOW_NUL, NULL);
    }
    free(sent);
    text_free(&url);
    text_free(&got);
    return rc;
}

/* What an answer that is no success says. */
static int refused(const server *s, const char *path, long status, const json_t *answer)
{
    const json_t *error = json_object_get(answer, "error");
    const char *said = json_string_value(json_is_string(error) ? error : json_object_get(error, "message"));
    return cli_fail(EXIT_FAILED, "%s%s: HTTP %ld%s%s", s->base, path, status, said ? ": " : "", said ? said : "");
}

static int find_model(server *s)
{
    long status;
    json_t *answer;
    int rc = request(s, "/v1/models", NULL, &status, &answer);
    if (rc)
        return rc;
    const char *id = json_string_value(json_object_get(json_array_get(json_object_get(answer, "data"), 0), "id"));
    if (status != 200)
        rc = refused(s, "/v1/models", status, answer);
    else if (!id)
        rc = cli_fail(EXIT_FAILED, "%s/v1/models names no model: is it an OpenAI-compatible server?", s->base);
    else if (!(s->model = strdup(id)))
        rc = cli_fail(EXIT_FAILED, "out of memory");
    json_decref(answer);
    return rc;
}

int server_open(const char *url, const char *key, server **out)
{
    server *s = calloc(1, sizeof *s);
    int64_t count;
    if (s && !curl_global_init(CURL_GLOBAL_DEFAULT))
        s->curl = curl_easy_init();
    if (s)
        s->base = strdup(url);
    if (!s || !s->curl || !s->base) {
        server_close(s);
        return cli_fail(EXIT_FAILED, "out of memory");
    }
    size_t n = strlen(s->base);
    while (n && s->base[n - 1] == '/')
        s->base[--n] = 0;
    if (n > 3 && !strcmp(s->base + n - 3, "/v1"))
        s->base[n - 3] = 0;
    s->headers = curl_slist_append(NULL, "Content-Type: application/json");
    if (key) {
        text header = {0};
        if (text_append(&header, "Authorization: Bearer ", 22) && text_append(&header, key, strlen(key)))
            s->headers = curl_slist_append(s->headers, header.data);
        text_free(&header);
    }
    int rc = find_model(s);
    s->counts = true;
    if (!rc)
        rc = server_count(s, "a", 1, &count);
    if (rc) {
        server_close(s);
        return rc;
    }
    *out = s;
    return EXIT_DONE;
}

void server_close(server *s)
{
    if (!s)
        return;
    if (s->curl)
        curl_easy_cleanup(s->curl);
    curl_slist_free_all(s->headers);
    free(s->base);
    free(s->model);
    free(s);
}

const char *server_model(const server *s)
{
    return s->model;
}

bool server_counts(const server *s)
{
    return s->counts;
}

int server_count(server *s, const char *text, size_t n, int64_t *tokens)
{
    long status = 0;
    json_t *answer = NULL;
    *tokens = (int64_t)n / 4 + 1;
    if (!s->counts)
        return EXIT_DONE;
    int rc = request(s, "/tokenize", json_pack("{s:s%, s:b}", "content", text, n, "add_special", 1), &status, &answer);
    const json_t *list = json_object_get(answer, "tokens");
    s->counts = !rc && status == 200 && json_is_array(list);
    if (s->counts)
        *tokens = (int64_t)json_array_size(list);
    json_decref(answer);
    return rc;
}

int server_complete(server *s, const char *prompt, size_t n, int64_t limit, text *answer, int64_t *prompt_tokens,
                    int64_t *tokens)
{
    long status;
    json_t *got;
    int rc = request(s, "/v1/completions",
                     json_pack("{s:s, s:s%, s:I, s:i, s:b, s:b}", "model", s->model, "prompt", prompt, n, "max_tokens",
                               (json_int_t)limit, "temperature", 0, "stream", 0, "cache_prompt", 1),
                     &status, &got);
    if (rc)
        return rc;
    const json_t *said = json_object_get(json_array_get(json_object_get(got, "choices"), 0), "text");
    const json_t *usage = json_object_get(got, "usage"), *p = json_object_get(usage, "prompt_tokens"),
                 *c = json_object_get(usage, "completion_tokens");
    *prompt_tokens = json_is_integer(p) ? (int64_t)json_integer_value(p) : -1;
    *tokens = json_is_integer(c) ? (int64_t)json_integer_value(c) : -1;
    if (status != 200)
        rc = refused(s, "/v1/completions", status, got);
    else if (!json_is_string(said))
        rc = cli_fail(EXIT_FAILED, "%s/v1/completions answered without a text", s->base);
    else if (!text_append(answer, json_string_value(said), json_string_length(said)))
        rc = cli_fail(EXIT_FAILED, "out of memory");
    json_decref(got);
    return rc;
}
