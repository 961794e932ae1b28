/* SPDX-License-Identifier: Apache-2.0 */
/* What frontend and pipeline make of signals in given chunks: each word that the host compares. test_core.py calls it. */
#include "ew_pipeline.h"
#include "frontend_tables.h"
#include "sim.h"

enum {
    MAX_SAMPLES = 1 << 18,
    MAX_CHUNKS = 1 << 14,
    MAX_STEP_BYTES = EW_PIPELINE_MAX_FRAMES_PER_STEP * EW_FRONTEND_CHANNELS
};

static int16_t samples[MAX_SAMPLES];
static uint32_t chunks[MAX_CHUNKS];
static uint16_t probabilities[256];
static uint8_t memory[1 << 15] __attribute__((aligned(EW_ALIGNMENT)));
static uint32_t step_bytes;

/* Writes what the model gets; its output depends on all of it, and on all steps before. */
static ew_status_t infer(void *context, const int8_t *features, int8_t *output) {
    uint32_t *state = context;
    sim_write(features, step_bytes);
    for (uint32_t i = 0; i < step_bytes; ++i) {
        *state = *state * 31 + (uint8_t)features[i];
    }
    *output = (int8_t)(*state >> 16);
    return EW_OK;
}

static int frames_of(ew_frontend_t *frontend, const int16_t *from, size_t n) {
    while (n != 0) {
        uint16_t features[EW_FRONTEND_CHANNELS];
        size_t consumed;
        bool ready;
        if (ew_frontend_process(frontend, from, n, &consumed, features, &ready) != EW_OK) {
            return 1;
        }
        if (ready) {
            sim_write(features, sizeof features);
        }
        from += consumed;
        n -= consumed;
    }
    return 0;
}

static int steps_of(ew_pipeline_t *pipeline, const int16_t *from, size_t n) {
    while (n != 0) {
        size_t consumed;
        ew_step_t step;
        if (ew_pipeline_process(pipeline, from, n, &consumed, &step) != EW_OK) {
            return 1;
        }
        if (step.done) {
            const int32_t row[4] = {step.output, step.detected, (int32_t)step.sum, (int32_t)step.sample_index};
            sim_write(row, sizeof row);
        }
        from += consumed;
        n -= consumed;
    }
    return 0;
}

int main(void) {
    ew_pipeline_config_t config;
    uint32_t state, counts[2];
    ew_frontend_t *frontend;
    ew_pipeline_t *pipeline;
    sim_read(&config, offsetof(ew_pipeline_config_t, probabilities));
    sim_read(probabilities, sizeof probabilities);
    config.probabilities = probabilities;
    step_bytes = config.frames_per_step * config.channels;
    /* Pairs of counts, each with as many chunks and samples; 0, 0 at the end. */
    for (sim_read(counts, sizeof counts); counts[0] != 0; sim_read(counts, sizeof counts)) {
        if (counts[0] > MAX_CHUNKS || counts[1] > MAX_SAMPLES) {
            return 2;
        }
        sim_read(chunks, counts[0] * sizeof *chunks);
        sim_read(samples, counts[1] * sizeof *samples);
        if (ew_frontend_init(memory, sizeof memory, &EW_FRONTEND_TABLES, &frontend) != EW_OK) {
            return 3;
        }
        for (uint32_t chunk = 0, at = 0; chunk < counts[0]; at += chunks[chunk++]) {
            if (frames_of(frontend, samples + at, chunks[chunk]) != 0) {
                return 4;
            }
        }
        state = 0;
        if (ew_pipeline_init(memory, sizeof memory, &EW_FRONTEND_TABLES, &config, infer, &state, &pipeline) != EW_OK) {
            return 5;
        }
        for (uint32_t chunk = 0, at = 0; chunk < counts[0]; at += chunks[chunk++]) {
            if (steps_of(pipeline, samples + at, chunks[chunk]) != 0) {
                return 6;
            }
        }
    }
    return 0;
}
