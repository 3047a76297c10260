/* cli.h - what the commands of the program share.
 *
 * Convention of the program: a function that can fail prints its one error line itself and returns the exit code. */
#ifndef CLI_H
#define CLI_H

#include <reattn/reattn.h>

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };

/* Prints "reattn: ..." as one line on standard error and returns the code. */
__attribute__((format(printf, 2, 3))) int cli_fail(int code, const char *format, ...);
/* The same for an error of the library: wrong arguments are EXIT_USAGE, the rest EXIT_FAILED. */
int cli_fail_error(const reattn_error *err);
/* A line on standard error that is no error. */
__attribute__((format(printf, 1, 2))) void cli_note(const char *format, ...);

typedef struct options options;

int cmd_run(const options *opt);
int cmd_chat(const options *opt);
int cmd_info(const options *opt);
int cmd_quantize(const options *opt);
int cmd_bench(const options *opt);
int cmd_bench_select(const options *opt);
int cmd_bench_attend(const options *opt);
int cmd_bench_plot(const options *opt);

#endif
