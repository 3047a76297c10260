/* fuzz.c - see fuzz.h; and how the program complains, here in silence. */
#define _GNU_SOURCE /* memfd_create */
#include "fuzz.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cli.h"

const char *fuzz_file(const uint8_t *data, size_t size)
{
    static char path[64];
    static int fd = -1; /* a file in memory */
    if (fd < 0) {
        fd = memfd_create("fuzz", 0);
        FUZZ_CHECK(fd >= 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    FUZZ_CHECK(!ftruncate(fd, 0) && pwrite(fd, data, size, 0) == (ssize_t)size);
    return path;
}

char *fuzz_text(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    FUZZ_CHECK(text);
    if (size)
        memcpy(text, data, size);
    text[size] = 0;
    return text;
}

int cli_fail(int code, const char *format, ...)
{
    FUZZ_CHECK(format && *format && code != EXIT_DONE);
    return code;
}

int cli_fail_error(const reattn_error *err)
{
    FUZZ_CHECK(err->code != REATTN_OK && err->msg[0]);
    return err->code == REATTN_E_ARG ? EXIT_USAGE : EXIT_FAILED;
}

void cli_note(const char *format, ...)
{
    FUZZ_CHECK(format && *format);
}
