/* SPDX-License-Identifier: Apache-2.0 */
/* What a test drives and reads of the firmware's host run: audio in, one line a happening out. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Wait until all audio has been handed to the capture task. */
void host_wait_for_end_of_audio(void);

/* Whether the firmware has started its tasks. */
bool host_detects(void);

/* The timer's function runs, as when esp_timer's task took the timer from its list before someone stopped it. */
void host_run_timer(void);

/* What esp_timer_get_time() gives beside the time of the audio that was handed out. */
extern int64_t host_busy_us;

/* Let capture run ahead of inference, so that the ring overflows; otherwise they go in lock-step. */
extern bool host_flood;
