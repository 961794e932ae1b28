/* Two tasks, one per core, with a ring between them: capture never waits for inference. */
#pragma once

#include "esp_err.h"

#include "ew_pipeline.h"

/* Open the microphone and start both tasks, which run for ever.
 *   pipeline  in its reset state, and the model too; used by the inference task alone from now on
 * Returns ESP_OK, or the error of what could not be started. */
esp_err_t listening_start(ew_pipeline_t *pipeline);
