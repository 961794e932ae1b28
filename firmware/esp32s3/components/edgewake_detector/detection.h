/* SPDX-License-Identifier: Apache-2.0 */
/* Each event of the pipeline becomes a log line, an event of esp_event, and a call of the application's function. */
#pragma once

#include "edgewake.h"
#include "ew_image.h"

/**
 * @brief Sets what runs, before detection starts.
 *
 * @param[in] wakeword  must stay as it is
 * @param[in] detected  the application's function; may be NULL
 * @param[in] context   passed to it
 */
void detection_subscribe(const ew_wakeword_t *wakeword, edgewake_detected_fn detected, void *context);

/**
 * @brief An ew_detected_fn: the inference task calls it for each event.
 *
 * @param[in] context  not used
 * @param[in] step     the inference step at which the event starts
 */
void detection_report(void *context, const ew_step_t *step);
