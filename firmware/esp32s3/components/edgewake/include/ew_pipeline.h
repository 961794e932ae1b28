/* From samples to events: the same audio gives the same sums and events at the same sample, in any chunking.
 *
 * samples -> frontend -> quantizer -> model (behind a function pointer) -> smoother. Everything but the model
 * is here; the host puts its TFLM behind the pointer and runs the very code of the board. */
#ifndef EW_PIPELINE_H
#define EW_PIPELINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ew_frontend.h"
#include "ew_quantizer.h"
#include "ew_smoother.h"
#include "ew_status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EW_PIPELINE_MAX_FRAMES_PER_STEP 16

/* Run the model on one step.
 *   context   what was given to ew_pipeline_init
 *   features  int8[frames_per_step][channels], oldest frame first, aligned to EW_ALIGNMENT
 *   output    receives int8[1]; probability = (output + 128) / 256
 * Returns EW_OK, or any other status to stop the pipeline. */
typedef ew_status_t (*ew_infer_fn)(void *context, const int8_t *features, int8_t *output);

typedef struct {
    uint32_t frames_per_step;  /* 1 to EW_PIPELINE_MAX_FRAMES_PER_STEP */
    uint32_t channels;         /* as in the frontend's tables */
    uint32_t multiplier;       /* quantizer, see ew_quantizer.h */
    uint32_t shift;            /* 1 to EW_QUANTIZER_MAX_SHIFT */
    int32_t zero_point;        /* -128 to 127 */
    uint32_t window;           /* smoothing window W in steps, 1 to EW_SMOOTHER_MAX_WINDOW */
    uint32_t cutoff_sum;       /* cutoff = cutoff_sum / (256 W) */
    uint32_t refractory_steps; /* see ew_smoother.h */
} ew_pipeline_config_t;

typedef struct {
    bool done;             /* a step was completed; the other members are valid */
    bool detected;         /* an event starts at this step */
    int8_t output;         /* the model's own output */
    uint32_t sum;          /* of the last W outputs + 128; smoothed probability = sum / (256 W) */
    uint64_t sample_index; /* samples taken since the reset, up to the one that completed the step */
} ew_step_t;

/* A pipeline in the caller's memory. Its contents are private. */
typedef struct ew_pipeline ew_pipeline_t;

/* Bytes that ew_pipeline_init needs, or 0 when tables or config are NULL or out of range. */
size_t ew_pipeline_size(const ew_frontend_tables_t *tables, const ew_pipeline_config_t *config);

/* Create a pipeline in its reset state.
 *   memory   at least ew_pipeline_size() bytes, aligned to EW_ALIGNMENT; owned by the caller, must outlive it
 *   tables   kept by reference, must outlive it
 *   config   copied
 *   infer    the model; called once a step, from within ew_pipeline_process
 *   pipeline receives the handle (which needs no destruction)
 * Returns EW_OK, EW_ERROR_NULL, EW_ERROR_ARGUMENT, EW_ERROR_MEMORY or EW_ERROR_ALIGNMENT. */
ew_status_t ew_pipeline_init(void *memory, size_t bytes, const ew_frontend_tables_t *tables,
                             const ew_pipeline_config_t *config, ew_infer_fn infer, void *context,
                             ew_pipeline_t **pipeline);

/* Restore exactly the state that ew_pipeline_init left. The model's own state is the caller's to reset with
 * it. Returns EW_OK or EW_ERROR_NULL. */
ew_status_t ew_pipeline_reset(ew_pipeline_t *pipeline);

/* Take samples until one step is complete or the samples are used up.
 *   samples  int16[n], mono; may be NULL when n is 0
 *   consumed receives how many samples were taken, 0 to n; call again with the rest
 *   step     receives the step that was completed, or done = false
 * Returns EW_OK, EW_ERROR_NULL, or EW_ERROR_INFERENCE when the model failed. From then on the model and the
 * pipeline may disagree about the past, and every call returns EW_ERROR_INFERENCE until ew_pipeline_reset. */
ew_status_t ew_pipeline_process(ew_pipeline_t *pipeline, const int16_t *samples, size_t n, size_t *consumed,
                                ew_step_t *step);

/* sizeof(ew_pipeline_config_t) and sizeof(ew_step_t), for bindings that mirror the structures. */
size_t ew_pipeline_config_size(void);
size_t ew_pipeline_step_size(void);

#ifdef __cplusplus
}
#endif

#endif /* EW_PIPELINE_H */
