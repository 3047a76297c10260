/* fuzz_text.c - UTF-8 and numbers from any bytes. What a model generates becomes valid UTF-8, in however many pieces it
 * comes; lists of numbers are refused, or within their bounds. */
#include <string.h>

#include "common/numbers.h"
#include "common/text.h"
#include "fuzz.h"

const fuzz_seed fuzz_seeds[] = {FUZZ_SEED("8K,16K,32K"),
                                FUZZ_SEED("0:100:10,200"),
                                FUZZ_SEED("words \xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80 more"),
                                FUZZ_SEED("\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf"),
                                {0}};

static void utf8(const uint8_t *data, size_t size)
{
    text whole = {0}, pieces = {0}, pending = {0};
    FUZZ_CHECK(utf8_feed(&whole, &pending, (const char *)data, size) && utf8_feed(&whole, &pending, NULL, 0));
    FUZZ_CHECK(!pending.len);
    for (size_t at = 0, n; at < size; at += n) {
        n = 1 + data[at] % 5;
        n = n < size - at ? n : size - at;
        FUZZ_CHECK(utf8_feed(&pieces, &pending, (const char *)data + at, n));
    }
    FUZZ_CHECK(utf8_feed(&pieces, &pending, NULL, 0) && !pending.len);
    FUZZ_CHECK(whole.len == pieces.len && (!whole.len || !memcmp(whole.data, pieces.data, whole.len)));
    for (size_t i = 0; i < whole.len;) {
        const int n = utf8_length(whole.data + i, whole.len - i);
        FUZZ_CHECK(n > 0);
        i += (size_t)n;
    }
    if (!text_check("it", (const char *)data, size)) /* text that is valid comes out as it went in */
        FUZZ_CHECK(whole.len == size && (!size || !memcmp(whole.data, data, size)));
    text_free(&whole);
    text_free(&pieces);
    text_free(&pending);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    utf8(data, size);
    char *typed = fuzz_text(data, size);
    numbers n;
    if (!numbers_read("--depths", typed, 0, 1 << 24, &n)) {
        FUZZ_CHECK(n.n > 0);
        numbers_sort(&n);
        for (int i = 0; i < n.n; i++)
            FUZZ_CHECK(n.v[i] >= 0 && n.v[i] <= 1 << 24 && (!i || n.v[i - 1] <= n.v[i]));
    }
    numbers_free(&n);
    free(typed);
    return 0;
}
