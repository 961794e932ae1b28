/* SPDX-License-Identifier: Apache-2.0 */
/* Counters near their limits: nothing but their own value tells that they passed a limit. */
#include "ew_pipeline.c" /* its structure is private */

#include "check.h"
#include "frontend_tables.h"

enum { FRAMES_PER_STEP = 3, SECONDS = 4, SAMPLES = 16000 * SECONDS, MOST_STEPS = 200 };

static uint16_t probabilities[256];
static int16_t samples[SAMPLES];

static ew_status_t infer(void *context, const int8_t *features, int8_t *output) {
    uint32_t *state = context;
    for (int i = 0; i < FRAMES_PER_STEP * EW_FRONTEND_CHANNELS; ++i) {
        *state = (*state * 31 + (uint32_t)(features[i] + 128)) % 65521;
    }
    *output = (int8_t)((int32_t)(*state >> 8) - 128);
    return EW_OK;
}

typedef struct {
    ew_step_t steps[MOST_STEPS];
    size_t count;
} record_t;

static void note(void *context, const ew_step_t *step) {
    record_t *record = context;
    CHECK(record->count < MOST_STEPS);
    record->steps[record->count++] = *step;
}

/* Events of the samples through a ring whose positions, and a pipeline whose count of samples, start at these values. */
static record_t events_from(uint32_t position, uint32_t lost, uint64_t taken, uint32_t refractory) {
    const ew_pipeline_config_t config = {
        .frames_per_step = FRAMES_PER_STEP,
        .channels = EW_FRONTEND_CHANNELS,
        .multiplier = 1640,
        .shift = 12,
        .zero_point = -128,
        .window = 3,
        .cutoff_sum = 102400,
        .refractory_steps = refractory,
        .probabilities = probabilities,
    };
    static uint8_t memory[1 << 15] __attribute__((aligned(EW_ALIGNMENT)));
    static int16_t storage[4096];
    ew_pipeline_t *pipeline = NULL;
    ew_ring_t ring;
    uint32_t state = 1;
    int16_t chunk[479];
    record_t record = {.count = 0};
    CHECK(ew_pipeline_init(memory, sizeof memory, &EW_FRONTEND_TABLES, &config, infer, &state, &pipeline) == EW_OK);
    CHECK(ew_ring_init(&ring, storage, 4096) == EW_OK);
    ring.written = ring.read = position;
    ring.lost = lost;
    pipeline->samples = taken;
    for (size_t start = 0; start < SAMPLES;) {
        const size_t left = SAMPLES - start;
        start += ew_ring_write(&ring, samples + start, left < 1000 ? left : 1000);
        CHECK(ew_pipeline_drain(pipeline, &ring, chunk, 479, note, &record) == EW_OK);
    }
    CHECK(ew_ring_lost(&ring) == lost && ew_ring_available(&ring) == 0);
    CHECK(ring.written == (uint32_t)(position + SAMPLES));
    int16_t extra[4100] = {0};
    CHECK(ew_ring_write(&ring, extra, 4100) == 4096 && ew_ring_lost(&ring) == (uint32_t)(lost + 4));
    return record;
}

static void events_do_not_depend_on_where_counters_start(void) {
    const uint32_t positions[] = {1u << 31, UINT32_MAX - 100, UINT32_MAX - SAMPLES / 2, UINT32_MAX};
    /* A board counts samples in 64 bits from reset: 2^32 are 74 h of audio, 2^64 are 36 million years. */
    const uint64_t takens[] = {UINT32_MAX - 1000u, (uint64_t)1 << 32, INT64_MAX - 1000, UINT64_MAX - SAMPLES};
    const uint32_t refractory[] = {2, 1u << 31, UINT32_MAX};
    for (size_t r = 0; r < sizeof refractory / sizeof *refractory; ++r) {
        const record_t expected = events_from(0, 0, 0, refractory[r]);
        CHECK(refractory[r] == 2 ? expected.count > 5 : expected.count == 1);
        for (size_t p = 0; p < sizeof positions / sizeof *positions; ++p) {
            for (size_t t = 0; t < sizeof takens / sizeof *takens; ++t) {
                const record_t found = events_from(positions[p], UINT32_MAX - 2, takens[t], refractory[r]);
                CHECK(found.count == expected.count);
                for (size_t i = 0; i < found.count; ++i) {
                    CHECK(found.steps[i].output == expected.steps[i].output);
                    CHECK(found.steps[i].sum == expected.steps[i].sum);
                    CHECK(found.steps[i].sample_index == expected.steps[i].sample_index + takens[t]);
                }
            }
        }
    }
}

int main(void) {
    uint32_t state = 1;
    for (uint32_t i = 0; i < 256; ++i) {
        probabilities[i] = (uint16_t)(i * 257 ^ (i >> 3));
    }
    for (size_t i = 0; i < SAMPLES; ++i) {
        state = state * 1664525 + 1013904223;
        samples[i] = (int16_t)((int32_t)(state >> 16) % (int32_t)(10 + 8 * (i / 400)));
    }
    events_do_not_depend_on_where_counters_start();
    return 0;
}
