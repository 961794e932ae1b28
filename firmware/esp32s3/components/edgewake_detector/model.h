/* SPDX-License-Identifier: Apache-2.0 */
/* The model behind one function pointer. */
#pragma once

#include "ew_image.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * @brief Takes the model of a wake word, and registers its operators the first time; then as model_reset().
 *
 * @param[in] wakeword  the built-in one, or one that ew_image_open() accepted; its model is aligned to 16
 * @return EW_OK; EW_ERROR_ARGUMENT; EW_ERROR_MEMORY. A log line gives the reason.
 */
ew_status_t model_init(const ew_wakeword_t *wakeword);

/**
 * @brief Sets the state of the streaming model to what it is after endless silence.
 *
 * @return EW_OK; EW_ERROR_ARGUMENT when input or output have another type or size; EW_ERROR_MEMORY when the arena is
 *         too small. A log line gives the reason.
 */
ew_status_t model_reset(void);

/**
 * @brief An ew_infer_fn: one step of the streaming model.
 *
 * @param[in]  context   not used
 * @param[in]  features  int8[EW_MODEL_FRAMES_PER_STEP][EW_MODEL_CHANNELS], oldest frame first
 * @param[out] output    int8[1]
 * @return EW_OK; EW_ERROR_INFERENCE
 */
ew_status_t model_infer(void *context, const int8_t *features, int8_t *output);

#ifdef __cplusplus
}
#endif
