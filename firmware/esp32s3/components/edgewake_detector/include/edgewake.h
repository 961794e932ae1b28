/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file edgewake.h
 * @brief A wake-word detector that an application starts with one call: a function, an event and a log line for each
 *        detection.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "esp_err.h"
#include "esp_event.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Posted to the default event loop, where the application has made one (esp_event_loop_create_default()). */
ESP_EVENT_DECLARE_BASE(EDGEWAKE_EVENT);

typedef enum {
    EDGEWAKE_EVENT_DETECTED = 0, /**< The event's data is an edgewake_detection_t. */
} edgewake_event_t;

/** One detection. */
typedef struct {
    const char *phrase;   /**< UTF-8, constant. */
    uint64_t time_ms;     /**< Of the audio since detection started. */
    uint32_t probability; /**< Smoothed, in units of 0.01 %: 0 to 10000. */
} edgewake_detection_t;

/**
 * @brief What an application does on a detection. The inference task calls it: it must return within a few
 *        milliseconds, and its stack is EW_INFERENCE_STACK_BYTES of memory.h.
 *
 * @param[in] context    as given to edgewake_start()
 * @param[in] detection  valid until the call returns
 */
typedef void (*edgewake_detected_fn)(void *context, const edgewake_detection_t *detection);

/**
 * @brief Runs the golden vectors through frontend and model, then opens the microphone and starts both tasks.
 *
 * To be called once. Log lines give the reason of an error.
 *
 * @param[in] detected  called for each detection; may be NULL
 * @param[in] context   passed to `detected`; may be NULL
 * @return ESP_OK; ESP_ERR_INVALID_STATE on a second call; ESP_FAIL when the model cannot run or gives other values than
 *         the host's; or the driver's error
 */
esp_err_t edgewake_start(edgewake_detected_fn detected, void *context);

/**
 * @brief Gives the next bytes of an image, edgewake.bin. esp_http_client_read() is of this form.
 *
 * @param[in]  context  as given to edgewake_update()
 * @param[out] buffer   for at most `size` bytes
 * @return how many bytes were written to `buffer`; 0 at the end; -1 on an error
 */
typedef int (*edgewake_read_fn)(void *context, void *buffer, size_t size);

/**
 * @brief Writes another wake word to the partition "edgewake", and checks it there.
 *
 * It runs after the next restart, esp_restart(), if it gives its golden vectors then; else the built-in one does. An
 * image for another firmware is refused by its first bytes, and nothing is changed. Otherwise detection ends, and what was
 * in the partition is lost. Log lines give the reason of an error. Not to be called from the inference task, which calls
 * an edgewake_detected_fn; the calling task needs 2 KB of stack for it.
 *
 * @param[in] read     called until it gave the whole image
 * @param[in] context  passed to `read`; may be NULL
 * @return ESP_OK; ESP_ERR_NOT_FOUND without such a partition; ESP_ERR_INVALID_ARG for an image that this firmware does
 *         not take; ESP_ERR_INVALID_SIZE when `read` ends early; ESP_ERR_INVALID_CRC when it came damaged;
 *         ESP_ERR_INVALID_STATE from the inference task; or the error of erasing or writing
 */
esp_err_t edgewake_update(edgewake_read_fn read, void *context);

#ifdef __cplusplus
}
#endif
