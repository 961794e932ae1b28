/* What an inference task does each time it wakes: every sample in the ring goes through the pipeline, in
 * order. */
#ifndef EW_LISTENER_H
#define EW_LISTENER_H

#include <stddef.h>
#include <stdint.h>

#include "ew_pipeline.h"
#include "ew_ring.h"
#include "ew_status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Called for each event, with the step at which it starts. */
typedef void (*ew_detected_fn)(void *context, const ew_step_t *step);

/* Empty the ring into the pipeline.
 *   chunk     int16[chunk_samples], work space; chunk_samples at least 1
 *   detected  called for each event, from within this function
 * Returns EW_OK when the ring is empty, EW_ERROR_NULL, EW_ERROR_ARGUMENT, or the pipeline's error: the rest
 * of the chunk is then lost, and pipeline and model must be reset together. */
ew_status_t ew_listener_drain(ew_ring_t *ring, ew_pipeline_t *pipeline, int16_t *chunk, size_t chunk_samples,
                              ew_detected_fn detected, void *context);

#ifdef __cplusplus
}
#endif

#endif /* EW_LISTENER_H */
