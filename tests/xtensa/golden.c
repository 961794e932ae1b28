/* SPDX-License-Identifier: Apache-2.0 */
/* The self-test of the firmware on golden vectors, with a model that repeats recorded outputs; then with one value of
 * each kind changed. test_core.py calls it. */
#include "ew_selftest.h"
#include "frontend_tables.h"
#include "sim.h"

enum { MAX_SAMPLES = 1 << 17, MAX_STEPS = 1 << 12, MAX_FEATURES = MAX_STEPS * 3 * EW_FRONTEND_CHANNELS };

static int16_t samples[MAX_SAMPLES];
static uint16_t features[MAX_FEATURES];
static int8_t outputs[MAX_STEPS], recorded[MAX_STEPS];
static uint32_t sums[MAX_STEPS];
static uint8_t detections[MAX_STEPS];
static uint16_t probabilities[256];
static uint8_t memory[1 << 15] __attribute__((aligned(EW_ALIGNMENT)));

static ew_status_t infer(void *context, const int8_t *input, int8_t *output) {
    uint32_t *step = context;
    (void)input;
    *output = recorded[(*step)++];
    return EW_OK;
}

static void run(const ew_pipeline_config_t *config, const ew_golden_t *golden) {
    uint32_t step = 0;
    const ew_selftest_result_t result =
        ew_selftest_run(memory, sizeof memory, &EW_FRONTEND_TABLES, config, infer, &step, golden);
    const int32_t row[4] = {(int32_t)result.stage, (int32_t)result.index, result.expected, result.got};
    sim_write(row, sizeof row);
}

/* Input: the configuration, counts of samples, frames and steps, the vectors, and which value of each to change. */
int main(void) {
    ew_pipeline_config_t config;
    uint32_t counts[3], at[4];
    sim_read(&config, offsetof(ew_pipeline_config_t, probabilities));
    sim_read(probabilities, sizeof probabilities);
    config.probabilities = probabilities;
    sim_read(counts, sizeof counts);
    if (counts[0] > MAX_SAMPLES || counts[1] * EW_FRONTEND_CHANNELS > MAX_FEATURES || counts[2] > MAX_STEPS) {
        return 1;
    }
    sim_read(samples, counts[0] * sizeof *samples);
    sim_read(features, counts[1] * EW_FRONTEND_CHANNELS * sizeof *features);
    sim_read(outputs, counts[2]);
    sim_read(sums, counts[2] * sizeof *sums);
    sim_read(detections, counts[2]);
    sim_read(at, sizeof at);
    for (uint32_t step = 0; step < counts[2]; ++step) {
        recorded[step] = outputs[step];
    }
    const ew_golden_t golden = {samples, counts[0], features, counts[1], outputs, sums, detections, counts[2]};
    run(&config, &golden);
    features[at[0]] ^= 1;
    run(&config, &golden);
    features[at[0]] ^= 1;
    outputs[at[1]] ^= 1;
    run(&config, &golden);
    outputs[at[1]] ^= 1;
    sums[at[2]] ^= 1;
    run(&config, &golden);
    sums[at[2]] ^= 1;
    detections[at[3]] ^= 1;
    run(&config, &golden);
    return 0;
}
