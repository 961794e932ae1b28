/* An I2S microphone as a stream of int16 samples; what was lost on the way is counted. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "esp_err.h"

/* Open the microphone that Kconfig describes at `sample_rate` Hz. ESP_OK or the driver's error. */
esp_err_t microphone_open(uint32_t sample_rate);

/* Wait for a block of audio.
 *   samples  int16[EW_BLOCK_SAMPLES]
 *   count    receives how many samples came, at most EW_BLOCK_SAMPLES
 * Returns ESP_OK, ESP_ERR_TIMEOUT when the block is short, or the driver's error. */
esp_err_t microphone_read(int16_t *samples, size_t *count);

/* Blocks of DMA that were overwritten before they were read, since microphone_open. */
uint32_t microphone_overruns(void);
