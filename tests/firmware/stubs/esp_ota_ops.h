/* SPDX-License-Identifier: Apache-2.0 */
/* Signatures as in ESP-IDF 5.3, components/app_update/include/esp_ota_ops.h. */
#pragma once

#include "esp_err.h"

esp_err_t esp_ota_mark_app_valid_cancel_rollback(void);
