/* report.h - what reattn bench e2e measured: as a table, as JSON, as a CSV file. */
#ifndef REPORT_H
#define REPORT_H

#include <stdio.h>

#include "args.h"

/* Milliseconds a token. */
typedef struct bench_time {
    double total, select, attend, append, device; /* device: the three, of layers that attend on a GPU */
} bench_time;

typedef struct bench_row {
    const char *name;
    bool native;
    int64_t depth;
    bool synthetic; /* the depth is made of copies */
    bench_time prompt, decode;
    uint64_t store_bytes;
} bench_row;

/* Decode of several sessions: tokens a second of all of them. */
typedef struct bench_many {
    const char *name;
    int64_t depth;
    bool synthetic;
    int n_sessions;
    double together, in_turn;
} bench_many;

typedef struct bench_report {
    const options *opt;
    const char *model, *text;
    int n_threads;
    bench_row *rows; /* [n_rows] */
    int n_rows;
    bench_many *many; /* [n_many] of --sessions */
    int n_many;
    FILE *csv; /* of --csv, or NULL */
} bench_report;

/* Opens the file of --csv, if there is one: before hours are spent on measuring. */
int report_open(bench_report *report, const options *opt);
/* Prints a table, or with --json an object, and writes the file of --csv and closes it. */
int report_print(bench_report *report);

#endif
