/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration of the pipeline from a fuzzer's bytes, and a model whose output depends on all steps so far. */
#ifndef EDGEWAKE_FUZZ_MODEL_H
#define EDGEWAKE_FUZZ_MODEL_H

#include "ew_pipeline.h"
#include "frontend_tables.h"
#include "fuzz.h"

enum { CHANNELS = EW_FRONTEND_CHANNELS };

typedef struct {
    uint32_t state;
    uint32_t step_bytes;
    uint32_t calls;
    uint32_t fail_at; /* the call that fails, counted from 1; 0: none */
} model_t;

static ew_status_t infer(void *context, const int8_t *features, int8_t *output) {
    model_t *model = context;
    CHECK((uintptr_t)features % EW_ALIGNMENT == 0);
    if (++model->calls == model->fail_at) {
        return (ew_status_t)(1 + model->state % 7);
    }
    for (uint32_t i = 0; i < model->step_bytes; ++i) {
        model->state = (model->state * 31 + (uint32_t)(features[i] + 128)) % 65521;
    }
    *output = (int8_t)((int32_t)(model->state >> 8) - 128);
    return EW_OK;
}

/* `probabilities` is uint16[256], filled here. */
static ew_pipeline_config_t take_config(input_t *input, uint16_t *probabilities) {
    const ew_pipeline_config_t config = {
        .frames_per_step = take_near(input, 1, 4),
        .channels = take_byte(input) % 16 == 0 ? take_word(input) : CHANNELS,
        .multiplier = take_word(input),
        .shift = take_near(input, 1, EW_QUANTIZER_MAX_SHIFT),
        .zero_point = (int32_t)(take_near(input, 0, 255) - 128u),
        .window = take_near(input, 1, EW_SMOOTHER_MAX_WINDOW),
        .cutoff_sum = take_near(input, 0, 1 << 18),
        .refractory_steps = take_near(input, 0, 8),
        .probabilities = probabilities,
    };
    uint8_t pattern[32];
    take(input, pattern, sizeof pattern);
    for (uint32_t i = 0; i < 256; ++i) {
        probabilities[i] = (uint16_t)(pattern[i % 32] * 256u + i);
    }
    return config;
}

#endif /* EDGEWAKE_FUZZ_MODEL_H */
