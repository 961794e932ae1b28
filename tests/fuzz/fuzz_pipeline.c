/* SPDX-License-Identifier: Apache-2.0 */
/* Any configuration, samples and chunks: it is refused, or steps and events are the same by calls and through a ring. */
#include "model.h"

enum { MOST_STEPS = 64 };

typedef struct {
    ew_step_t steps[MOST_STEPS];
    size_t count;
    size_t reported;
} record_t;

static void reported(void *context, const ew_step_t *step) {
    record_t *record = context;
    while (record->reported < record->count && !record->steps[record->reported].detected) {
        ++record->reported;
    }
    CHECK(record->reported < record->count);
    const ew_step_t *expected = &record->steps[record->reported++];
    CHECK(step->sum == expected->sum && step->sample_index == expected->sample_index);
    CHECK(step->output == expected->output);
}

static void run(ew_pipeline_t *pipeline, const ew_pipeline_config_t *config, model_t *model, input_t *input) {
    const uint32_t fail_at = take_byte(input) % 4 == 0 ? 1 + take_byte(input) % 8u : 0;
    const uint8_t chunks[4] = {take_byte(input), take_byte(input), take_byte(input), take_byte(input)};
    const size_t n = 1 + take_byte(input) * 4u;
    int16_t *samples = filled(input, n * sizeof *samples, 256);
    record_t record = {.count = 0};
    const model_t fresh = {.state = 1, .step_bytes = config->frames_per_step * CHANNELS, .fail_at = fail_at};
    *model = fresh;
    ew_status_t status = EW_OK;
    for (size_t start = 0, calls = 0; start < n && status == EW_OK; ++calls) {
        const size_t left = n - start, some = 1 + chunks[calls % 4];
        size_t taken = 0;
        ew_step_t step;
        status = ew_pipeline_process(pipeline, samples + start, some < left ? some : left, &taken, &step);
        CHECK(taken <= left && (taken >= 1 || status != EW_OK));
        start += taken;
        CHECK(status == EW_OK || (status == EW_ERROR_INFERENCE && model->calls == fail_at && !step.done));
        if (step.done) {
            /* No drift: the k-th step ends at this sample, whatever the chunks. */
            const uint64_t frames = (uint64_t)(record.count + 1) * config->frames_per_step;
            CHECK(step.sample_index == EW_FRONTEND_WINDOW_SAMPLES + EW_FRONTEND_STEP_SAMPLES * (frames - 1));
            CHECK(step.sample_index == start && record.count < MOST_STEPS);
            record.steps[record.count++] = step;
        }
    }
    if (status != EW_OK) {
        size_t taken = 1;
        ew_step_t step;
        CHECK(ew_pipeline_process(pipeline, samples, n, &taken, &step) == EW_ERROR_INFERENCE && taken == 0);
    }
    CHECK(ew_pipeline_reset(pipeline) == EW_OK);
    *model = fresh;
    int16_t storage[64], chunk[300];
    ew_ring_t ring;
    CHECK(ew_ring_init(&ring, storage, 64) == EW_OK);
    CHECK(ew_pipeline_drain(pipeline, &ring, chunk, 0, reported, &record) == EW_ERROR_ARGUMENT);
    ew_status_t drained = EW_OK;
    for (size_t start = 0; start < n && drained == EW_OK;) {
        const size_t left = n - start, some = 1 + chunks[start % 4];
        start += ew_ring_write(&ring, samples + start, some < left ? some : left);
        drained = ew_pipeline_drain(pipeline, &ring, chunk, 1 + chunks[0], reported, &record);
        CHECK(drained != EW_OK || ew_ring_available(&ring) == 0);
    }
    CHECK(drained == status);
    for (; record.reported < record.count; ++record.reported) {
        CHECK(!record.steps[record.reported].detected);
    }
    CHECK(ew_pipeline_reset(pipeline) == EW_OK);
    free(samples);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input_t input = {data, size};
    uint16_t probabilities[256];
    const ew_pipeline_config_t config = take_config(&input, probabilities);
    const size_t bytes = ew_pipeline_size(&EW_FRONTEND_TABLES, &config);
    void *memory = block(bytes);
    ew_pipeline_t *pipeline = NULL;
    model_t model = {.state = 1};
    const ew_status_t status = ew_pipeline_init(memory, bytes, &EW_FRONTEND_TABLES, &config, infer, &model, &pipeline);
    CHECK((bytes == 0) == (status == EW_ERROR_ARGUMENT) && (pipeline == NULL) == (bytes == 0));
    if (status == EW_OK) {
        ew_pipeline_t *none = NULL;
        CHECK(ew_pipeline_init(memory, bytes - 1, &EW_FRONTEND_TABLES, &config, infer, &model, &none) ==
              EW_ERROR_MEMORY);
        CHECK(none == NULL);
        run(pipeline, &config, &model, &input);
    }
    free(memory);
    return 0;
}
