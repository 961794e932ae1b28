/* SPDX-License-Identifier: Apache-2.0 */
/* Each event of the pipeline becomes a log line, an event of esp_event, and a call of the application's function. */
#pragma once

#include "edgewake.h"
#include "ew_pipeline.h"

/** @brief Sets the application's function, before detection starts; may be NULL. */
void detection_subscribe(edgewake_detected_fn detected, void *context);

/**
 * @brief An ew_detected_fn: the inference task calls it for each event.
 *
 * @param[in] context  not used
 * @param[in] step     the inference step at which the event starts
 */
void detection_report(void *context, const ew_step_t *step);
