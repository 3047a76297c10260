/* error.h - the one error convention of reattn.
 *
 * Every function that can fail returns an int: REATTN_OK (0), or one of the negative codes below. Where a function
 * takes a `reattn_error *`, it may be NULL; when it is not, the code and a message that says what to do are written
 * there on failure, and it is left alone on success. The library never prints, exits or aborts. */
#ifndef REATTN_ERROR_H
#define REATTN_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define REATTN_API __attribute__((visibility("default")))
#else
#define REATTN_API
#endif

/* The single list of error codes: X(name, value, text). Values never change. */
#define REATTN_ERROR_MAP(X)                                                                                            \
    X(OK, 0, "success")                                                                                                \
    X(E_ARG, -1, "invalid argument")                                                                                   \
    X(E_NOMEM, -2, "out of memory")                                                                                    \
    X(E_LIMIT, -3, "memory or length limit reached")                                                                   \
    X(E_IO, -4, "file could not be read or written")                                                                   \
    X(E_FORMAT, -5, "file is damaged or of another format")                                                            \
    X(E_MODEL, -6, "model could not be loaded or run")                                                                 \
    X(E_UNSUPPORTED, -7, "not supported")                                                                              \
    X(E_NAN, -8, "a value is not finite")                                                                              \
    X(E_CANCELLED, -9, "cancelled")                                                                                    \
    X(E_INTERNAL, -10, "internal error")

enum {
#define REATTN_ERROR_ENUM(name, value, text) REATTN_##name = value,
    REATTN_ERROR_MAP(REATTN_ERROR_ENUM)
#undef REATTN_ERROR_ENUM
};

/* What went wrong. `msg` is one line, NUL-terminated, without a newline. */
typedef struct reattn_error {
    int code;
    char msg[504];
} reattn_error;

/* Name of a code, such as "REATTN_E_ARG", and its short text. Static strings, never NULL. Thread-safe. */
REATTN_API const char *reattn_error_name(int code);
REATTN_API const char *reattn_error_text(int code);

#ifdef __cplusplus
}
#endif
#endif
