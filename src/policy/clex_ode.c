/* clex_ode.c - dz/dt = act((z + ln NTK(t)) U) V + g(t), by RK4. With a = 2t - 1 (1 before t = 1),
 *   NTK_c(t) = (10000 a^(D/(D-2)))^(-2c/D)   and   g_c(t) = d/dt ln NTK_c(t) = -4c / ((D - 2) a).
 * The net was trained on an NTK of base 10000 whatever the model's own is, so that stays. */
#include "clex_ode.h"

#include <math.h>
#include <stdlib.h>

static const double net_base = 10000;

static double activate(bool silu, double x)
{
    return silu ? x / (1 + exp(-x)) : tanh(x);
}

/* dz [pairs] at t; x [pairs] and hidden [hidden] are scratch. */
static void slope(const reattn__clex_net *net, double t, const double *z, double *dz, double *x, double *hidden)
{
    double a = fmax(2 * t - 1, 1), D = 2.0 * net->pairs;
    for (int c = 0; c < net->pairs; c++) {
        x[c] = z[c] - 2 * c / D * (log(net_base) + D / (D - 2) * log(a));
        dz[c] = -4 * c / ((D - 2) * a);
    }
    for (int h = 0; h < net->hidden; h++) {
        hidden[h] = 0;
        for (int c = 0; c < net->pairs; c++) hidden[h] += x[c] * (double)net->up[c * net->hidden + h];
        hidden[h] = activate(net->silu, hidden[h]);
    }
    for (int h = 0; h < net->hidden; h++)
        for (int c = 0; c < net->pairs; c++) dz[c] += hidden[h] * (double)net->down[h * net->pairs + c];
}

int reattn__clex_solve(const reattn__clex_net *net, double base, int max_t, double *z, reattn_error *err)
{
    int n = net->pairs;
    double *work = malloc((size_t)(6 * n + net->hidden) * sizeof *work), h = 1.0 / REATTN__CLEX_STEPS;
    if (!work) return reattn__fail(err, REATTN_E_NOMEM, "out of memory");
    double *k[4] = {work, work + n, work + 2 * n, work + 3 * n};
    double *at = work + 4 * n, *x = work + 5 * n, *hidden = work + 6 * n;
    static const double reach[4] = {0, 0.5, 0.5, 1};
    for (int c = 0; c < n; c++) z[c] = -log(base) * c / n;
    for (int t = 1; t < max_t; t++) {
        double *now = z + (int64_t)t * n;
        for (int c = 0; c < n; c++) now[c] = now[c - n];
        for (int step = 0; step < REATTN__CLEX_STEPS; step++) {
            double from = t + step * h;
            for (int i = 0; i < 4; i++) {
                for (int c = 0; c < n; c++) at[c] = now[c] + (i ? reach[i] * h * k[i - 1][c] : 0);
                slope(net, from + reach[i] * h, at, k[i], x, hidden);
            }
            for (int c = 0; c < n; c++) now[c] += h / 6 * (k[0][c] + 2 * k[1][c] + 2 * k[2][c] + k[3][c]);
        }
    }
    free(work);
    return REATTN_OK;
}
