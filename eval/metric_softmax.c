/* metric_softmax.c - see metric_softmax.h. */
#include "metric_softmax.h"

#include <math.h>

double metric_log_sum(const float *logits, int n, int *top)
{
    double sum = 0;
    *top = 0;
    for (int i = 1; i < n; i++)
        if (logits[i] > logits[*top])
            *top = i;
    for (int i = 0; i < n; i++)
        sum += exp((double)logits[i] - logits[*top]);
    return logits[*top] + log(sum);
}

double metric_divergence(const float *p, double p_sum, const float *q, double q_sum, int n)
{
    double kl = 0;
    for (int i = 0; i < n; i++) {
        double log_p = p[i] - p_sum;
        kl += exp(log_p) * (log_p - (q[i] - q_sum));
    }
    return kl;
}
