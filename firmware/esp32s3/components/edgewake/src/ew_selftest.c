/* SPDX-License-Identifier: Apache-2.0 */
/* Golden vectors through frontend and model: the test passes only when every value is the recorded one. */
#include "ew_selftest.h"

#include "ew_internal.h"

/* A prime, so that chunks begin at every place in a frame and a step. */
#define CHUNK 479

static ew_selftest_result_t outcome(ew_selftest_stage_t stage, size_t index, int32_t expected, int32_t got) {
    const ew_selftest_result_t result = {stage, index, expected, got};
    return result;
}

static ew_selftest_result_t passed(void) {
    return outcome(EW_SELFTEST_PASSED, 0, 0, 0);
}

static ew_selftest_result_t failed_call(ew_status_t status) {
    return outcome(EW_SELFTEST_STATUS, 0, EW_OK, (int32_t)status);
}

size_t ew_selftest_size(const ew_frontend_tables_t *tables, const ew_pipeline_config_t *config) {
    const size_t pipeline = ew_pipeline_size(tables, config);
    if (pipeline == 0) {
        return 0;
    }
    /* The pipeline contains a frontend, so that it is the larger of the two. */
    return ew_align(pipeline) + ew_align(config->channels * sizeof(uint16_t));
}

static ew_selftest_result_t compare_frame(const uint16_t *features, uint32_t channels, const ew_golden_t *golden,
                                          size_t frame) {
    if (frame >= golden->frame_count) {
        return outcome(EW_SELFTEST_COUNT, 0, (int32_t)golden->frame_count, (int32_t)frame + 1);
    }
    for (size_t i = 0; i < channels; i++) {
        const uint16_t expected = golden->features[frame * channels + i];
        if (features[i] != expected) {
            return outcome(EW_SELFTEST_FEATURES, frame * channels + i, expected, features[i]);
        }
    }
    return passed();
}

static ew_selftest_result_t run_frontend(void *memory, size_t bytes, const ew_frontend_tables_t *tables,
                                         uint16_t *features, const ew_golden_t *golden) {
    ew_frontend_t *frontend = NULL;
    ew_status_t status = ew_frontend_init(memory, bytes, tables, &frontend);
    size_t position = 0;
    size_t frames = 0;
    while (status == EW_OK && position < golden->sample_count) {
        size_t taken = 0;
        bool ready = false;
        status = ew_frontend_process(frontend, golden->samples + position,
                                     ew_min(CHUNK, golden->sample_count - position), &taken, features, &ready);
        position += taken;
        if (status == EW_OK && ready) {
            const ew_selftest_result_t result = compare_frame(features, tables->channels, golden, frames);
            if (result.stage != EW_SELFTEST_PASSED) {
                return result;
            }
            frames++;
        }
    }
    if (status != EW_OK) {
        return failed_call(status);
    }
    if (frames != golden->frame_count) {
        return outcome(EW_SELFTEST_COUNT, 0, (int32_t)golden->frame_count, (int32_t)frames);
    }
    return passed();
}

static ew_selftest_result_t compare_step(const ew_step_t *step, const ew_golden_t *golden, size_t index) {
    if (index >= golden->step_count) {
        return outcome(EW_SELFTEST_COUNT, 1, (int32_t)golden->step_count, (int32_t)index + 1);
    }
    if (step->output != golden->outputs[index]) {
        return outcome(EW_SELFTEST_OUTPUTS, index, golden->outputs[index], step->output);
    }
    if (step->sum != golden->sums[index]) {
        return outcome(EW_SELFTEST_SUMS, index, (int32_t)golden->sums[index], (int32_t)step->sum);
    }
    if (step->detected != golden->detections[index]) {
        return outcome(EW_SELFTEST_DETECTIONS, index, golden->detections[index], step->detected);
    }
    return passed();
}

static ew_selftest_result_t run_pipeline(void *memory, size_t bytes, const ew_frontend_tables_t *tables,
                                         const ew_pipeline_config_t *config, ew_infer_fn infer, void *context,
                                         const ew_golden_t *golden) {
    ew_pipeline_t *pipeline = NULL;
    ew_status_t status = ew_pipeline_init(memory, bytes, tables, config, infer, context, &pipeline);
    size_t position = 0;
    size_t steps = 0;
    while (status == EW_OK && position < golden->sample_count) {
        size_t taken = 0;
        ew_step_t step;
        status = ew_pipeline_process(pipeline, golden->samples + position,
                                     ew_min(CHUNK, golden->sample_count - position), &taken, &step);
        position += taken;
        if (status == EW_OK && step.done) {
            const ew_selftest_result_t result = compare_step(&step, golden, steps);
            if (result.stage != EW_SELFTEST_PASSED) {
                return result;
            }
            steps++;
        }
    }
    if (status != EW_OK) {
        return failed_call(status);
    }
    if (steps != golden->step_count) {
        return outcome(EW_SELFTEST_COUNT, 1, (int32_t)golden->step_count, (int32_t)steps);
    }
    return passed();
}

ew_selftest_result_t ew_selftest_run(void *memory, size_t bytes, const ew_frontend_tables_t *tables,
                                     const ew_pipeline_config_t *config, ew_infer_fn infer, void *context,
                                     const ew_golden_t *golden) {
    if (memory == NULL || infer == NULL || golden == NULL) {
        return failed_call(EW_ERROR_NULL);
    }
    const size_t needed = ew_selftest_size(tables, config);
    /* Empty golden vectors would test nothing. */
    if (needed == 0 || golden->frame_count == 0 || golden->step_count == 0) {
        return failed_call(EW_ERROR_ARGUMENT);
    }
    if (bytes < needed) {
        return failed_call(EW_ERROR_MEMORY);
    }
    const size_t work = ew_align(ew_pipeline_size(tables, config));
    uint16_t *features = (uint16_t *)(void *)((uint8_t *)memory + work);
    const ew_selftest_result_t result = run_frontend(memory, work, tables, features, golden);
    if (result.stage != EW_SELFTEST_PASSED) {
        return result;
    }
    return run_pipeline(memory, work, tables, config, infer, context, golden);
}

const char *ew_selftest_stage_name(ew_selftest_stage_t stage) {
    switch (stage) {
    case EW_SELFTEST_PASSED:
        return "passed";
    case EW_SELFTEST_FEATURES:
        return "feature";
    case EW_SELFTEST_OUTPUTS:
        return "model output";
    case EW_SELFTEST_SUMS:
        return "smoothed sum";
    case EW_SELFTEST_DETECTIONS:
        return "detection";
    case EW_SELFTEST_COUNT:
        return "count of frames (0) or steps (1)";
    case EW_SELFTEST_STATUS:
        return "status of a call";
    }
    return "unknown stage";
}
