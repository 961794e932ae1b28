/* SPDX-License-Identifier: Apache-2.0 */
/* Two tasks, one on each core, with a ring buffer between them: capture never waits for inference. */
#pragma once

#include "esp_err.h"

#include "ew_pipeline.h"

/**
 * @brief Opens the microphone and starts both tasks, which do not end.
 *
 * @param[in,out] pipeline  in its reset state, and the model too; from now on for the inference task alone
 * @return ESP_OK, or the error of what could not be started
 */
esp_err_t detector_start(ew_pipeline_t *pipeline);
