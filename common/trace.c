/* trace.c - see trace.h. */
#include "trace.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "recalls.h"
#include "text.h"

struct trace {
    FILE *file;
    const char *path;
    recalls *recalls;
};

int trace_open(const char *path, reattn_session *session, trace **out)
{
    trace *t = calloc(1, sizeof *t);
    FILE *f = t ? fopen(path, "w") : NULL;
    if (!f) {
        free(t);
        return cli_fail(EXIT_FAILED, "%s: %s", path, strerror(errno));
    }
    t->file = f;
    t->path = path;
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

int trace_token(trace *t, int64_t position, const char *bytes, size_t n)
{
    text piece = {0}, pending = {0};
    recalled_run *runs;
    size_t n_runs;
    int rc = recalls_runs(t->recalls, &runs, &n_runs);
    if (rc)
        return rc;
    bool fine = utf8_feed(&piece, &pending, bytes, n) && utf8_feed(&piece, &pending, "", 0);
    json_t *line = fine ? json_pack("{s:I, s:s%, s:o}", "token", (json_int_t)position, "text", piece.data, piece.len,
                                    "spans", span_list(runs, n_runs))
                        : NULL;
    text_free(&piece);
    text_free(&pending);
    free(runs);
    if (!line)
        return cli_fail(EXIT_FAILED, "out of memory");
    fine = !json_dumpf(line, t->file, JSON_COMPACT) && fputc('\n', t->file) != EOF;
    json_decref(line);
    return fine ? EXIT_DONE : cli_fail(EXIT_FAILED, "%s: %s", t->path, strerror(errno));
}

int trace_close(trace *t)
{
    int rc = EXIT_DONE;
    if (!t)
        return rc;
    recalls_free(t->recalls);
    if (fclose(t->file))
        rc = cli_fail(EXIT_FAILED, "%s: %s", t->path, strerror(errno));
    free(t);
    return rc;
}
