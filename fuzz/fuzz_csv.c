/* fuzz_csv.c - a table of `bench plot` from any bytes: refused, or whole: every row has a cell in every column. */
#include <string.h>

#include "cli/csv.h"
#include "fuzz.h"

const fuzz_seed fuzz_seeds[] = {FUZZ_SEED("policy,tokens,ms\nnative,4096,1.5\nreattention,8192,2e-3\n"),
                                FUZZ_SEED("a,\"b, with \"\"quotes\"\"\",c\r\n\"1\",,-3\r\n"),
                                FUZZ_SEED("one\n1\n2\n3"),
                                {0}};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    csv table;
    if (!csv_read(&table, fuzz_file(data, size))) {
        FUZZ_CHECK(table.n_row >= 0 && table.n_column > 0);
        for (int row = 0; row < table.n_row; row++)
            for (int column = 0; column < table.n_column; column++) {
                double x;
                FUZZ_CHECK(strlen(csv_cell(&table, row, column)) <= size);
                if (!csv_number(&table, row, column, &x))
                    FUZZ_CHECK(x - x == 0); /* finite */
            }
        const int column = csv_column(&table, "policy");
        FUZZ_CHECK(column >= -1 && column < table.n_column);
    }
    csv_free(&table);
    return 0;
}
