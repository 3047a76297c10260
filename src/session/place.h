/* place.h - where each layer's attention runs: on the device that has the layer, or on the CPU. */
#ifndef REATTN_PLACE_H
#define REATTN_PLACE_H

#include "session.h"

/* Layers of a model under these options (resolved): *device [n_layer] is allocated, with the device of each layer whose
 * attention runs on one, else -1. Returns how many those are, or a negative error. If `say`, logs why layers that lie on a
 * device attend on the CPU. */
int reattn__places(const reattn_model *model, const reattn_session_params *params, bool say, int **device,
                   reattn_error *err);

/* The bridge's function for layers on a device. */
int reattn__session_device_layer(void *user, int layer, int64_t T, const reattn__rows *q, const reattn__rows *k,
                                 const reattn__rows *v, float *out, bool *has_out, reattn_error *err);
/* Its parts, so that steps of several sessions run at the same time: what there is to say before the engine queues the
 * step (a plan, or none: of 0 lists) and, if both went well, wait. What is waited for counts in the statistics from
 * `since` on. */
int reattn__session_device_ready(reattn_session *s, int layer, int64_t T, bool *has_out, reattn__device_plan *plan,
                                 reattn_error *err);
int reattn__session_device_wait(reattn_session *s, int layer, int64_t T, bool has_out, double since, reattn_error *err);
/* Waits for the device, after the last layer of a step. */
int reattn__session_device_end(reattn_session *s, reattn_error *err);
/* Keys that the last step attended to at most. */
int64_t reattn__session_device_scope(const reattn_session *s);

/* The layers of one of the devices of device [n_layer], the one whose first layer is the at-th (0 ..) of such: mask
 * [n_layer] becomes the device there, and -1 elsewhere. Returns how many layers these are; 0: there is none. */
int reattn__layers_of_device(const int *device, int n_layer, int at, int *mask);

#endif
