/* trace.c - see trace.h. */
#include "trace.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "passages.h"
#include "recalls.h"
#include "text.h"

enum { PASSAGES = 6 };

struct trace {
    FILE *file;
    const char *path;
    const reattn_model *model;
    reattn_session *session;
    recalls *recalls;
    passages passages; /* of the prompt, begun with the first token of the answer */
};

int trace_open(const char *path, const reattn_model *model, reattn_session *session, trace **out)
{
    trace *t = calloc(1, sizeof *t);
    FILE *f = t ? fopen(path, "w") : NULL;
    if (!f) {
        free(t);
        return cli_fail(EXIT_FAILED, "%s: %s", path, strerror(errno));
    }
    t->file = f;
    t->path = path;
    t->model = model;
    t->session = session;
    int rc = recalls_watch(session, &t->recalls);
    if (rc) {
        trace_close(t);
        return rc;
    }
    *out = t;
    return EXIT_DONE;
}

static json_t *span_list(const recalled_run *runs, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_pack("{s:I, s:I, s:i}", "first", (json_int_t)runs[i].first, "count",
                                              (json_int_t)runs[i].count, "layers", runs[i].layers));
    return list;
}

static int write_line(trace *t, json_t *line)
{
    if (!line)
        return cli_fail(EXIT_FAILED, "out of memory");
    bool fine = !json_dumpf(line, t->file, JSON_COMPACT | JSON_REAL_PRECISION(9)) && fputc('\n', t->file) != EOF;
    json_decref(line);
    return fine ? EXIT_DONE : cli_fail(EXIT_FAILED, "%s: %s", t->path, strerror(errno));
}

int trace_token(trace *t, int64_t position, const char *bytes, size_t n)
{
    text piece = {0}, pending = {0};
    recalled_run *runs;
    size_t n_runs;
    reattn_model_info info;
    reattn_model_get_info(t->model, &info);
    int rc = t->passages.share ? EXIT_DONE : passages_start(&t->passages, position, info.n_layer);
    if (!rc)
        rc = recalls_runs(t->recalls, &runs, &n_runs);
    if (rc)
        return rc;
    passages_add(&t->passages, runs, n_runs);
    bool fine = utf8_feed(&piece, &pending, bytes, n) && utf8_feed(&piece, &pending, "", 0);
    json_t *line = fine ? json_pack("{s:I, s:s%, s:o}", "token", (json_int_t)position, "text", piece.data, piece.len,
                                    "spans", span_list(runs, n_runs))
                        : NULL;
    text_free(&piece);
    text_free(&pending);
    free(runs);
    return write_line(t, line);
}

static int write_passages(trace *t)
{
    const reattn_session_params *p = reattn_session_get_params(t->session);
    json_t *list = passages_json(&t->passages, t->model, reattn_session_tokens(t->session), PASSAGES);
    if (!list)
        return EXIT_FAILED;
    return write_line(t, json_pack("{s:I, s:i, s:I, s:I, s:o}", "prompt_tokens", (json_int_t)t->passages.n, "layers",
                                   t->passages.n_layer, "keep", (json_int_t)p->keep, "local", (json_int_t)p->local,
                                   "passages", list));
}

int trace_close(trace *t)
{
    int rc = EXIT_DONE;
    if (!t)
        return rc;
    if (t->passages.share)
        rc = write_passages(t);
    passages_free(&t->passages);
    recalls_free(t->recalls);
    if (fclose(t->file) && !rc)
        rc = cli_fail(EXIT_FAILED, "%s: %s", t->path, strerror(errno));
    free(t);
    return rc;
}
