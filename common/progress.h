/* progress.h - how far a prompt is: a bar on a terminal, else a line every 10 seconds, on standard error. */
#ifndef PROGRESS_H
#define PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct progress {
    bool quiet, terminal;
    const char *label;
    double start, last_time, last_line, rate; /* seconds; rate in tokens a second, smoothed */
    int64_t last_done;
} progress;

progress progress_start(const char *label, bool quiet);
/* A reattn_progress_fn with a progress as its user pointer: false once Ctrl-C was pressed. */
bool progress_step(int64_t done, int64_t total, void *user);
/* Takes the bar off the screen, so that other lines can be printed. */
void progress_clear(void);

#endif
