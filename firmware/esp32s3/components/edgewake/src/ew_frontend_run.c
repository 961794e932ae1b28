/* All frames of a block of samples in one call: the same features as ew_frontend_process in a loop. */
#include "ew_frontend_internal.h"

ew_status_t ew_frontend_run(ew_frontend_t *frontend, const int16_t *samples, size_t n, uint16_t *features,
                            size_t capacity, size_t *frames) {
    if (frontend == NULL || (samples == NULL && n != 0) || (features == NULL && capacity != 0) ||
        frames == NULL) {
        return EW_ERROR_NULL;
    }
    const ew_frontend_tables_t *t = frontend->tables;
    const size_t missing = t->window_samples - frontend->used;
    size_t done = 0;
    *frames = 0;
    /* Frame f ends f steps after the first one; compared by multiplication, since small cores have no
     * divider. */
    if (n >= missing && capacity < n && n - missing >= (uint64_t)capacity * t->step_samples) {
        return EW_ERROR_MEMORY;
    }
    while (n != 0) {
        uint16_t spare[1];
        bool ready;
        size_t consumed;
        uint16_t *row = done < capacity ? features + done * t->channels : spare;
        const ew_status_t status = ew_frontend_process(frontend, samples, n, &consumed, row, &ready);
        if (status != EW_OK) {
            return status;
        }
        samples += consumed;
        n -= consumed;
        done += ready ? 1u : 0u;
    }
    *frames = done;
    return EW_OK;
}
