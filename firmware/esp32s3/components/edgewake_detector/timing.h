/* SPDX-License-Identifier: Apache-2.0 */
/* Measured time of the frontend and of the model, by the processor's cycle counter. For the inference task alone. */
#pragma once

#include "ew_pipeline.h"

/** @brief Audio begins to be processed. */
void timing_begin(void);

/** @brief An ew_infer_fn: model_infer(), measured; what was processed before it since the last one is the frontend. */
ew_status_t timing_infer(void *context, const int8_t *features, int8_t *output);

/** @brief Audio is processed. Logs what was measured, once every EDGEWAKE_REPORT_SECONDS of audio, and begins anew.
 *
 * @return whether it logged
 */
bool timing_end(void);
