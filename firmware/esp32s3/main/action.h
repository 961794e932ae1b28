/* SPDX-License-Identifier: Apache-2.0 */
/* What happens on a detection: an output is on for a while. Replace the bodies with what your device should do. */
#pragma once

#include "esp_err.h"

#include "edgewake.h"

/**
 * @brief Configures the output that Kconfig names, and switches it off.
 *
 * @return ESP_OK, or the driver's error
 */
esp_err_t action_init(void);

/**
 * @brief An edgewake_detected_fn: must return within a few milliseconds.
 *
 * @param[in] context    not used
 * @param[in] detection  not used
 */
void action_detected(void *context, const edgewake_detection_t *detection);
