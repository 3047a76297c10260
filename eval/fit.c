/* fit.c - see fit.h. By proportion while nothing was too long, then by halves. */
#include "fit.h"

int fit_size(const char *what, int64_t length, int64_t least, int64_t most, fit_tokens_fn tokens, void *user,
             int64_t *size)
{
    int64_t fits = least, over = most + 1, count, guess;
    int rc = tokens(user, fits, &count);
    if (!rc && count > length)
        return cli_fail(EXIT_USAGE, "%s needs at least %lld tokens: more than --lengths %lld", what, (long long)count,
                        (long long)length);
    while (!rc && over - fits > 1) {
        guess = fits + (over - fits) / 2;
        if (over > most) {
            double factor = 1.02 * (double)length / (double)(count ? count : 1);
            guess = (int64_t)((double)(fits ? fits : 1) * factor) + 1;
            guess = guess > most ? most : guess;
        }
        rc = tokens(user, guess, &count);
        if (!rc && count <= length)
            fits = guess;
        else
            over = guess;
    }
    *size = fits;
    return rc;
}
