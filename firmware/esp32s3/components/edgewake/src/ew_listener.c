/* What an inference task does each time it wakes: every sample in the ring goes through the pipeline, in
 * order. */
#include "ew_listener.h"

ew_status_t ew_listener_drain(ew_ring_t *ring, ew_pipeline_t *pipeline, int16_t *chunk, size_t chunk_samples,
                              ew_detected_fn detected, void *context) {
    if (ring == NULL || pipeline == NULL || chunk == NULL || detected == NULL) {
        return EW_ERROR_NULL;
    }
    if (chunk_samples < 1) {
        return EW_ERROR_ARGUMENT;
    }
    for (;;) {
        const size_t count = ew_ring_read(ring, chunk, chunk_samples);
        if (count == 0) {
            return EW_OK;
        }
        for (size_t position = 0; position < count;) {
            size_t taken = 0;
            ew_step_t step;
            const ew_status_t status =
                ew_pipeline_process(pipeline, chunk + position, count - position, &taken, &step);
            if (status != EW_OK) {
                return status;
            }
            position += taken;
            if (step.done && step.detected) {
                detected(context, &step);
            }
        }
    }
}
