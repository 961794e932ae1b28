/* SPDX-License-Identifier: Apache-2.0 */
/* Golden vectors of any numbers: those that were recorded pass, one wrong value is found where it is, others fail. */
#include "ew_selftest.h"
#include "model.h"

enum { MOST_FRAMES = 32 };

typedef struct {
    uint16_t *features;
    int8_t *outputs;
    uint32_t *sums;
    uint8_t *detections;
    ew_golden_t golden;
} record_t;

/* What frontend and pipeline give for the samples, in blocks of exactly these sizes. */
static record_t record_of(const int16_t *samples, size_t n, size_t steps, const ew_pipeline_config_t *config) {
    const size_t frames = steps * config->frames_per_step;
    record_t record;
    record.features = block(frames * CHANNELS * sizeof *record.features);
    record.outputs = block(steps);
    record.sums = block(steps * sizeof *record.sums);
    record.detections = block(steps);
    const size_t front = ew_frontend_size(&EW_FRONTEND_TABLES), whole = ew_pipeline_size(&EW_FRONTEND_TABLES, config);
    void *memory = block(front), *other = block(whole);
    ew_frontend_t *frontend = NULL;
    ew_pipeline_t *pipeline = NULL;
    size_t written = 0, done = 0;
    model_t model = {.state = 1, .step_bytes = config->frames_per_step * CHANNELS};
    CHECK(ew_frontend_init(memory, front, &EW_FRONTEND_TABLES, &frontend) == EW_OK);
    CHECK(ew_frontend_run(frontend, samples, n, record.features, frames, &written) == EW_OK && written == frames);
    CHECK(ew_pipeline_init(other, whole, &EW_FRONTEND_TABLES, config, infer, &model, &pipeline) == EW_OK);
    for (size_t start = 0; start < n;) {
        size_t taken = 0;
        ew_step_t step;
        CHECK(ew_pipeline_process(pipeline, samples + start, n - start, &taken, &step) == EW_OK);
        start += taken;
        if (step.done) {
            record.outputs[done] = step.output;
            record.sums[done] = step.sum;
            record.detections[done++] = step.detected;
        }
    }
    CHECK(done == steps);
    const ew_golden_t golden = {samples,        n,           record.features,   frames,
                                record.outputs, record.sums, record.detections, record.golden.step_count = steps};
    record.golden = golden;
    free(memory);
    free(other);
    return record;
}

static ew_selftest_result_t test(const ew_golden_t *golden, const ew_pipeline_config_t *config, uint32_t fail_at) {
    const size_t bytes = ew_selftest_size(&EW_FRONTEND_TABLES, config);
    void *memory = block(bytes);
    model_t model = {.state = 1, .step_bytes = config->frames_per_step * CHANNELS, .fail_at = fail_at};
    const ew_selftest_result_t short_of =
        ew_selftest_run(memory, bytes - 1, &EW_FRONTEND_TABLES, config, infer, &model, golden);
    CHECK(short_of.stage == EW_SELFTEST_STATUS && short_of.got != EW_OK);
    const ew_selftest_result_t result =
        ew_selftest_run(memory, bytes, &EW_FRONTEND_TABLES, config, infer, &model, golden);
    CHECK(ew_selftest_stage_name(result.stage) != NULL);
    free(memory);
    return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input_t input = {data, size};
    uint16_t probabilities[256];
    const ew_pipeline_config_t config = take_config(&input, probabilities);
    const uint8_t kind = take_byte(&input) % 8;
    const uint32_t place = take_word(&input);
    CHECK(ew_selftest_stage_name((ew_selftest_stage_t)(place % 16)) != NULL);
    if (ew_selftest_size(&EW_FRONTEND_TABLES, &config) == 0) {
        CHECK(ew_pipeline_size(&EW_FRONTEND_TABLES, &config) == 0);
        return 0;
    }
    const size_t steps = 1 + place % 5;
    const size_t frames = steps * config.frames_per_step;
    if (frames > MOST_FRAMES) {
        return 0;
    }
    const size_t n = EW_FRONTEND_WINDOW_SAMPLES + EW_FRONTEND_STEP_SAMPLES * (frames - 1);
    int16_t *samples = filled(&input, n * sizeof *samples, 256);
    record_t record = record_of(samples, n, steps, &config);
    CHECK(test(&record.golden, &config, 0).stage == EW_SELFTEST_PASSED);
    ew_selftest_stage_t expected = EW_SELFTEST_COUNT;
    size_t index = 0;
    uint32_t fail_at = 0;
    switch (kind) {
    case 0:
        expected = EW_SELFTEST_FEATURES;
        index = place % (frames * CHANNELS);
        record.features[index] ^= (uint16_t)(1u << place % 16);
        break;
    case 1:
        expected = EW_SELFTEST_OUTPUTS;
        index = place % steps;
        record.outputs[index] = (int8_t)(record.outputs[index] ^ 1);
        break;
    case 2:
        expected = EW_SELFTEST_SUMS;
        index = place % steps;
        record.sums[index] ^= 1u << place % 32;
        break;
    case 3:
        expected = EW_SELFTEST_DETECTIONS;
        index = place % steps;
        record.detections[index] ^= 1;
        break;
    case 4:
        record.golden.frame_count -= 1; /* no frames at all are no golden vectors */
        expected = record.golden.frame_count == 0 ? EW_SELFTEST_STATUS : EW_SELFTEST_COUNT;
        break;
    case 5:
        record.golden.step_count -= 1;
        index = 1;
        expected = record.golden.step_count == 0 ? EW_SELFTEST_STATUS : EW_SELFTEST_COUNT;
        break;
    case 6:
        fail_at = 1 + place % (uint32_t)steps;
        expected = EW_SELFTEST_STATUS;
        break;
    default:
        record.golden.sample_count = place % n;
        break;
    }
    const ew_selftest_result_t result = test(&record.golden, &config, fail_at);
    CHECK(result.stage == expected && (expected == EW_SELFTEST_STATUS || result.index == index));
    free(samples);
    free(record.features);
    free(record.outputs);
    free(record.sums);
    free(record.detections);
    return 0;
}
