/* SPDX-License-Identifier: Apache-2.0 */
/* The application: the output is ready before detection starts. */
#include "esp_log.h"
#include "esp_ota_ops.h"

#include "action.h"
#include "edgewake.h"

void app_main(void) {
    if (action_init() != ESP_OK) {
        ESP_LOGE("main", "the output cannot be set; detection does not start");
        return;
    }
    if (edgewake_start(action_detected, NULL) != ESP_OK) {
        return; /* Log lines gave the reason. */
    }
    /* The golden vectors agree: an application that came over the air stays; else a reset goes back to the one before. */
    (void)esp_ota_mark_app_valid_cancel_rollback();
}
