/* Step probabilities become events: a running integer sum, a cutoff, and a time in which no second event
 * comes. */
#include "ew_smoother.h"

#include <string.h>

ew_status_t ew_smoother_init(ew_smoother_t *smoother, uint32_t window, uint32_t cutoff_sum,
                             uint32_t refractory_steps) {
    if (smoother == NULL) {
        return EW_ERROR_NULL;
    }
    if (window < 1 || window > EW_SMOOTHER_MAX_WINDOW) {
        return EW_ERROR_ARGUMENT;
    }
    smoother->window = window;
    smoother->cutoff_sum = cutoff_sum;
    smoother->refractory_steps = refractory_steps;
    ew_smoother_reset(smoother);
    return EW_OK;
}

void ew_smoother_reset(ew_smoother_t *smoother) {
    memset(smoother->values, 0, sizeof smoother->values);
    smoother->position = 0;
    smoother->sum = 0;
    smoother->quiet_steps = 0;
}

bool ew_smoother_push(ew_smoother_t *smoother, uint8_t value, uint32_t *sum) {
    /* The sum of integers is exact, so that subtracting what leaves never drifts. */
    smoother->sum += value;
    smoother->sum -= smoother->values[smoother->position];
    smoother->values[smoother->position] = value;
    smoother->position = smoother->position + 1 == smoother->window ? 0 : smoother->position + 1;
    *sum = smoother->sum;

    /* An event at step s leaves quiet_steps = R, and step s + R finds 0 here: events are R steps apart, not R
     * + 1. */
    if (smoother->quiet_steps > 0) {
        smoother->quiet_steps--;
    }
    if (smoother->quiet_steps > 0 || smoother->sum < smoother->cutoff_sum) {
        return false;
    }
    smoother->quiet_steps = smoother->refractory_steps;
    return true;
}
