/* SPDX-License-Identifier: Apache-2.0 */
/* What ESP-IDF generates from main/Kconfig.projbuild's defaults; a test compares it with that file. */
#pragma once

#define CONFIG_EDGEWAKE_I2S_BCLK_GPIO 4
#define CONFIG_EDGEWAKE_I2S_WS_GPIO 5
#define CONFIG_EDGEWAKE_I2S_DIN_GPIO 6
#ifndef EW_TEST_I2S_WIDTH_16
#define CONFIG_EDGEWAKE_I2S_WIDTH_32 1
#else
#define CONFIG_EDGEWAKE_I2S_WIDTH_16 1
#endif
#define CONFIG_EDGEWAKE_I2S_SLOT_LEFT 1
#define CONFIG_EDGEWAKE_GAIN_SHIFT 3
#define CONFIG_EDGEWAKE_LED_GPIO 2
#define CONFIG_EDGEWAKE_LED_MS 1000
