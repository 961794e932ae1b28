/* SPDX-License-Identifier: Apache-2.0 */
/* Each event of the pipeline becomes a log line, an event of esp_event, and a call of the application's function. */
#include "detection.h"

#include "esp_log.h"

#include "ew_model_config.h"

ESP_EVENT_DEFINE_BASE(EDGEWAKE_EVENT);

static const char *const TAG = "edgewake";

static const ew_wakeword_t *active;
static edgewake_detected_fn application;
static void *application_context;

void detection_subscribe(const ew_wakeword_t *wakeword, edgewake_detected_fn detected, void *context) {
    active = wakeword;
    application = detected;
    application_context = context;
}

void detection_report(void *context, const ew_step_t *step) {
    (void)context;
    const edgewake_detection_t detection = {
        .phrase = active->phrase,
        .time_ms = step->sample_index * 1000 / EW_MODEL_SAMPLE_RATE,
        /* A sum is up to 65535 steps of probability, of up to 64 steps. */
        .probability = (uint32_t)((uint64_t)step->sum * 10000 / (EW_PROBABILITY_ONE * active->pipeline.window)),
    };
    /* Seconds and milliseconds apart, since newlib-nano prints no 64 bits and milliseconds pass 32 after 49 days. */
    ESP_LOGI(TAG, "detected \"%s\" at %u.%03u s, probability %u.%02u %%", detection.phrase,
             (unsigned)(detection.time_ms / 1000), (unsigned)(detection.time_ms % 1000),
             (unsigned)(detection.probability / 100), (unsigned)(detection.probability % 100));
    /* Without waiting: inference goes on when the queue is full. No default loop means that nobody subscribes. */
    const esp_err_t error = esp_event_post(EDGEWAKE_EVENT, EDGEWAKE_EVENT_DETECTED, &detection, sizeof detection, 0);
    if (error != ESP_OK && error != ESP_ERR_INVALID_STATE) {
        ESP_LOGW(TAG, "event not posted: %s", esp_err_to_name(error));
    }
    if (application != NULL) {
        application(application_context, &detection);
    }
}
