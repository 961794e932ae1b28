/* SPDX-License-Identifier: Apache-2.0 */
/* Two tasks, one on each core, with a ring buffer between them: capture never waits for inference. */
#pragma once

#include <stdbool.h>

#include "esp_err.h"

#include "ew_pipeline.h"

/**
 * @brief Opens the microphone and starts both tasks, which do not end.
 *
 * @param[in,out] pipeline  in its reset state, and the model too; from now on for the inference task alone
 * @return ESP_OK, or the error of what could not be started
 */
esp_err_t detector_start(ew_pipeline_t *pipeline);

/**
 * @brief Ends detection, if it runs, until the next restart: pipeline and model are not read any more.
 *
 * @return false when the inference task itself calls, which cannot wait for its own end
 */
bool detector_stop(void);
