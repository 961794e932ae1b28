/* SPDX-License-Identifier: Apache-2.0 */
/* From samples to events: equal audio gives equal sums and events at equal samples, in any chunking. */
#include "ew_pipeline.h"

#include <string.h>

#include "ew_internal.h"

/* ------------------------------------------------- Quantizer -------------------------------------------------- */

ew_status_t ew_quantizer_check(const ew_quantizer_t *quantizer) {
    if (quantizer == NULL) {
        return EW_ERROR_NULL;
    }
    const int32_t zero_point = quantizer->zero_point;
    if (quantizer->shift < 1 || quantizer->shift > EW_QUANTIZER_MAX_SHIFT || zero_point < -128 || zero_point > 127) {
        return EW_ERROR_ARGUMENT;
    }
    return EW_OK;
}

void ew_quantizer_apply(const ew_quantizer_t *quantizer, const uint16_t *features, size_t n, int8_t *output) {
    /* 16 x 32 bits and half a unit stay below 2^63, so that neither the product nor the sum can wrap. */
    const uint64_t half = (uint64_t)1 << (quantizer->shift - 1);
    /* Saturating before the zero point is added keeps the sum in 32 bits for every multiplier. */
    const uint64_t top = (uint64_t)(127 - quantizer->zero_point);
    for (size_t i = 0; i < n; i++) {
        const uint64_t rounded = ((uint64_t)features[i] * quantizer->multiplier + half) >> quantizer->shift;
        output[i] = (int8_t)((int32_t)(rounded < top ? rounded : top) + quantizer->zero_point);
    }
}

/* -------------------------------------------------- Smoother -------------------------------------------------- */

ew_status_t ew_smoother_init(ew_smoother_t *smoother, uint32_t window, uint32_t cutoff_sum, uint32_t refractory_steps) {
    if (smoother == NULL) {
        return EW_ERROR_NULL;
    }
    if (window < 1 || window > EW_SMOOTHER_MAX_WINDOW) {
        return EW_ERROR_ARGUMENT;
    }
    smoother->window = window;
    smoother->cutoff_sum = cutoff_sum;
    smoother->refractory_steps = refractory_steps;
    ew_smoother_reset(smoother);
    return EW_OK;
}

void ew_smoother_reset(ew_smoother_t *smoother) {
    memset(smoother->values, 0, sizeof smoother->values);
    smoother->position = 0;
    smoother->sum = 0;
    smoother->quiet_steps = 0;
}

bool ew_smoother_push(ew_smoother_t *smoother, uint16_t value, uint32_t *sum) {
    /* The sum of integers is exact, so that subtracting what leaves never drifts. */
    smoother->sum += value;
    smoother->sum -= smoother->values[smoother->position];
    smoother->values[smoother->position] = value;
    smoother->position = smoother->position + 1 == smoother->window ? 0 : smoother->position + 1;
    *sum = smoother->sum;

    /* An event at step s leaves quiet_steps = R, and step s + R finds 0 here: events are R steps apart, not R
     * + 1. */
    if (smoother->quiet_steps > 0) {
        smoother->quiet_steps--;
    }
    if (smoother->quiet_steps > 0 || smoother->sum < smoother->cutoff_sum) {
        return false;
    }
    smoother->quiet_steps = smoother->refractory_steps;
    return true;
}

/* -------------------------------------------------- Pipeline -------------------------------------------------- */

struct ew_pipeline {
    ew_frontend_t *frontend;
    ew_infer_fn infer;
    void *context;
    const uint16_t *probabilities; /* uint16[256] */
    ew_quantizer_t quantizer;
    ew_smoother_t smoother;
    uint32_t frames_per_step;
    uint32_t channels;
    uint32_t frames; /* frames of the present step so far */
    uint64_t samples;
    bool failed;
    int8_t *input;      /* int8[frames_per_step][channels] */
    uint16_t *features; /* uint16[channels] */
};

/* Where each part lies in the caller's memory, in bytes from its start. */
typedef struct {
    size_t input;
    size_t features;
    size_t frontend;
    size_t total;
} layout_t;

static ew_quantizer_t quantizer_of(const ew_pipeline_config_t *config) {
    const ew_quantizer_t quantizer = {config->multiplier, config->shift, config->zero_point};
    return quantizer;
}

/* Fills the layout, or returns what is wrong with the tables or the configuration. */
static ew_status_t lay_out(const ew_frontend_tables_t *tables, const ew_pipeline_config_t *config, layout_t *layout) {
    if (tables == NULL || config == NULL || config->probabilities == NULL) {
        return EW_ERROR_NULL;
    }
    const size_t frontend_bytes = ew_frontend_size(tables);
    const ew_quantizer_t quantizer = quantizer_of(config);
    if (frontend_bytes == 0 || config->channels != tables->channels || config->frames_per_step < 1 ||
        config->frames_per_step > EW_PIPELINE_MAX_FRAMES_PER_STEP || config->window < 1 ||
        config->window > EW_SMOOTHER_MAX_WINDOW || ew_quantizer_check(&quantizer) != EW_OK) {
        return EW_ERROR_ARGUMENT;
    }
    layout->input = ew_align(sizeof(struct ew_pipeline));
    layout->features = layout->input + ew_align((size_t)config->frames_per_step * config->channels);
    layout->frontend = layout->features + ew_align(config->channels * sizeof(uint16_t));
    layout->total = layout->frontend + frontend_bytes;
    return EW_OK;
}

size_t ew_pipeline_size(const ew_frontend_tables_t *tables, const ew_pipeline_config_t *config) {
    layout_t layout;
    return lay_out(tables, config, &layout) == EW_OK ? layout.total : 0;
}

ew_status_t ew_pipeline_init(void *memory, size_t bytes, const ew_frontend_tables_t *tables,
                             const ew_pipeline_config_t *config, ew_infer_fn infer, void *context,
                             ew_pipeline_t **pipeline) {
    if (memory == NULL || infer == NULL || pipeline == NULL) {
        return EW_ERROR_NULL;
    }
    layout_t layout;
    const ew_status_t status = lay_out(tables, config, &layout);
    if (status != EW_OK) {
        return status;
    }
    if (bytes < layout.total) {
        return EW_ERROR_MEMORY;
    }
    if ((uintptr_t)memory % EW_ALIGNMENT != 0) {
        return EW_ERROR_ALIGNMENT;
    }
    uint8_t *base = memory;
    struct ew_pipeline *self = memory;
    self->infer = infer;
    self->context = context;
    self->probabilities = config->probabilities;
    self->quantizer = quantizer_of(config);
    self->frames_per_step = config->frames_per_step;
    self->channels = config->channels;
    self->input = (int8_t *)(base + layout.input);
    self->features = (uint16_t *)(void *)(base + layout.features);
    const ew_status_t smoothing =
        ew_smoother_init(&self->smoother, config->window, config->cutoff_sum, config->refractory_steps);
    if (smoothing != EW_OK) {
        return smoothing;
    }
    const ew_status_t front =
        ew_frontend_init(base + layout.frontend, layout.total - layout.frontend, tables, &self->frontend);
    if (front != EW_OK) {
        return front;
    }
    *pipeline = self;
    return ew_pipeline_reset(self);
}

ew_status_t ew_pipeline_reset(ew_pipeline_t *pipeline) {
    if (pipeline == NULL) {
        return EW_ERROR_NULL;
    }
    ew_smoother_reset(&pipeline->smoother);
    pipeline->frames = 0;
    pipeline->samples = 0;
    pipeline->failed = false;
    return ew_frontend_reset(pipeline->frontend);
}

/* A whole step is in the input buffer: run the model and smooth its output. */
static ew_status_t finish_step(ew_pipeline_t *pipeline, ew_step_t *step) {
    pipeline->frames = 0;
    int8_t output = 0;
    if (pipeline->infer(pipeline->context, pipeline->input, &output) != EW_OK) {
        pipeline->failed = true;
        return EW_ERROR_INFERENCE;
    }
    step->detected = ew_smoother_push(&pipeline->smoother, pipeline->probabilities[output + 128], &step->sum);
    step->output = output;
    step->sample_index = pipeline->samples;
    step->done = true;
    return EW_OK;
}

ew_status_t ew_pipeline_process(ew_pipeline_t *pipeline, const int16_t *samples, size_t n, size_t *consumed,
                                ew_step_t *step) {
    if (pipeline == NULL || consumed == NULL || step == NULL || (samples == NULL && n > 0)) {
        return EW_ERROR_NULL;
    }
    *consumed = 0;
    memset(step, 0, sizeof *step);
    if (pipeline->failed) {
        return EW_ERROR_INFERENCE;
    }
    while (*consumed < n) {
        size_t taken = 0;
        bool ready = false;
        const ew_status_t status = ew_frontend_process(pipeline->frontend, samples + *consumed, n - *consumed, &taken,
                                                       pipeline->features, &ready);
        if (status != EW_OK) {
            return status;
        }
        *consumed += taken;
        pipeline->samples += taken;
        if (!ready) {
            continue;
        }
        ew_quantizer_apply(&pipeline->quantizer, pipeline->features, pipeline->channels,
                           pipeline->input + (size_t)pipeline->frames * pipeline->channels);
        pipeline->frames++;
        if (pipeline->frames == pipeline->frames_per_step) {
            return finish_step(pipeline, step);
        }
    }
    return EW_OK;
}

ew_status_t ew_pipeline_drain(ew_pipeline_t *pipeline, ew_ring_t *ring, int16_t *chunk, size_t chunk_samples,
                              ew_detected_fn detected, void *context) {
    if (pipeline == NULL || ring == NULL || chunk == NULL || detected == NULL) {
        return EW_ERROR_NULL;
    }
    if (chunk_samples < 1) {
        return EW_ERROR_ARGUMENT;
    }
    for (;;) {
        const size_t count = ew_ring_read(ring, chunk, chunk_samples);
        if (count == 0) {
            return EW_OK;
        }
        for (size_t position = 0; position < count;) {
            size_t taken = 0;
            ew_step_t step;
            const ew_status_t status = ew_pipeline_process(pipeline, chunk + position, count - position, &taken, &step);
            if (status != EW_OK) {
                return status;
            }
            position += taken;
            if (step.done && step.detected) {
                detected(context, &step);
            }
        }
    }
}

size_t ew_pipeline_config_size(void) {
    return sizeof(ew_pipeline_config_t);
}

size_t ew_pipeline_step_size(void) {
    return sizeof(ew_step_t);
}
