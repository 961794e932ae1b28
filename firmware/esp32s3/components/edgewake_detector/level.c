/* SPDX-License-Identifier: Apache-2.0 */
/* The level of the microphone is logged once, and samples that do not change are warned of once a second. */
#include "level.h"

#include <math.h>
#include <stdbool.h>

#include "esp_log.h"

#include "ew_model_config.h"

static const char *const TAG = "microphone";

static void report(int lowest, int highest, uint64_t squares, uint32_t count) {
    static bool reported;
    if (lowest == highest) {
        ESP_LOGW(TAG, "every sample of the last second is %d: check power, clock and data pins, and the slot (L/R pin)",
                 lowest);
        reported = false;
    } else if (!reported) {
        ESP_LOGI(TAG, "one second: peak %d, RMS %u of 32768", highest > -lowest ? highest : -lowest,
                 (unsigned)sqrtf((float)squares / (float)count));
        reported = true;
    }
}

void level_add(const int16_t *samples, size_t count) {
    static int lowest = INT16_MAX;
    static int highest = INT16_MIN;
    static uint64_t squares;
    static uint32_t total;
    for (size_t i = 0; i < count; i++) {
        const int sample = samples[i];
        lowest = sample < lowest ? sample : lowest;
        highest = sample > highest ? sample : highest;
        squares += (uint64_t)(sample * sample);
    }
    total += (uint32_t)count;
    if (total >= EW_MODEL_SAMPLE_RATE) {
        report(lowest, highest, squares, total);
        lowest = INT16_MAX;
        highest = INT16_MIN;
        squares = 0;
        total = 0;
    }
}
