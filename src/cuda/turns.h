/* turns.h - a table of rotations in device memory, with the angles that the CPU engine has (attend/rope.h). */
#ifndef REATTN_CUDA_TURNS_H
#define REATTN_CUDA_TURNS_H

#include <stdbool.h>
#include <stdint.h>

#include "reattn/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct reattn__cuda_turns {
    reattn_rope rope; /* with factors of its own */
    int D;
    float *factors;
    float *cs;           /* [room][D], device: cosines of the D/2 pairs, then sines; 1 and 0 past the rotated ones */
    int64_t n_pos, room; /* positions made, and that there is memory for */
} reattn__cuda_turns;

/* Copies the parameters; makes no positions yet. Errors: E_NOMEM. */
int reattn__cuda_turns_open(reattn__cuda_turns *turns, const reattn_rope *rope, int D, reattn_error *err);
void reattn__cuda_turns_close(reattn__cuda_turns *turns);
/* True if the table is one for such heads. */
bool reattn__cuda_turns_serve(const reattn__cuda_turns *turns, const reattn_rope *rope, int D);
/* Makes it one for such heads, if it is not; the memory stays. What is queued on the stream that is given to `need`
 * still sees the old rotations. All zeros becomes a table, too. Errors: E_NOMEM. */
int reattn__cuda_turns_use(reattn__cuda_turns *turns, const reattn_rope *rope, int D, reattn_error *err);
/* Makes the table reach n_pos positions; queued on the stream. Waits for it if the table has to move. */
int reattn__cuda_turns_need(reattn__cuda_turns *turns, int64_t n_pos, void *stream, reattn_error *err);

#ifdef __cplusplus
}
#endif
#endif
