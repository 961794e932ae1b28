/* SPDX-License-Identifier: Apache-2.0 */
/* An I2S or PDM microphone as a stream of int16 samples; DMA blocks that were lost are counted. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "esp_err.h"

/**
 * @brief Opens the microphone that Kconfig describes.
 *
 * @param[in] sample_rate  Hz
 * @return ESP_OK, or the driver's error
 */
esp_err_t microphone_open(uint32_t sample_rate);

/**
 * @brief Waits for a block of audio.
 *
 * @param[out] samples  int16[EW_BLOCK_SAMPLES], with the gain of Kconfig, saturated
 * @param[out] count    how many samples came, 0 to EW_BLOCK_SAMPLES
 * @return ESP_OK; ESP_ERR_TIMEOUT when the block is short; or the driver's error
 */
esp_err_t microphone_read(int16_t *samples, size_t *count);

/** @brief DMA blocks that were overwritten before they were read, since microphone_open(). */
uint32_t microphone_overruns(void);
