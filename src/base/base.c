/* base.c - errors, log, memory, time. */
#include "base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#include "reattn/reattn.h"

const char *reattn_error_name(int code)
{
    switch (code) {
#define REATTN__CASE(name, value, text)                                                                                \
    case value:                                                                                                        \
        return "REATTN_" #name;
        REATTN_ERROR_MAP(REATTN__CASE)
#undef REATTN__CASE
    }
    return "REATTN_E_UNKNOWN";
}

const char *reattn_error_text(int code)
{
    switch (code) {
#define REATTN__CASE(name, value, text)                                                                                \
    case value:                                                                                                        \
        return text;
        REATTN_ERROR_MAP(REATTN__CASE)
#undef REATTN__CASE
    }
    return "unknown error";
}

int reattn__fail(reattn_error *err, int code, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        err->code = code;
        va_start(ap, fmt);
        vsnprintf(err->msg, sizeof err->msg, fmt, ap);
        va_end(ap);
    }
    return code;
}

static reattn_log_fn log_fn;
static void *log_user;

void reattn_log_set(reattn_log_fn fn, void *user)
{
    log_fn = fn;
    log_user = user;
}

void reattn__log(int level, const char *fmt, ...)
{
    char line[1024];
    va_list ap;
    if (!log_fn) return;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof line - 1, fmt, ap);
    va_end(ap);
    if (n < 0) return;
    if ((size_t)n > sizeof line - 2) n = sizeof line - 2;
    if (n == 0 || line[n - 1] != '\n') line[n++] = '\n';
    line[n] = 0;
    log_fn((reattn_log_level)level, line, log_user);
}

void *reattn__alloc(size_t bytes)
{
    enum { LARGE = 2 << 20 };
    void *ptr = NULL;
    if (posix_memalign(&ptr, bytes >= LARGE ? LARGE : 64, bytes ? bytes : 64) != 0) return NULL;
#ifdef MADV_HUGEPAGE
    /* Large memory pages, where the system has them to give: a scan of gigabytes otherwise looks up each 4 KiB. */
    if (bytes >= LARGE) madvise(ptr, bytes / LARGE * LARGE, MADV_HUGEPAGE);
#endif
    return ptr;
}

void reattn__free(void *ptr)
{
    free(ptr);
}

void reattn_free(void *ptr)
{
    free(ptr);
}

void *reattn__buffer_need(reattn__buffer *buffer, size_t bytes)
{
    if (bytes <= buffer->bytes && buffer->data) return buffer->data;
    size_t want = reattn__buffer_room(bytes);
    void *data = reattn__alloc(want);
    if (!data) return NULL;
    reattn__free(buffer->data);
    buffer->data = data;
    buffer->bytes = want;
    return data;
}

void reattn__buffer_free(reattn__buffer *buffer)
{
    reattn__free(buffer->data);
    buffer->data = NULL;
    buffer->bytes = 0;
}

double reattn__now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec * 1e-6;
}

bool reattn__all_finite(const float *x, int64_t n)
{
    /* An exponent of all ones is an infinity or a NaN; integer compares vectorise and know no exceptions. */
    uint32_t bad = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bad |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    return !bad;
}
