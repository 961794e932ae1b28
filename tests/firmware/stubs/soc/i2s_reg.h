/* SPDX-License-Identifier: Apache-2.0 */
/* Names as in ESP-IDF 5.3 for the ESP32-S3: soc/i2s_reg.h and soc/soc.h; a write is a line of the log. */
#pragma once

#include "esp_log.h"

#define I2S_RX_TIMING_REG(i) ((i) + 0x58)
#define I2S_RX_SD_IN_DM "I2S_RX_SD_IN_DM"
#define REG_SET_FIELD(_r, _f, _v) ESP_LOGI("register", "%d %s = %d", (int)(_r), _f, _v)
