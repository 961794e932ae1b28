/* SPDX-License-Identifier: Apache-2.0 */
/* The application: the output is ready before detection starts. */
#include "esp_log.h"

#include "action.h"
#include "edgewake.h"

void app_main(void) {
    if (action_init() != ESP_OK) {
        ESP_LOGE("main", "the output cannot be set; detection does not start");
        return;
    }
    (void)edgewake_start(action_detected, NULL); /* Log lines give the reason of an error. */
}
