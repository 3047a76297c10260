/* dump.h - keys and queries of a store in a file, for tests elsewhere (on a machine without the model, say). */
#ifndef BENCH_DUMP_H
#define BENCH_DUMP_H

#include "check.h"

/* The file, all of it little-endian:
 *   int32 [8]     magic (BENCH_DUMP_MAGIC), layers, keys, queries, H, Hk, D, 0
 *   a layer:      keys f16 [keys][Hk][D], queries f32 [queries][H][D]
 * Of the store's layers at most BENCH_DUMP_LAYERS are taken, evenly spread. */
enum { BENCH_DUMP_MAGIC = 0x31444b52, BENCH_DUMP_LAYERS = 5 };

/* Writes what a check of the same data would search. Errors: E_IO (path, and why), E_NOMEM. */
int bench_dump(const bench_check *data, const char *path, reattn_error *err);

#endif
