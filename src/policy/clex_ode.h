/* clex_ode.h - the frequencies of CLEX: the solution of an ODE in t = length / trained length. */
#ifndef REATTN_CLEX_ODE_H
#define REATTN_CLEX_ODE_H

#include "base/base.h"

/* What was trained: one small net for all layers. */
typedef struct reattn__clex_net {
    const float *up, *down; /* U [pairs][hidden], V [hidden][pairs] */
    int pairs, hidden;      /* D / 2; D times a small number */
    bool silu;              /* the activation: SiLU, or tanh */
} reattn__clex_net;

enum { REATTN__CLEX_STEPS = 100 }; /* RK4 steps between whole t: 0.01 each */

/* Log-frequencies z [max_t][pairs] at t = 1, 2, .. max_t, from base^(-2c/D) at t = 1. Errors: E_NOMEM. */
int reattn__clex_solve(const reattn__clex_net *net, double base, int max_t, double *z, reattn_error *err);

#endif
