/* SPDX-License-Identifier: Apache-2.0 */
/* Signature as in ESP-IDF 5.3, components/nvs_flash/include/nvs_flash.h. */
#pragma once

#include "esp_err.h"

esp_err_t nvs_flash_init(void);
