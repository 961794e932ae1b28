/* SPDX-License-Identifier: Apache-2.0 */
/* A model that remembers: its output depends on its bytes, on the features, and on how many steps it has seen since its reset. */
#include "model.h"

#include "ew_model_config.h"
#include "host.h"

static uint32_t first;
static uint32_t state;

ew_status_t model_init(const ew_wakeword_t *wakeword) {
    uint32_t sum = 0;
    for (size_t i = 0; i < wakeword->model_bytes; i++) {
        sum += wakeword->model[i];
    }
    first = 1 + sum % 1000;
    return model_reset();
}

ew_status_t model_reset(void) {
    state = first;
    return EW_OK;
}

ew_status_t model_infer(void *context, const int8_t *features, int8_t *output) {
    (void)context;
    if (host_flood && host_detects()) {
        host_wait_for_end_of_audio();
    }
    host_busy_us += 1000;
    for (uint32_t i = 0; i < EW_MODEL_FRAMES_PER_STEP * EW_MODEL_CHANNELS; i++) {
        state = (state * 31u + (uint32_t)(features[i] + 128)) % 65521u;
    }
    *output = (int8_t)((int32_t)(state >> 8) - 128);
    return EW_OK;
}
