/* report.c - see report.h. */
#include "report.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

typedef enum step { PROMPT, DECODE } step;

static const bench_time *time_of(const bench_row *row, step step)
{
    return step == PROMPT ? &row->prompt : &row->decode;
}

/* Tokens a second. */
static double rate(const bench_row *row, step step)
{
    return 1e3 / time_of(row, step)->total;
}

/* What is neither selection nor attention nor storing; of native, everything. */
static double model_ms(const bench_row *row, step step)
{
    const bench_time *t = time_of(row, step);
    return t->total - t->select - t->attend - t->append - t->device;
}

/* How many times as fast as native at this depth, or as the best of all of llama.cpp's settings; 0 if there is none. */
static double ratio(const bench_report *r, const bench_row *row, step step, bool best)
{
    double base = 0;
    for (const bench_row *o = r->rows; o < r->rows + r->n_rows; o++)
        if (o->native && o->depth == row->depth && (best || !strcmp(o->name, "native")) && rate(o, step) > base)
            base = rate(o, step);
    return base > 0 ? rate(row, step) / base : 0;
}

static const char *shown(char buf[16], double value, const char *format)
{
    snprintf(buf, 16, value > 0 ? format : "-", value);
    return buf;
}

static void print_table(const bench_report *r)
{
    const options *opt = r->opt;
    const bool best = opt->native_variants;
    printf("%s, %d threads, CPU level %s\n", r->model, r->n_threads, reattn_cpu_level());
    printf("text: %s; prompt %lld tokens, decode %lld tokens, median of %lld; \"x\" is the ratio to native%s\n",
           r->text, (long long)opt->bench_prompt, (long long)opt->bench_predict, (long long)opt->repeats,
           best ? ", \"x best\" that to the best of llama.cpp's settings" : "");
    if (opt->synthetic)
        printf("depths with * are filled with copies of the keys and values of the first %lld tokens, each changed\n"
               "by up to 1 %% (but native's, which are as they were)\n",
               (long long)opt->synthetic);
    printf("select, attend, append, device (all three, on a GPU), model: milliseconds a token of decode\n\n");
    printf("policy            |    depth  | prefill t/s |      x |%s decode t/s |      x |%s  select |  attend |  "
           "append |  device |   "
           "model | store MiB\n",
           best ? " x best |" : "", best ? " x best |" : "");
    printf(
        "------------------|---------: |-----------: |------: |%s----------: |------: |%s-------: |-------: |-------: |"
        "-------: |-------: |---------:\n",
        best ? "------: |" : "", best ? "------: |" : "");
    for (const bench_row *row = r->rows; row < r->rows + r->n_rows; row++) {
        char a[16], b[16], c[16], d[16], e[16];
        printf("%-17s | %8lld%c | %11.1f | %6s |", row->name, (long long)row->depth, row->synthetic ? '*' : ' ',
               rate(row, PROMPT), shown(a, ratio(r, row, PROMPT, false), "%.2f"));
        if (best)
            printf(" %6s |", shown(a, ratio(r, row, PROMPT, true), "%.2f"));
        printf(" %10.1f | %6s |", rate(row, DECODE), shown(a, ratio(r, row, DECODE, false), "%.2f"));
        if (best)
            printf(" %6s |", shown(a, ratio(r, row, DECODE, true), "%.2f"));
        printf(" %7s | %7s | %7s | %7s | %7s | %9s\n", shown(a, row->decode.select, "%.2f"),
               shown(b, row->decode.attend, "%.2f"), shown(c, row->decode.append, "%.2f"),
               shown(e, row->decode.device, "%.2f"), shown(d, model_ms(row, DECODE), "%.2f"),
               row->store_bytes ? shown((char[16]){0}, (double)row->store_bytes / (1 << 20), "%.1f") : "-");
    }
}

static void print_many(const bench_report *r)
{
    printf("\ndecode of several sessions: tokens/s of all, in one step and one after another\n\n"
           "policy            |    depth  | sessions | in one step |   in turn |      x\n"
           "------------------|---------: |--------: |-----------: |---------: |------:\n");
    for (const bench_many *m = r->many; m < r->many + r->n_many; m++)
        printf("%-17s | %8lld%c | %8d | %11.1f | %9.1f | %6.2f\n", m->name, (long long)m->depth,
               m->synthetic ? '*' : ' ', m->n_sessions, m->together, m->in_turn, m->together / m->in_turn);
}

static json_t *number(double x)
{
    return x > 0 ? json_real(x) : json_null();
}

static json_t *json_time(const bench_row *row, step step)
{
    const bench_time *t = time_of(row, step);
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "total_ms", t->total, "select_ms", t->select, "attend_ms",
                     t->attend, "append_ms", t->append, "device_ms", t->device, "model_ms", model_ms(row, step));
}

static int print_json(const bench_report *r)
{
    const options *opt = r->opt;
    json_t *rows = json_array(), *many = json_array();
    for (const bench_row *row = r->rows; row < r->rows + r->n_rows; row++)
        json_array_append_new(
            rows,
            json_pack("{s:s, s:I, s:b, s:f, s:o, s:o, s:f, s:o, s:o, s:o, s:o, s:I}", "policy", row->name, "depth",
                      (json_int_t)row->depth, "synthetic", (int)row->synthetic, "prompt_per_second", rate(row, PROMPT),
                      "prompt_ratio", number(ratio(r, row, PROMPT, false)), "prompt_ratio_best",
                      number(ratio(r, row, PROMPT, true)), "predicted_per_second", rate(row, DECODE), "predicted_ratio",
                      number(ratio(r, row, DECODE, false)), "predicted_ratio_best", number(ratio(r, row, DECODE, true)),
                      "prompt_token", json_time(row, PROMPT), "predicted_token", json_time(row, DECODE), "store_bytes",
                      (json_int_t)row->store_bytes));
    for (const bench_many *m = r->many; m < r->many + r->n_many; m++)
        json_array_append_new(many, json_pack("{s:s, s:I, s:b, s:i, s:f, s:f, s:f}", "policy", m->name, "depth",
                                              (json_int_t)m->depth, "synthetic", (int)m->synthetic, "sessions",
                                              m->n_sessions, "together_per_second", m->together, "in_turn_per_second",
                                              m->in_turn, "ratio", m->together / m->in_turn));
    json_t *object = json_pack(
        "{s:s, s:s, s:i, s:s, s:I, s:I, s:I, s:I, s:o, s:o}", "model", r->model, "cpu_level", reattn_cpu_level(),
        "threads", r->n_threads, "text", r->text, "prompt_tokens", (json_int_t)opt->bench_prompt, "predicted_tokens",
        (json_int_t)opt->bench_predict, "repeats", (json_int_t)opt->repeats, "synthetic_from",
        (json_int_t)opt->synthetic, "rows", rows, "sessions", many);
    int failed = !object || json_dumpf(object, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) || putchar('\n') == EOF;
    json_decref(object);
    return failed ? cli_fail(EXIT_FAILED, "the JSON object could not be written") : EXIT_DONE;
}

static void csv_time(FILE *f, const bench_row *row, step step)
{
    const bench_time *t = time_of(row, step);
    fprintf(f, ",%.4f,%.4f,%.4f,%.4f,%.4f", rate(row, step), t->select, t->attend, t->append, model_ms(row, step));
}

static int write_csv(const bench_report *r, FILE *f)
{
    fputs("model,cpu_level,threads,policy,depth,synthetic,prompt_per_second,prompt_select_ms,prompt_attend_ms,"
          "prompt_append_ms,prompt_model_ms,predicted_per_second,predicted_select_ms,predicted_attend_ms,"
          "predicted_append_ms,predicted_model_ms,store_bytes,prompt_device_ms,predicted_device_ms\n",
          f);
    for (const bench_row *row = r->rows; row < r->rows + r->n_rows; row++) {
        /* A file's name may hold commas and quotes. */
        fputc('"', f);
        for (const char *s = r->model; *s; s++)
            fprintf(f, *s == '"' ? "\"\"" : "%c", *s);
        fprintf(f, "\",%s,%d,%s,%lld,%d", reattn_cpu_level(), r->n_threads, row->name, (long long)row->depth,
                row->synthetic);
        csv_time(f, row, PROMPT);
        csv_time(f, row, DECODE);
        fprintf(f, ",%llu,%.4f,%.4f\n", (unsigned long long)row->store_bytes, row->prompt.device, row->decode.device);
    }
    bool failed = ferror(f);
    failed |= fclose(f) != 0;
    return failed ? cli_fail(EXIT_FAILED, "%s: could not be written", r->opt->csv_file) : EXIT_DONE;
}

int report_open(bench_report *report, const options *opt)
{
    report->opt = opt;
    if (opt->csv_file && !(report->csv = fopen(opt->csv_file, "w")))
        return cli_fail(EXIT_FAILED, "%s: %s", opt->csv_file, strerror(errno));
    return EXIT_DONE;
}

int report_print(bench_report *report)
{
    int rc = EXIT_DONE;
    if (report->opt->json)
        rc = print_json(report);
    else {
        print_table(report);
        if (report->n_many)
            print_many(report);
    }
    int written = report->csv ? write_csv(report, report->csv) : EXIT_DONE;
    report->csv = NULL;
    return rc ? rc : written;
}
