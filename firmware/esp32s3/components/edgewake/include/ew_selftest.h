/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file ew_selftest.h
 * @brief Golden vectors through frontend and model: the test passes only when every value is the recorded one.
 */
#ifndef EW_SELFTEST_H
#define EW_SELFTEST_H

#include <stddef.h>
#include <stdint.h>

#include "ew_pipeline.h"
#include "ew_status.h"

#ifdef __cplusplus
extern "C" {
#endif

/** What the host computed from the samples, starting from reset. */
typedef struct {
    const int16_t *samples;    /**< int16[sample_count]. */
    size_t sample_count;       /**< Ends with the sample that completes the last step. */
    const uint16_t *features;  /**< uint16[frame_count][channels]. */
    size_t frame_count;        /**< At least step_count * frames_per_step. */
    const int8_t *outputs;     /**< int8[step_count], of the model. */
    const uint32_t *sums;      /**< uint32[step_count], smoothed. */
    const uint8_t *detections; /**< uint8[step_count], 1 where an event starts, else 0. */
    size_t step_count;
} ew_golden_t;

typedef enum {
    EW_SELFTEST_PASSED = 0,
    EW_SELFTEST_FEATURES = 1,   /**< index = frame * channels + channel. */
    EW_SELFTEST_OUTPUTS = 2,    /**< index = step. */
    EW_SELFTEST_SUMS = 3,       /**< index = step. */
    EW_SELFTEST_DETECTIONS = 4, /**< index = step. */
    EW_SELFTEST_COUNT = 5,      /**< index = 0: frames, 1: steps. */
    EW_SELFTEST_STATUS = 6      /**< A call failed: expected is EW_OK, got is the status. */
} ew_selftest_stage_t;

/** The first difference that was found. */
typedef struct {
    ew_selftest_stage_t stage;
    size_t index;
    int32_t expected;
    int32_t got;
} ew_selftest_result_t;

/**
 * @brief Size query of ew_selftest_run(): one pipeline and one frame of features.
 *
 * @param[in] tables  constants of the frontend; may be NULL
 * @param[in] config  of the pipeline; may be NULL
 * @return bytes, or 0 when an argument is NULL or out of range
 */
size_t ew_selftest_size(const ew_frontend_tables_t *tables, const ew_pipeline_config_t *config);

/**
 * @brief Runs the golden vectors through the frontend, then through the pipeline with the model.
 *
 * Chunks have an odd length, so that chunking is tested too.
 *
 * @param[out] memory   ew_selftest_size() bytes, aligned to EW_ALIGNMENT; scratch
 * @param[in]  bytes    size of `memory`
 * @param[in]  tables   constants of the frontend
 * @param[in]  config   of the pipeline
 * @param[in]  infer    the model in its reset state; must be reset again afterwards
 * @param[in]  context  passed to `infer`; may be NULL
 * @param[in]  golden   the recorded values; at least one frame and one step
 * @return stage EW_SELFTEST_PASSED when there was no difference, else the first one
 */
ew_selftest_result_t ew_selftest_run(void *memory, size_t bytes, const ew_frontend_tables_t *tables,
                                     const ew_pipeline_config_t *config, ew_infer_fn infer, void *context,
                                     const ew_golden_t *golden);

/** @brief Name of a stage for a log line; never NULL. */
const char *ew_selftest_stage_name(ew_selftest_stage_t stage);

#ifdef __cplusplus
}
#endif

#endif /* EW_SELFTEST_H */
