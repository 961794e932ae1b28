/* SPDX-License-Identifier: Apache-2.0 */
/* Detection starts only after frontend and model have given the golden vectors, byte for byte. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>

#include "esp_err.h"
#include "esp_log.h"
#include "esp_timer.h"

#include "detection.h"
#include "detector.h"
#include "edgewake.h"
#include "ew_golden.h"
#include "ew_model_config.h"
#include "ew_model_data.h"
#include "ew_model_frontend.h"
#include "ew_selftest.h"
#include "model.h"

static const char *const TAG = "edgewake";

static const ew_pipeline_config_t CONFIG = EW_MODEL_PIPELINE_CONFIG;

/* Scratch of the self-test, then the memory of the pipeline. */
static uint8_t work[EW_MODEL_WORK_BYTES] __attribute__((aligned(EW_ALIGNMENT)));

static bool golden_vectors_agree(void) {
    const int64_t start_us = esp_timer_get_time();
    const ew_selftest_result_t result =
        ew_selftest_run(work, sizeof work, ew_model_frontend_tables(), &CONFIG, model_infer, NULL, &EW_GOLDEN);
    if (result.stage == EW_SELFTEST_PASSED) {
        ESP_LOGI(TAG, "golden vectors agree: %u features, %u steps, in %u ms",
                 (unsigned)(EW_GOLDEN.frame_count * EW_MODEL_CHANNELS), (unsigned)EW_GOLDEN.step_count,
                 (unsigned)((esp_timer_get_time() - start_us) / 1000));
        return true;
    }
    ESP_LOGE(TAG, "golden vectors differ: %s %u is %" PRId32 ", expected %" PRId32 "; detection does not start",
             ew_selftest_stage_name(result.stage), (unsigned)result.index, result.got, result.expected);
    return false;
}

esp_err_t edgewake_start(edgewake_detected_fn detected, void *context) {
    static bool called;
    if (called) {
        return ESP_ERR_INVALID_STATE;
    }
    called = true;
    ESP_LOGI(TAG, "phrase \"%s\", model %.12s, %u bytes", EW_MODEL_PHRASE, EW_MODEL_DATA_SHA256,
             (unsigned)EW_MODEL_DATA_SIZE);
    if (model_init() != EW_OK) {
        ESP_LOGE(TAG, "the model cannot run; detection does not start");
        return ESP_FAIL;
    }
    if (!golden_vectors_agree()) {
        return ESP_FAIL;
    }
    /* The model's state is that of the golden audio: back to that of silence. */
    ew_pipeline_t *pipeline = NULL;
    if (model_reset() != EW_OK || ew_pipeline_init(work, sizeof work, ew_model_frontend_tables(), &CONFIG, model_infer,
                                                   NULL, &pipeline) != EW_OK) {
        ESP_LOGE(TAG, "the pipeline cannot start; detection does not start");
        return ESP_FAIL;
    }
    detection_subscribe(detected, context);
    const esp_err_t error = detector_start(pipeline);
    if (error != ESP_OK) {
        ESP_LOGE(TAG, "detection does not start: %s", esp_err_to_name(error));
        return error;
    }
    ESP_LOGI(TAG, "detection runs");
    return ESP_OK;
}
