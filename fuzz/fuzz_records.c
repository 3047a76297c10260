/* fuzz_records.c - files of JSON lines from any bytes: questions of a benchmark, and records of an evaluation that a later
 * run goes on with. Refused, or an array; of records what is whole is kept, and that can be read again. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "eval/files.h"
#include "eval/results.h"
#include "eval/sets.h"
#include "fuzz.h"

const fuzz_seed fuzz_seeds[] = {
    FUZZ_SEED("{\"record\": \"settings\", \"seed\": 1}\n{\"record\": \"case\", \"id\": \"a/1\", \"ms\": 3.5}\n"),
    FUZZ_SEED("{\"record\": \"settings\"}\n{\"record\": \"case\", \"id\": \"b\", \"answer\": \"x"),
    FUZZ_SEED("{\"input\": \"What?\", \"context\": \"Here.\", \"answers\": [\"a\", \"b\"], \"length\": 12}\n\n"),
    FUZZ_SEED("[{\"name\": \"{context} and {input}\"}, {\"name\": 2}]"),
    {0}};

static void records(const char *path, size_t size)
{
    json_t *settings, *cases, *again;
    long good = -1;
    if (results_read(path, &settings, &cases, &good)) {
        FUZZ_CHECK(!settings && !cases);
        return;
    }
    FUZZ_CHECK(json_is_array(cases) && good >= 0 && (size_t)good <= size);
    const size_t n = json_array_size(cases);
    json_decref(settings);
    json_decref(cases);
    FUZZ_CHECK(!truncate(path, good));
    FUZZ_CHECK(!results_read(path, &settings, &again, NULL) && json_array_size(again) == n);
    json_decref(settings);
    json_decref(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file(data, size);
    json_t *all;
    if (files_read(path, &all)) {
        FUZZ_CHECK(!all);
    } else {
        FUZZ_CHECK(json_is_array(all));
        char *template = fuzz_text(data, size);
        text out = {0};
        for (size_t i = 0; i < json_array_size(all); i++)
            FUZZ_CHECK(sets_fill(&out, template, json_array_get(all, i)));
        FUZZ_CHECK(sets_fill(&out, "{context} {", json_array_get(all, 0)));
        text_free(&out);
        free(template);
        json_decref(all);
    }
    records(path, size);
    return 0;
}
