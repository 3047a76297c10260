/* dump.c - see dump.h. */
#include "dump.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "cpu/half.h"
#include "data.h"

enum { PIECE = 512 };

static bool write_layer(const bench_check *d, int layer, float *k, uint16_t *half, FILE *out)
{
    const int64_t row = (int64_t)d->shape->Hk * d->shape->D, queries = d->T * d->shape->H * d->shape->D;
    for (int64_t first = 0; first < d->keys; first += PIECE) {
        const int64_t n = REATTN__MIN((int64_t)PIECE, d->keys - first);
        bench_data_dense(d->store, d->shape, layer, first, n, k, NULL);
        for (int64_t i = 0; i < n * row; i++)
            half[i] = reattn__float_to_half(k[i]);
        if (fwrite(half, sizeof *half, (size_t)(n * row), out) != (size_t)(n * row))
            return false;
    }
    return fwrite(d->q + layer * queries, sizeof *d->q, (size_t)queries, out) == (size_t)queries;
}

int bench_dump(const bench_check *d, const char *path, reattn_error *err)
{
    const reattn__layer *s = d->shape;
    const int layers = REATTN__MIN(d->n_layer, (int)BENCH_DUMP_LAYERS);
    const int32_t head[8] = {BENCH_DUMP_MAGIC, layers, (int32_t)d->keys, (int32_t)d->T, s->H, s->Hk, s->D, 0};
    const size_t values = (size_t)PIECE * s->Hk * s->D;
    float *k = malloc(values * sizeof *k);
    uint16_t *half = malloc(values * sizeof *half);
    FILE *out = k && half ? fopen(path, "wb") : NULL;
    bool done = out && fwrite(head, sizeof head, 1, out) == 1;
    for (int i = 0; i < layers && done; i++)
        done = write_layer(d, i * d->n_layer / layers, k, half, out);
    int code = REATTN_OK;
    if (!k || !half)
        code = reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    else if ((out && fclose(out)) || !done)
        code = reattn__fail(err, REATTN_E_IO, "%s: %s", path, strerror(errno));
    free(k);
    free(half);
    return code;
}
