/* SPDX-License-Identifier: Apache-2.0 */
/* An application subscribes to detections; its handler runs in the event loop's task and may take its time. */
#include <inttypes.h>

#include "esp_err.h"
#include "esp_event.h"
#include "esp_log.h"

#include "edgewake.h"

static void on_detection(void *argument, esp_event_base_t base, int32_t id, void *data) {
    (void)argument;
    (void)base;
    (void)id;
    const edgewake_detection_t *detection = data;
    ESP_LOGI("subscribe", "\"%s\", probability %" PRIu32 " of 10000", detection->phrase, detection->probability);
}

void app_main(void) {
    ESP_ERROR_CHECK(esp_event_loop_create_default());
    ESP_ERROR_CHECK(esp_event_handler_register(EDGEWAKE_EVENT, EDGEWAKE_EVENT_DETECTED, on_detection, NULL));
    ESP_ERROR_CHECK(edgewake_start(NULL, NULL));
}
