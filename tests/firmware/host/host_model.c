/* SPDX-License-Identifier: Apache-2.0 */
/* A model that remembers: its output depends on the features and on how many steps it has seen since its reset. */
#include "model.h"

#include "ew_model_config.h"
#include "host.h"

static uint32_t state;

ew_status_t model_init(void) {
    return model_reset();
}

ew_status_t model_reset(void) {
    state = 1;
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
