/* metric_softmax.h - predictions given as logits: how likely, and how far apart. */
#ifndef METRIC_SOFTMAX_H
#define METRIC_SOFTMAX_H

/* log sum exp of n logits: the log-probability of i is logits[i] minus it. *top is the likeliest, the first of
 * equals. */
double metric_log_sum(const float *logits, int n, int *top);
/* KL(p || q) in nats of two rows of n logits, given their log sum exp. */
double metric_divergence(const float *p, double p_sum, const float *q, double q_sum, int n);

#endif
