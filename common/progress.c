/* progress.c - see progress.h. */
#include "progress.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "interrupt.h"

static const double SHOW_AFTER = 0.5, LINE_EVERY = 10; /* seconds */
static atomic_bool shown; /* log lines, which clear the bar, come from any thread */

static double now(void)
{
    return 1e-3 * clock_ms();
}

progress progress_start(const char *label, bool quiet)
{
    double t = now();
    return (progress){.quiet = quiet,
                      .terminal = isatty(STDERR_FILENO),
                      .label = label,
                      .start = t,
                      .last_time = t,
                      .last_line = t};
}

void progress_clear(void)
{
    if (atomic_exchange(&shown, false))
        fputs("\r\033[K", stderr);
}

static void format_time(char *buf, size_t cap, double seconds)
{
    long s = (long)(seconds + 0.5);
    if (s < 3600)
        snprintf(buf, cap, "%ld:%02ld", s / 60, s % 60);
    else
        snprintf(buf, cap, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
}

bool progress_step(int64_t done, int64_t total, void *user)
{
    progress *p = user;
    double t = now();
    if (t > p->last_time && done > p->last_done) {
        double rate = (double)(done - p->last_done) / (t - p->last_time);
        p->rate = p->rate > 0 ? 0.7 * p->rate + 0.3 * rate : rate;
        p->last_time = t;
        p->last_done = done;
    }
    bool due = p->terminal ? t - p->start >= SHOW_AFTER : t - p->last_line >= LINE_EVERY;
    if (!p->quiet && due && p->rate > 0 && total > 0) {
        char left[32];
        format_time(left, sizeof left, (double)(total - done) / p->rate);
        if (p->terminal) {
            static const char full[] = "##############################";
            int width = (int)sizeof full - 1, filled = (int)(done * width / total);
            fprintf(stderr, "\r%s [%.*s%*s] %lld/%lld  %.0f tok/s  %s left\033[K", p->label, filled, full,
                    width - filled, "", (long long)done, (long long)total, p->rate, left);
            atomic_store(&shown, true);
        } else {
            fprintf(stderr, "reattn: %s %lld of %lld tokens, %.0f tok/s, %s left\n", p->label, (long long)done,
                    (long long)total, p->rate, left);
        }
        fflush(stderr);
        p->last_line = t;
    }
    if (done >= total)
        progress_clear();
    return !interrupt_pending();
}
