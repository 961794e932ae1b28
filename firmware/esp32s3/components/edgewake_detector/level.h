/* SPDX-License-Identifier: Apache-2.0 */
/* The level of the microphone is logged once, and samples that do not change are warned of once a second. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/**
 * @brief Takes samples; at the end of each second of audio logs what has to be logged.
 *
 * An I2S master reads on without a microphone: a wrong pin or slot gives one value for ever, mostly 0 or -1.
 *
 * @param[in] samples  int16[count]
 * @param[in] count    of samples
 */
void level_add(const int16_t *samples, size_t count);
