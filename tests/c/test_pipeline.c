/* SPDX-License-Identifier: Apache-2.0 */
/* Steps depend on the samples alone, in any chunking, and the self-test finds any wrong value. */
#include <string.h>

#include "check.h"
#include "ew_pipeline.h"
#include "ew_selftest.h"
#include "frontend_tables.h"
#include "frontend_vectors.h"

/* Quantizer and smoother. */

/* The formula in arithmetic that cannot wrap: with q the quotient and r the remainder of feature * multiplier. */
static int8_t by_formula(const ew_quantizer_t *quantizer, uint16_t feature) {
    const uint64_t product = (uint64_t)feature * quantizer->multiplier;
    const uint64_t quotient = product >> quantizer->shift;
    const uint64_t up = (product >> (quantizer->shift - 1)) & 1;
    const uint64_t rounded = quotient + up;
    const int64_t value = (int64_t)(rounded < 100000 ? rounded : 100000) + quantizer->zero_point;
    return (int8_t)(value > 127 ? 127 : value);
}

static void check_all_features(const ew_quantizer_t *quantizer) {
    CHECK(ew_quantizer_check(quantizer) == EW_OK);
    uint16_t features[256];
    int8_t output[256];
    for (uint32_t start = 0; start < 65536; start += 256) {
        for (uint32_t i = 0; i < 256; ++i) {
            features[i] = (uint16_t)(start + i);
        }
        ew_quantizer_apply(quantizer, features, 256, output);
        for (uint32_t i = 0; i < 256; ++i) {
            CHECK(output[i] == by_formula(quantizer, features[i]));
        }
    }
}

static void the_quantizer_follows_its_formula_at_all_limits(void) {
    const uint32_t multipliers[] = {0, 1, 50215, 0x7fffffffu, 0x80000000u, UINT32_MAX};
    const uint32_t shifts[] = {1, 17, 31, 32, 33, 47, 48, 62};
    const int32_t zero_points[] = {-128, -1, 0, 1, 127};
    for (size_t m = 0; m < sizeof multipliers / sizeof *multipliers; ++m) {
        for (size_t s = 0; s < sizeof shifts / sizeof *shifts; ++s) {
            for (size_t z = 0; z < sizeof zero_points / sizeof *zero_points; ++z) {
                const ew_quantizer_t quantizer = {multipliers[m], shifts[s], zero_points[z]};
                check_all_features(&quantizer);
            }
        }
    }
    const ew_quantizer_t wrong[] = {{1, 0, 0}, {1, 63, 0}, {1, 1, -129}, {1, 1, 128}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; ++i) {
        CHECK(ew_quantizer_check(&wrong[i]) == EW_ERROR_ARGUMENT);
    }
    CHECK(ew_quantizer_check(NULL) == EW_ERROR_NULL);
}

enum { STEPS = 400 };

static uint32_t state = 88172645;

static uint16_t random_value(void) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return (uint16_t)(state >> 11);
}

static void smooth_random(ew_smoother_t *smoother, uint32_t window, uint32_t cutoff, uint32_t refractory) {
    uint16_t values[STEPS];
    int64_t last_event = -1;
    for (uint32_t step = 0; step < STEPS; ++step) {
        values[step] = random_value();
        uint32_t expected = 0;
        for (uint32_t back = 0; back < window && back <= step; ++back) {
            expected += values[step - back];
        }
        const bool allowed = last_event < 0 || (int64_t)step - last_event >= (int64_t)refractory;
        const bool event = expected >= cutoff && allowed;
        uint32_t sum = 12345;
        CHECK(ew_smoother_push(smoother, values[step], &sum) == event);
        CHECK(sum == expected);
        last_event = event ? (int64_t)step : last_event;
    }
}

static void sums_and_distances_of_events_are_those_of_a_naive_count(void) {
    ew_smoother_t smoother;
    const uint32_t refractory[] = {0, 1, 2, 7, 1000, UINT32_MAX};
    for (uint32_t window = 1; window <= EW_SMOOTHER_MAX_WINDOW; ++window) {
        for (size_t r = 0; r < sizeof refractory / sizeof *refractory; ++r) {
            const uint32_t cutoff = window * (EW_PROBABILITY_ONE / 2);
            CHECK(ew_smoother_init(&smoother, window, cutoff, refractory[r]) == EW_OK);
            smooth_random(&smoother, window, cutoff, refractory[r]);
            ew_smoother_reset(&smoother);
            smooth_random(&smoother, window, cutoff, refractory[r]);
        }
    }
    CHECK(ew_smoother_init(&smoother, 0, 1, 1) == EW_ERROR_ARGUMENT);
    CHECK(ew_smoother_init(&smoother, EW_SMOOTHER_MAX_WINDOW + 1, 1, 1) == EW_ERROR_ARGUMENT);
    CHECK(ew_smoother_init(NULL, 1, 1, 1) == EW_ERROR_NULL);
}

/* Pipeline. */

enum {
    FRAMES_PER_STEP = 3,
    STEP_BYTES = FRAMES_PER_STEP * EW_FRONTEND_CHANNELS,
    MAX_STEPS = 64,
    WINDOW = 3,
    CUTOFF_SUM = 102400,
    REFRACTORY_STEPS = 2,
    FAIL_NEVER = MAX_STEPS
};

/* A table that no formula gives, so that a wrong index is found: main() fills it. */
static uint16_t probabilities[256];

static const ew_pipeline_config_t CONFIG = {
    .frames_per_step = FRAMES_PER_STEP,
    .channels = EW_FRONTEND_CHANNELS,
    .multiplier = 1640,
    .shift = 12,
    .zero_point = -128,
    .window = WINDOW,
    .cutoff_sum = CUTOFF_SUM,
    .refractory_steps = REFRACTORY_STEPS,
    .probabilities = probabilities,
};

/* A model whose output depends on every byte of every step so far; it fails at step `fail_at`. */
typedef struct {
    uint32_t state;
    size_t calls;
    size_t fail_at;
} model_t;

static model_t fresh_model(void) {
    const model_t model = {1, 0, FAIL_NEVER};
    return model;
}

static ew_status_t infer(void *context, const int8_t *features, int8_t *output) {
    model_t *model = context;
    CHECK((uintptr_t)features % EW_ALIGNMENT == 0);
    if (model->calls++ == model->fail_at) {
        return EW_ERROR_INFERENCE;
    }
    for (size_t i = 0; i < STEP_BYTES; ++i) {
        model->state = (model->state * 31 + (uint32_t)(features[i] + 128)) % 65521;
    }
    *output = (int8_t)((int32_t)(model->state >> 8) - 128);
    return EW_OK;
}

/* What the specification asks for, computed from the reference's features without the pipeline. */
static size_t expected_steps(ew_step_t *steps) {
    const ew_quantizer_t quantizer = {CONFIG.multiplier, CONFIG.shift, CONFIG.zero_point};
    model_t model = fresh_model();
    ew_smoother_t smoother;
    size_t count = 0;
    CHECK(ew_smoother_init(&smoother, WINDOW, CUTOFF_SUM, REFRACTORY_STEPS) == EW_OK);
    for (size_t frame = 0; frame + FRAMES_PER_STEP <= VECTOR_FRAMES; frame += FRAMES_PER_STEP, ++count) {
        int8_t input[STEP_BYTES] __attribute__((aligned(EW_ALIGNMENT)));
        ew_step_t step;
        memset(&step, 0, sizeof step);
        ew_quantizer_apply(&quantizer, FEATURES[frame], STEP_BYTES, input);
        CHECK(count < MAX_STEPS);
        CHECK(infer(&model, input, &step.output) == EW_OK);
        step.detected = ew_smoother_push(&smoother, probabilities[step.output + 128], &step.sum);
        step.sample_index = EW_FRONTEND_WINDOW_SAMPLES + EW_FRONTEND_STEP_SAMPLES * (frame + FRAMES_PER_STEP - 1);
        step.done = true;
        steps[count] = step;
    }
    return count;
}

static void check_step(const ew_step_t *found, const ew_step_t *expected) {
    CHECK(found->done && found->detected == expected->detected && found->output == expected->output);
    CHECK(found->sum == expected->sum && found->sample_index == expected->sample_index);
}

/* A block of exactly the size asked for, so that AddressSanitizer sees the first byte beyond. */
static ew_pipeline_t *create(void **memory, model_t *model) {
    const size_t bytes = ew_pipeline_size(&EW_FRONTEND_TABLES, &CONFIG);
    ew_pipeline_t *pipeline = NULL;
    *memory = malloc(bytes);
    CHECK(bytes != 0 && *memory != NULL);
    memset(*memory, 0xA5, bytes);
    CHECK(ew_pipeline_init(*memory, bytes, &EW_FRONTEND_TABLES, &CONFIG, infer, model, &pipeline) == EW_OK);
    return pipeline;
}

static void every_chunking_gives_the_specified_steps(void) {
    static const size_t chunks[] = {1, 2, 159, 160, 161, 479, 480, 481, 1000, VECTOR_SAMPLES};
    ew_step_t expected[MAX_STEPS];
    const size_t count = expected_steps(expected);
    size_t events = 0;
    model_t model = fresh_model();
    void *memory;
    ew_pipeline_t *pipeline = create(&memory, &model);
    for (size_t i = 0; i < count; ++i) {
        events += expected[i].detected ? 1u : 0u;
    }
    CHECK(count >= 5 && events >= 2 && events < count);
    for (size_t c = 0; c < sizeof chunks / sizeof *chunks; ++c) {
        size_t steps = 0;
        for (size_t start = 0; start < VECTOR_SAMPLES;) {
            const size_t left = VECTOR_SAMPLES - start, n = left < chunks[c] ? left : chunks[c];
            ew_step_t step;
            size_t taken = 0;
            CHECK(ew_pipeline_process(pipeline, SAMPLES + start, n, &taken, &step) == EW_OK);
            CHECK(taken >= 1 && taken <= n);
            start += taken;
            if (step.done) {
                CHECK(steps < count);
                check_step(&step, &expected[steps++]);
            }
        }
        CHECK(steps == count);
        CHECK(ew_pipeline_reset(pipeline) == EW_OK);
        model = fresh_model();
    }
    free(memory);
}

static void a_failed_model_stops_everything_until_reset(void) {
    model_t model = fresh_model();
    void *memory;
    ew_pipeline_t *pipeline = create(&memory, &model);
    ew_step_t step;
    size_t taken = 0;
    model.fail_at = 0;
    CHECK(ew_pipeline_process(pipeline, SAMPLES, VECTOR_SAMPLES, &taken, &step) == EW_ERROR_INFERENCE);
    CHECK(!step.done);
    CHECK(ew_pipeline_process(pipeline, SAMPLES, 1, &taken, &step) == EW_ERROR_INFERENCE);
    CHECK(taken == 0 && !step.done && model.calls == 1);
    CHECK(ew_pipeline_reset(pipeline) == EW_OK);
    CHECK(ew_pipeline_process(pipeline, SAMPLES, VECTOR_SAMPLES, &taken, &step) == EW_OK);
    CHECK(step.done);
    free(memory);
}

static void wrong_arguments_are_refused(void) {
    static uint8_t memory[1 << 15] __attribute__((aligned(EW_ALIGNMENT)));
    const size_t bytes = ew_pipeline_size(&EW_FRONTEND_TABLES, &CONFIG);
    ew_pipeline_t *pipeline = NULL;
    ew_pipeline_config_t wrong[6] = {CONFIG, CONFIG, CONFIG, CONFIG, CONFIG, CONFIG};
    wrong[0].frames_per_step = 0;
    wrong[1].frames_per_step = EW_PIPELINE_MAX_FRAMES_PER_STEP + 1;
    wrong[2].channels = EW_FRONTEND_CHANNELS + 1;
    wrong[3].window = EW_SMOOTHER_MAX_WINDOW + 1;
    wrong[4].shift = 0;
    wrong[5].zero_point = 128;
    CHECK(bytes <= sizeof memory - 1);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; ++i) {
        CHECK(ew_pipeline_size(&EW_FRONTEND_TABLES, &wrong[i]) == 0);
        CHECK(ew_selftest_size(&EW_FRONTEND_TABLES, &wrong[i]) == 0);
        CHECK(ew_pipeline_init(memory, sizeof memory, &EW_FRONTEND_TABLES, &wrong[i], infer, NULL, &pipeline) ==
              EW_ERROR_ARGUMENT);
    }
    CHECK(ew_pipeline_size(NULL, &CONFIG) == 0 && ew_pipeline_size(&EW_FRONTEND_TABLES, NULL) == 0);
    CHECK(ew_pipeline_init(memory, bytes - 1, &EW_FRONTEND_TABLES, &CONFIG, infer, NULL, &pipeline) == EW_ERROR_MEMORY);
    CHECK(ew_pipeline_init(memory + 1, bytes, &EW_FRONTEND_TABLES, &CONFIG, infer, NULL, &pipeline) ==
          EW_ERROR_ALIGNMENT);
    CHECK(ew_pipeline_init(memory, bytes, &EW_FRONTEND_TABLES, &CONFIG, NULL, NULL, &pipeline) == EW_ERROR_NULL);
    ew_pipeline_config_t without_table = CONFIG;
    without_table.probabilities = NULL;
    CHECK(ew_pipeline_size(&EW_FRONTEND_TABLES, &without_table) == 0);
    CHECK(ew_pipeline_init(memory, bytes, &EW_FRONTEND_TABLES, &without_table, infer, NULL, &pipeline) ==
          EW_ERROR_NULL);
    CHECK(pipeline == NULL);
}

/* Golden vectors as a build records them, in memory that can be changed. */
static struct {
    uint16_t features[VECTOR_FRAMES][EW_FRONTEND_CHANNELS];
    int8_t outputs[MAX_STEPS];
    uint32_t sums[MAX_STEPS];
    uint8_t detections[MAX_STEPS];
    ew_golden_t golden;
} record;

static void fill_record(void) {
    ew_step_t steps[MAX_STEPS];
    const size_t count = expected_steps(steps);
    memcpy(record.features, FEATURES, sizeof record.features);
    for (size_t i = 0; i < count; ++i) {
        record.outputs[i] = steps[i].output;
        record.sums[i] = steps[i].sum;
        record.detections[i] = steps[i].detected;
    }
    const ew_golden_t golden = {
        .samples = SAMPLES,
        .sample_count = (size_t)steps[count - 1].sample_index,
        .features = &record.features[0][0],
        .frame_count = count * FRAMES_PER_STEP,
        .outputs = record.outputs,
        .sums = record.sums,
        .detections = record.detections,
        .step_count = count,
    };
    record.golden = golden;
}

static void check_selftest(ew_selftest_stage_t stage, size_t index) {
    const size_t bytes = ew_selftest_size(&EW_FRONTEND_TABLES, &CONFIG);
    void *memory = malloc(bytes);
    model_t model = fresh_model();
    CHECK(bytes != 0 && memory != NULL);
    const ew_selftest_result_t result =
        ew_selftest_run(memory, bytes, &EW_FRONTEND_TABLES, &CONFIG, infer, &model, &record.golden);
    CHECK(result.stage == stage && result.index == index);
    CHECK(stage == EW_SELFTEST_PASSED || result.expected != result.got);
    CHECK(ew_selftest_stage_name(result.stage)[0] != '\0');
    free(memory);
}

static void the_self_test_finds_any_one_wrong_value(void) {
    fill_record();
    const size_t last = record.golden.step_count - 1;
    check_selftest(EW_SELFTEST_PASSED, 0);
    static uint8_t memory[16] __attribute__((aligned(EW_ALIGNMENT)));
    CHECK(ew_selftest_run(memory, sizeof memory, &EW_FRONTEND_TABLES, &CONFIG, infer, NULL, &record.golden).got ==
          EW_ERROR_MEMORY);
    record.features[last][EW_FRONTEND_CHANNELS - 1] ^= 1;
    check_selftest(EW_SELFTEST_FEATURES, last * EW_FRONTEND_CHANNELS + EW_FRONTEND_CHANNELS - 1);
    fill_record();
    record.outputs[last] = (int8_t)(record.outputs[last] ^ 1);
    check_selftest(EW_SELFTEST_OUTPUTS, last);
    fill_record();
    record.sums[0] += 1;
    check_selftest(EW_SELFTEST_SUMS, 0);
    fill_record();
    record.detections[last] ^= 1;
    check_selftest(EW_SELFTEST_DETECTIONS, last);
    fill_record();
    record.golden.frame_count -= 1;
    check_selftest(EW_SELFTEST_COUNT, 0);
    fill_record();
    record.golden.frame_count += 1;
    check_selftest(EW_SELFTEST_COUNT, 0);
    fill_record();
    record.golden.step_count -= 1;
    check_selftest(EW_SELFTEST_COUNT, 1);
    fill_record();
    record.golden.step_count += 1;
    check_selftest(EW_SELFTEST_COUNT, 1);
    fill_record();
    record.golden.step_count = 0;
    check_selftest(EW_SELFTEST_STATUS, 0);
}

static size_t reported;

static void count_event(void *context, const ew_step_t *step) {
    const ew_step_t *expected = context;
    while (!expected[reported].detected) {
        ++reported;
    }
    check_step(step, &expected[reported++]);
}

static void a_drained_ring_gives_every_event_once(void) {
    static int16_t ring_samples[256];
    ew_step_t expected[MAX_STEPS];
    const size_t count = expected_steps(expected);
    model_t model = fresh_model();
    ew_ring_t ring;
    int16_t chunk[100];
    void *memory;
    ew_pipeline_t *pipeline = create(&memory, &model);
    reported = 0;
    CHECK(ew_ring_init(&ring, ring_samples, 256) == EW_OK);
    for (size_t start = 0; start < VECTOR_SAMPLES;) {
        const size_t left = VECTOR_SAMPLES - start;
        start += ew_ring_write(&ring, SAMPLES + start, left < 200 ? left : 200);
        CHECK(ew_pipeline_drain(pipeline, &ring, chunk, 100, count_event, expected) == EW_OK);
        CHECK(ew_ring_available(&ring) == 0);
    }
    CHECK(ew_ring_lost(&ring) == 0 && model.calls == count);
    for (; reported < count; ++reported) {
        CHECK(!expected[reported].detected);
    }
    free(memory);
}

int main(void) {
    for (uint32_t i = 0; i < 256; ++i) {
        probabilities[i] = (uint16_t)(i * 257 ^ (i >> 3));
    }
    the_quantizer_follows_its_formula_at_all_limits();
    sums_and_distances_of_events_are_those_of_a_naive_count();
    every_chunking_gives_the_specified_steps();
    a_failed_model_stops_everything_until_reset();
    wrong_arguments_are_refused();
    the_self_test_finds_any_one_wrong_value();
    a_drained_ring_gives_every_event_once();
    return 0;
}
