/* What happens on a detection: an output is on for a while. Replace the bodies with what your device should
 * do. */
#pragma once

#include "esp_err.h"

#include "ew_pipeline.h"

/* Configure the output of Kconfig and switch it off. ESP_OK or the driver's error. */
esp_err_t action_init(void);

/* Called by the inference task for each event; must return within a few milliseconds. */
void action_detected(void *context, const ew_step_t *step);
