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
#include "ew_model_config.h"
#include "ew_selftest.h"
#include "model.h"
#include "timing.h"
#include "wakeword.h"

static const char *const TAG = "edgewake";

static ew_wakeword_t wakeword;

/* Scratch of the self-test, then the memory of the pipeline. */
static uint8_t work[EW_MODEL_WORK_BYTES] __attribute__((aligned(EW_ALIGNMENT)));

static bool golden_vectors_agree(void) {
    const int64_t start_us = esp_timer_get_time();
    const ew_golden_t *golden = &wakeword.golden;
    const ew_selftest_result_t result =
        ew_selftest_run(work, sizeof work, wakeword.tables, &wakeword.pipeline, model_infer, NULL, golden);
    if (result.stage == EW_SELFTEST_PASSED) {
        ESP_LOGI(TAG, "golden vectors agree: %u features, %u steps, in %u ms",
                 (unsigned)(golden->frame_count * EW_MODEL_CHANNELS), (unsigned)golden->step_count,
                 (unsigned)((esp_timer_get_time() - start_us) / 1000));
        return true;
    }
    ESP_LOGE(TAG, "golden vectors differ: %s %u is %" PRId32 ", expected %" PRId32,
             ew_selftest_stage_name(result.stage), (unsigned)result.index, result.got, result.expected);
    return false;
}

/* Whether `wakeword` gives its golden vectors. */
static bool runs(const char *origin) {
    ESP_LOGI(TAG, "phrase \"%s\", model %.12s, %u bytes, %s", wakeword.phrase, wakeword.sha256,
             (unsigned)wakeword.model_bytes, origin);
    if (model_init(&wakeword) != EW_OK) {
        ESP_LOGE(TAG, "the model cannot run");
        return false;
    }
    return golden_vectors_agree();
}

static bool choose_wakeword(void) {
    if (wakeword_in_partition(&wakeword)) {
        if (runs("of the partition")) {
            return true;
        }
        ESP_LOGW(TAG, "the wake word of the partition is refused: it does not give its golden vectors");
    }
    wakeword = wakeword_built_in();
    return runs("built in");
}

esp_err_t edgewake_start(edgewake_detected_fn detected, void *context) {
    static bool called;
    if (called) {
        return ESP_ERR_INVALID_STATE;
    }
    called = true;
    if (!choose_wakeword()) {
        ESP_LOGE(TAG, "detection does not start");
        return ESP_FAIL;
    }
    /* The model's state is that of the golden audio: back to that of silence. */
    ew_pipeline_t *pipeline = NULL;
    if (model_reset() != EW_OK || ew_pipeline_init(work, sizeof work, wakeword.tables, &wakeword.pipeline, timing_infer,
                                                   NULL, &pipeline) != EW_OK) {
        ESP_LOGE(TAG, "the pipeline cannot start; detection does not start");
        return ESP_FAIL;
    }
    detection_subscribe(&wakeword, detected, context);
    const esp_err_t error = detector_start(pipeline);
    if (error != ESP_OK) {
        ESP_LOGE(TAG, "detection does not start: %s", esp_err_to_name(error));
        return error;
    }
    ESP_LOGI(TAG, "detection runs");
    return ESP_OK;
}
