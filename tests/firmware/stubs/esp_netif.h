/* SPDX-License-Identifier: Apache-2.0 */
/* Signature as in ESP-IDF 5.3, components/esp_netif/include/esp_netif.h. */
#pragma once

#include "esp_err.h"

esp_err_t esp_netif_init(void);
