/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file ew_pipeline.h
 * @brief From samples to events: equal audio gives equal sums and events at equal samples, in any chunking.
 *
 * samples -> frontend -> quantizer -> model (behind a function pointer) -> probability -> smoother -> event. The host puts its own
 * TensorFlow Lite Micro behind the pointer and runs the same code as the board.
 */
#ifndef EW_PIPELINE_H
#define EW_PIPELINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ew_frontend.h"
#include "ew_ring.h"
#include "ew_status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EW_QUANTIZER_MAX_SHIFT 62
#define EW_SMOOTHER_MAX_WINDOW 64
#define EW_PIPELINE_MAX_FRAMES_PER_STEP 16
/** Probabilities are uint16 in units of 1/EW_PROBABILITY_ONE; the highest is EW_PROBABILITY_ONE - 1. */
#define EW_PROBABILITY_ONE 65536u

/* ------------------------------------------------ Quantizer ------------------------------------------------ */

/** From features to the model's int8 input, by one multiplication with the rounding of the rational number.
 *
 *  q = clamp(((feature * multiplier + 2^(shift - 1)) >> shift) + zero_point, -128, 127)
 *
 *  The toolchain chooses multiplier and shift such that this is clamp(round(feature * 10/256 / scale) + zero_point),
 *  ties away from zero, and tries all 65,536 features. */
typedef struct {
    uint32_t multiplier; /**< Full range. */
    uint32_t shift;      /**< 1 to EW_QUANTIZER_MAX_SHIFT. */
    int32_t zero_point;  /**< -128 to 127. */
} ew_quantizer_t;

/**
 * @brief Checks the ranges of a quantizer.
 *
 * @param[in] quantizer  the quantizer
 * @return EW_OK; EW_ERROR_NULL; EW_ERROR_ARGUMENT when a member is out of range
 */
ew_status_t ew_quantizer_check(const ew_quantizer_t *quantizer);

/**
 * @brief Quantizes features.
 *
 * @param[in]  quantizer  one that ew_quantizer_check() accepts; not checked again
 * @param[in]  features   uint16[n], full range
 * @param[in]  n          count of features
 * @param[out] output     int8[n], -128 to 127
 */
void ew_quantizer_apply(const ew_quantizer_t *quantizer, const uint16_t *features, size_t n, int8_t *output);

/* ------------------------------------------------- Smoother ------------------------------------------------ */

/** Moving sum of step probabilities, cutoff and refractory time. Private to the functions below; public so that its
 *  size is known at compile time. */
typedef struct {
    uint16_t values[EW_SMOOTHER_MAX_WINDOW];
    uint32_t window;
    uint32_t position;
    uint32_t sum;
    uint32_t cutoff_sum;
    uint32_t refractory_steps;
    uint32_t quiet_steps; /**< Steps until the next event is allowed. */
} ew_smoother_t;

/**
 * @brief Starts with `window` probabilities of zero.
 *
 * @param[out] smoother          the smoother
 * @param[in]  window            steps in the sum, 1 to EW_SMOOTHER_MAX_WINDOW
 * @param[in]  cutoff_sum        smallest sum that is an event, in units of 1/EW_PROBABILITY_ONE
 * @param[in]  refractory_steps  smallest distance of two events in steps; 0 and 1 allow one at every step
 * @return EW_OK; EW_ERROR_NULL; EW_ERROR_ARGUMENT when window is out of range
 */
ew_status_t ew_smoother_init(ew_smoother_t *smoother, uint32_t window, uint32_t cutoff_sum, uint32_t refractory_steps);

/** @brief Restores the state that ew_smoother_init() left. */
void ew_smoother_reset(ew_smoother_t *smoother);

/**
 * @brief Takes the probability of one step.
 *
 * @param[in,out] smoother  an initialized smoother
 * @param[in]     value     full range; probability = value / EW_PROBABILITY_ONE
 * @param[out]    sum       sum of the last `window` values, 0 to 65535 window
 * @return whether an event starts at this step
 */
bool ew_smoother_push(ew_smoother_t *smoother, uint16_t value, uint32_t *sum);

/* ------------------------------------------------- Pipeline ------------------------------------------------ */

/**
 * @brief Runs the model on one step.
 *
 * @param[in]  context   as given to ew_pipeline_init()
 * @param[in]  features  int8[frames_per_step][channels], oldest frame first, aligned to EW_ALIGNMENT
 * @param[out] output    int8[1], the logit, -128 to 127; see `probabilities` of ew_pipeline_config_t
 * @return EW_OK, or any other status to stop the pipeline
 */
typedef ew_status_t (*ew_infer_fn)(void *context, const int8_t *features, int8_t *output);

typedef struct {
    uint32_t frames_per_step;  /**< 1 to EW_PIPELINE_MAX_FRAMES_PER_STEP. */
    uint32_t channels;         /**< As in the frontend's tables. */
    uint32_t multiplier;       /**< Of ew_quantizer_t. */
    uint32_t shift;            /**< Of ew_quantizer_t. */
    int32_t zero_point;        /**< Of ew_quantizer_t. */
    uint32_t window;           /**< See ew_smoother_init(). */
    uint32_t cutoff_sum;       /**< See ew_smoother_init(); cutoff = cutoff_sum / (EW_PROBABILITY_ONE window). */
    uint32_t refractory_steps; /**< See ew_smoother_init(). */
    /** uint16[256], in units of 1/EW_PROBABILITY_ONE: the probability of each output of the model, at output + 128.
     *  Kept by reference; must outlive the pipeline. */
    const uint16_t *probabilities;
} ew_pipeline_config_t;

/** What one inference step gave. */
typedef struct {
    bool done;             /**< A step was completed; only then are the other members valid. */
    bool detected;         /**< An event starts at this step. */
    int8_t output;         /**< Of the model: the logit. */
    uint32_t sum;          /**< Of the last `window` probabilities; the smoothed one is sum / (EW_PROBABILITY_ONE
                                window). */
    uint64_t sample_index; /**< Samples taken since the reset, up to the one that completed the step. */
} ew_step_t;

/** Called for each event with the step at which it starts. */
typedef void (*ew_detected_fn)(void *context, const ew_step_t *step);

/** A pipeline in memory of the caller. Its contents are private. */
typedef struct ew_pipeline ew_pipeline_t;

/**
 * @brief Size query of ew_pipeline_init().
 *
 * @param[in] tables  constants of the frontend; may be NULL
 * @param[in] config  of the pipeline; may be NULL
 * @return bytes, or 0 when an argument or its table is NULL or out of range
 */
size_t ew_pipeline_size(const ew_frontend_tables_t *tables, const ew_pipeline_config_t *config);

/**
 * @brief Creates a pipeline in its reset state. It needs no destruction.
 *
 * @param[out] memory    ew_pipeline_size() bytes, aligned to EW_ALIGNMENT; must outlive the pipeline
 * @param[in]  bytes     size of `memory`
 * @param[in]  tables    constants of the frontend, kept by reference; must outlive the pipeline
 * @param[in]  config    copied, but for its table
 * @param[in]  infer     the model; called once a step from within ew_pipeline_process()
 * @param[in]  context   passed to `infer`; may be NULL
 * @param[out] pipeline  the handle
 * @return EW_OK; EW_ERROR_NULL; EW_ERROR_ARGUMENT when tables or config are out of range; EW_ERROR_MEMORY;
 *         EW_ERROR_ALIGNMENT
 */
ew_status_t ew_pipeline_init(void *memory, size_t bytes, const ew_frontend_tables_t *tables,
                             const ew_pipeline_config_t *config, ew_infer_fn infer, void *context,
                             ew_pipeline_t **pipeline);

/**
 * @brief Restores the state that ew_pipeline_init() left. The caller resets the model's own state with it.
 *
 * @param[in,out] pipeline  the handle
 * @return EW_OK; EW_ERROR_NULL
 */
ew_status_t ew_pipeline_reset(ew_pipeline_t *pipeline);

/**
 * @brief Takes samples until one step is complete or the samples are used up.
 *
 * After EW_ERROR_INFERENCE the model and the pipeline may have different pasts: every call returns it again until
 * ew_pipeline_reset().
 *
 * @param[in,out] pipeline  the handle
 * @param[in]     samples   int16[n], full range, mono; may be NULL when n is 0
 * @param[in]     n         count of samples
 * @param[out]    consumed  how many samples were taken, 0 to n; call again with the rest
 * @param[out]    step      the step that was completed, or done = false
 * @return EW_OK; EW_ERROR_NULL; EW_ERROR_INFERENCE when the model failed
 */
ew_status_t ew_pipeline_process(ew_pipeline_t *pipeline, const int16_t *samples, size_t n, size_t *consumed,
                                ew_step_t *step);

/**
 * @brief Takes all samples out of a ring buffer and reports every event.
 *
 * @param[in,out] pipeline       the handle
 * @param[in,out] ring           empty afterwards; this function is its reader
 * @param[out]    chunk          int16[chunk_samples], scratch
 * @param[in]     chunk_samples  at least 1
 * @param[in]     detected       called for each event from within this function
 * @param[in]     context        passed to `detected`; may be NULL
 * @return EW_OK when the ring is empty; EW_ERROR_NULL; EW_ERROR_ARGUMENT when chunk_samples is 0; EW_ERROR_INFERENCE:
 *         the rest of the chunk is lost, and the caller resets pipeline and model together
 */
ew_status_t ew_pipeline_drain(ew_pipeline_t *pipeline, ew_ring_t *ring, int16_t *chunk, size_t chunk_samples,
                              ew_detected_fn detected, void *context);

/** @brief sizeof(ew_pipeline_config_t), for bindings that mirror the structure. */
size_t ew_pipeline_config_size(void);

/** @brief sizeof(ew_step_t), for bindings that mirror the structure. */
size_t ew_pipeline_step_size(void);

#ifdef __cplusplus
}
#endif

#endif /* EW_PIPELINE_H */
