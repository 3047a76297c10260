/* generate.c - see generate.h. */
#include "generate.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "interrupt.h"
#include "progress.h"

int generate_prompt(reattn_session *session, const int32_t *tokens, int64_t n, bool quiet)
{
    reattn_error err;
    int64_t before = reattn_session_length(session);
    progress bar = progress_start("prompt", quiet);
    int rc = reattn_session_prompt(session, tokens, n, progress_step, &bar, &err);
    progress_clear();
    if (rc == REATTN_E_CANCELLED || (!rc && interrupt_pending()))
        return EXIT_INTERRUPTED;
    if (rc)
        return cli_fail(EXIT_FAILED, "%s (after %lld of %lld tokens of the prompt)", err.msg,
                        (long long)(reattn_session_length(session) - before), (long long)n);
    return EXIT_DONE;
}

/* Writes what was added to the answer since `from`. */
static int stream_out(const answer *a, size_t from)
{
    if (fwrite(a->text.data + from, 1, a->text.len - from, stdout) != a->text.len - from || fflush(stdout))
        return cli_fail(EXIT_FAILED, "standard output: %s", strerror(errno));
    return EXIT_DONE;
}

/* Appends a token's bytes to the answer, and to the stream once they are whole characters. */
static int take_piece(answer *a, text *pending, const char *piece, int n, bool stream)
{
    size_t from = a->text.len;
    if (!utf8_feed(&a->text, pending, piece, (size_t)n))
        return cli_fail(EXIT_FAILED, "out of memory");
    return stream && a->text.len > from ? stream_out(a, from) : EXIT_DONE;
}

int generate_answer(const reattn_model *model, reattn_session *session, reattn_sampler *sampler, int64_t limit,
                    bool stream, bool keep_all, trace *recalls, answer *out)
{
    text pending = {0};
    int rc = text_append(&out->text, "", 0) ? EXIT_DONE : cli_fail(EXIT_FAILED, "out of memory");
    out->tokens = 0;
    out->stop = "limit";
    while (!rc && (limit < 0 || out->tokens < limit)) {
        reattn_error err;
        int32_t token;
        char piece[512];
        if (interrupt_pending()) {
            out->stop = "interrupt";
            break;
        }
        if (reattn_sampler_sample(sampler, session, &token, &err)) {
            rc = cli_fail(EXIT_FAILED, "%s", err.msg);
            break;
        }
        if (reattn_token_is_eog(model, token)) {
            out->stop = "eos";
            break;
        }
        int n = reattn_token_bytes(model, token, false, piece, sizeof piece);
        n = n > (int)sizeof piece ? (int)sizeof piece : n < 0 ? 0 : n;
        rc = take_piece(out, &pending, piece, n, stream);
        if (!rc && recalls)
            rc = trace_token(recalls, reattn_session_length(session), piece, (size_t)n);
        out->tokens++;
        if (rc || (out->tokens == limit && !keep_all))
            break;
        int code = reattn_session_decode(session, token, &err);
        if (code == REATTN_E_CANCELLED) {
            out->stop = "interrupt";
            break;
        }
        if (code == REATTN_E_LIMIT) {
            cli_note("the answer ends here: %s", err.msg);
            break;
        }
        if (code)
            rc = cli_fail(EXIT_FAILED, "%s", err.msg);
    }
    if (!rc)
        rc = take_piece(out, &pending, "", 0, stream);
    if (stream && out->text.len && out->text.data[out->text.len - 1] != '\n')
        if (fputc('\n', stdout) == EOF || fflush(stdout))
            rc = rc ? rc : cli_fail(EXIT_FAILED, "standard output: %s", strerror(errno));
    text_free(&pending);
    return rc;
}

double generate_rate(int64_t tokens, double ms)
{
    return ms > 0 ? 1000.0 * (double)tokens / ms : 0;
}

void generate_report(const reattn_session *session, int64_t answer_tokens)
{
    reattn_stats s;
    reattn_session_get_stats(session, &s);
    char gpu[48] = "";
    if (s.device_ms > 0)
        snprintf(gpu, sizeof gpu, ", both on the GPU %.0f ms", s.device_ms);
    cli_note("prompt %lld tokens, %.1f tok/s | answer %lld tokens, %.1f tok/s | select %.0f ms, attend %.0f ms%s",
             (long long)s.prompt_tokens, generate_rate(s.prompt_tokens, s.prompt_ms), (long long)answer_tokens,
             generate_rate(s.decode_tokens, s.decode_ms), s.select_ms, s.attend_ms, gpu);
}
