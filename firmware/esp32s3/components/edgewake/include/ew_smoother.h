/* Step probabilities become events: a running integer sum, a cutoff, and a time in which no second event
 * comes. */
#ifndef EW_SMOOTHER_H
#define EW_SMOOTHER_H

#include <stdbool.h>
#include <stdint.h>

#include "ew_status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EW_SMOOTHER_MAX_WINDOW 64

/* Private to the functions below; public so that its size is known at compile time. */
typedef struct {
    uint8_t values[EW_SMOOTHER_MAX_WINDOW];
    uint32_t window;
    uint32_t position;
    uint32_t sum;
    uint32_t cutoff_sum;
    uint32_t refractory_steps;
    uint32_t quiet_steps; /* steps that must still pass before the next event */
} ew_smoother_t;

/* Start with `window` zeros, as if the model had been sure of silence before.
 *   window            steps in the sum, 1 to EW_SMOOTHER_MAX_WINDOW
 *   cutoff_sum        smallest sum that is an event, in units of 1/256 of a step's probability
 *   refractory_steps  distance in steps of the next event at least; 0 and 1 allow one at every step
 * Returns EW_OK, EW_ERROR_NULL or EW_ERROR_ARGUMENT. */
ew_status_t ew_smoother_init(ew_smoother_t *smoother, uint32_t window, uint32_t cutoff_sum,
                             uint32_t refractory_steps);

/* Restore exactly the state that ew_smoother_init left. */
void ew_smoother_reset(ew_smoother_t *smoother);

/* Take the probability of one step.
 *   value  0 to 255, the model's int8 output + 128
 *   sum    receives the sum of the last `window` values, 0 to 255 * window
 * Returns whether an event starts at this step. */
bool ew_smoother_push(ew_smoother_t *smoother, uint8_t value, uint32_t *sum);

#ifdef __cplusplus
}
#endif

#endif /* EW_SMOOTHER_H */
