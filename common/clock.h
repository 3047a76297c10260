/* clock.h - the time for what took how long. */
#ifndef CLOCK_H
#define CLOCK_H

/* Milliseconds from some moment on; never goes back. */
double clock_ms(void);

#endif
