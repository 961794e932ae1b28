/* SPDX-License-Identifier: Apache-2.0 */
/* Signatures as in ESP-IDF 5.3, components/esp_hw_support/include/esp_cpu.h. */
#pragma once

#include <stdint.h>

typedef uint32_t esp_cpu_cycle_count_t;

esp_cpu_cycle_count_t esp_cpu_get_cycle_count(void);
