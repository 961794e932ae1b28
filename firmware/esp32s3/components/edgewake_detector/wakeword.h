/* SPDX-License-Identifier: Apache-2.0 */
/* Which wake word runs: that of the partition "edgewake" where it holds one that is accepted, else the built-in one. */
#pragma once

#include <stdbool.h>

#include "ew_image.h"

/** @brief The wake word that is compiled in. */
ew_wakeword_t wakeword_built_in(void);

/**
 * @brief Maps the partition, and checks the image in it. A log line gives the reason why there is none.
 *
 * @param[out] wakeword  constant from now on, in flash
 * @return whether there is one; its golden vectors are still to be run
 */
bool wakeword_in_partition(ew_wakeword_t *wakeword);
