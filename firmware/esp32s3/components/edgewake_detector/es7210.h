/* SPDX-License-Identifier: Apache-2.0 */
/* An ES7210 codec whose first microphone is the left slot of an I2S channel. */
#pragma once

#include <stdint.h>

#include "driver/i2s_std.h"
#include "esp_err.h"

/**
 * @brief Sets the codec up by I2C, and enables the channel.
 *
 * @param[in] channel      a receiving channel in standard mode with MCLK of 256 times the rate, not yet enabled
 * @param[in] sample_rate  Hz
 * @return ESP_OK; the I2C driver's error; or ESP_FAIL, when the codec does not answer
 */
esp_err_t es7210_open(i2s_chan_handle_t channel, uint32_t sample_rate);
