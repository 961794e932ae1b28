/* SPDX-License-Identifier: Apache-2.0 */
/* Signatures as in ESP-IDF 5.3, components/esp_rom/include/esp_rom_sys.h. */
#pragma once

#include <stdint.h>

uint32_t esp_rom_get_cpu_ticks_per_us(void);
