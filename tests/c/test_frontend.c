/* SPDX-License-Identifier: Apache-2.0 */
/* The C frontend with emitted tables equals the numpy reference in any chunking, and checks its arguments. */
#include <string.h>

#include "check.h"
#include "ew_frontend.h"
#include "frontend_tables.h"
#include "frontend_vectors.h"

/* A block of exactly the size asked for, so that AddressSanitizer sees the first byte beyond. */
static ew_frontend_t *create(void **memory) {
    const size_t bytes = ew_frontend_size(&EW_FRONTEND_TABLES);
    ew_frontend_t *frontend = NULL;
    *memory = malloc(bytes);
    CHECK(bytes != 0 && *memory != NULL);
    memset(*memory, 0xA5, bytes);
    CHECK(ew_frontend_init(*memory, bytes, &EW_FRONTEND_TABLES, &frontend) == EW_OK);
    return frontend;
}

/* Feeds n samples; returns how many frames they completed, each checked against FEATURES from `frame` on. */
static size_t feed(ew_frontend_t *frontend, const int16_t *samples, size_t n, size_t frame) {
    uint16_t features[EW_FRONTEND_CHANNELS];
    size_t completed = 0;
    while (n != 0) {
        size_t consumed = 0;
        bool ready = false;
        CHECK(ew_frontend_process(frontend, samples, n, &consumed, features, &ready) == EW_OK);
        CHECK(consumed >= 1 && consumed <= n);
        samples += consumed;
        n -= consumed;
        if (ready) {
            CHECK(frame + completed < VECTOR_FRAMES);
            CHECK(memcmp(features, FEATURES[frame + completed], sizeof(features)) == 0);
            ++completed;
        }
    }
    return completed;
}

static void feed_all(ew_frontend_t *frontend, size_t chunk) {
    size_t frames = 0;
    for (size_t start = 0; start < VECTOR_SAMPLES; start += chunk) {
        const size_t left = VECTOR_SAMPLES - start;
        frames += feed(frontend, SAMPLES + start, left < chunk ? left : chunk, frames);
    }
    CHECK(frames == VECTOR_FRAMES);
}

static void every_chunk_size_gives_the_reference_after_each_reset(void) {
    void *memory;
    ew_frontend_t *frontend = create(&memory);
    for (size_t chunk = 1; chunk <= 481; ++chunk) {
        feed_all(frontend, chunk);
        CHECK(ew_frontend_reset(frontend) == EW_OK);
    }
    feed_all(frontend, VECTOR_SAMPLES);
    free(memory);
}

static void interleaved_frontends_share_no_state(void) {
    void *memory, *other;
    ew_frontend_t *ahead = create(&memory), *behind = create(&other);
    const size_t lag = 1234 < VECTOR_SAMPLES ? 1234 : VECTOR_SAMPLES;
    size_t frames_ahead = feed(ahead, SAMPLES, lag, 0), frames_behind = 0;
    for (size_t i = 0; i < VECTOR_SAMPLES; ++i) {
        if (lag + i < VECTOR_SAMPLES) {
            frames_ahead += feed(ahead, SAMPLES + lag + i, 1, frames_ahead);
        }
        frames_behind += feed(behind, SAMPLES + i, 1, frames_behind);
    }
    CHECK(frames_ahead == VECTOR_FRAMES && frames_behind == VECTOR_FRAMES);
    free(memory);
    free(other);
}

static void run_gives_all_frames_or_changes_nothing(void) {
    void *memory;
    ew_frontend_t *frontend = create(&memory);
    uint16_t *features = malloc(VECTOR_FRAMES * EW_FRONTEND_CHANNELS * sizeof(uint16_t));
    size_t frames = 99;
    CHECK(features != NULL);
    CHECK(ew_frontend_run(frontend, SAMPLES, VECTOR_SAMPLES, features, VECTOR_FRAMES - 1, &frames) == EW_ERROR_MEMORY);
    CHECK(frames == 0);
    CHECK(ew_frontend_run(frontend, SAMPLES, EW_FRONTEND_WINDOW_SAMPLES, NULL, 0, &frames) == EW_ERROR_MEMORY);
    CHECK(ew_frontend_run(frontend, NULL, 0, NULL, 0, &frames) == EW_OK && frames == 0);
    CHECK(ew_frontend_run(frontend, SAMPLES, VECTOR_SAMPLES, features, SIZE_MAX, &frames) == EW_OK);
    CHECK(frames == VECTOR_FRAMES);
    CHECK(memcmp(features, FEATURES, sizeof(FEATURES)) == 0);
    CHECK(ew_frontend_reset(frontend) == EW_OK);
    CHECK(ew_frontend_run(frontend, SAMPLES, EW_FRONTEND_WINDOW_SAMPLES - 1, NULL, 0, &frames) == EW_OK);
    CHECK(ew_frontend_run(frontend, SAMPLES + EW_FRONTEND_WINDOW_SAMPLES - 1,
                          VECTOR_SAMPLES - EW_FRONTEND_WINDOW_SAMPLES + 1, features, VECTOR_FRAMES, &frames) == EW_OK);
    CHECK(frames == VECTOR_FRAMES);
    CHECK(memcmp(features, FEATURES, sizeof(FEATURES)) == 0);
    free(features);
    free(memory);
}

static void wrong_arguments_are_refused(void) {
    void *memory;
    ew_frontend_t *frontend = create(&memory), *made = NULL;
    const size_t bytes = ew_frontend_size(&EW_FRONTEND_TABLES);
    uint16_t features[EW_FRONTEND_CHANNELS];
    size_t consumed, frames;
    bool ready;
    CHECK(ew_frontend_init(NULL, bytes, &EW_FRONTEND_TABLES, &made) == EW_ERROR_NULL);
    CHECK(ew_frontend_init(memory, bytes, NULL, &made) == EW_ERROR_NULL);
    CHECK(ew_frontend_init(memory, bytes, &EW_FRONTEND_TABLES, NULL) == EW_ERROR_NULL);
    CHECK(ew_frontend_init(memory, bytes - 1, &EW_FRONTEND_TABLES, &made) == EW_ERROR_MEMORY);
    CHECK(ew_frontend_init((uint8_t *)memory + 8, bytes, &EW_FRONTEND_TABLES, &made) == EW_ERROR_ALIGNMENT);
    CHECK(ew_frontend_process(NULL, SAMPLES, 1, &consumed, features, &ready) == EW_ERROR_NULL);
    CHECK(ew_frontend_process(frontend, NULL, 1, &consumed, features, &ready) == EW_ERROR_NULL);
    CHECK(ew_frontend_process(frontend, SAMPLES, 1, NULL, features, &ready) == EW_ERROR_NULL);
    CHECK(ew_frontend_process(frontend, SAMPLES, 1, &consumed, NULL, &ready) == EW_ERROR_NULL);
    CHECK(ew_frontend_process(frontend, SAMPLES, 1, &consumed, features, NULL) == EW_ERROR_NULL);
    CHECK(ew_frontend_run(frontend, NULL, 1, features, 1, &frames) == EW_ERROR_NULL);
    CHECK(ew_frontend_run(frontend, SAMPLES, 1, NULL, 1, &frames) == EW_ERROR_NULL);
    CHECK(ew_frontend_run(frontend, SAMPLES, 1, features, 1, NULL) == EW_ERROR_NULL);
    CHECK(ew_frontend_reset(NULL) == EW_ERROR_NULL);
    free(memory);
}

#define REFUSED(change)                                                                                                \
    do {                                                                                                               \
        ew_frontend_tables_t tables = EW_FRONTEND_TABLES;                                                              \
        change;                                                                                                        \
        CHECK(ew_frontend_size(&tables) == 0);                                                                         \
        CHECK(ew_frontend_init(memory, bytes, &tables, &made) == EW_ERROR_ARGUMENT);                                   \
    } while (0)

static void wrong_tables_are_refused(void) {
    void *memory;
    ew_frontend_t *made = create(&memory);
    const size_t bytes = ew_frontend_size(&EW_FRONTEND_TABLES);
    uint16_t bands[EW_FRONTEND_CHANNELS + 2];
    CHECK(ew_frontend_size(NULL) == 0);
    REFUSED(tables.window = NULL);
    REFUSED(tables.fft_order = NULL);
    REFUSED(tables.fft_twiddles = NULL);
    REFUSED(tables.real_twiddles = NULL);
    REFUSED(tables.bands = NULL);
    REFUSED(tables.weights = NULL);
    REFUSED(tables.unweights = NULL);
    REFUSED(tables.log_lut = NULL);
    REFUSED((tables.pcan = 1, tables.gain_lut = NULL));
    REFUSED(tables.fft_size = 32);
    REFUSED(tables.fft_size = 4096);
    REFUSED(tables.fft_size += 2);
    REFUSED(tables.window_samples = tables.fft_size + 1);
    REFUSED(tables.window_samples = 0);
    REFUSED(tables.step_samples = 0);
    REFUSED(tables.step_samples = tables.window_samples + 1);
    REFUSED(tables.channels = 0);
    REFUSED(tables.channels = EW_FRONTEND_MAX_CHANNELS + 1);
    REFUSED(tables.smoothing_bits = 32);
    REFUSED(tables.even_smoothing = (1u << 14) + 1);
    REFUSED(tables.odd_smoothing = (1u << 14) + 1);
    REFUSED(tables.min_signal_remaining = (1u << 14) + 1);
    REFUSED(tables.snr_shift = 64);
    REFUSED(tables.correction_bits = 32);
    REFUSED(tables.scale_shift = 11);
    memcpy(bands, EW_FRONTEND_TABLES.bands, sizeof(bands));
    bands[0] = 0;
    REFUSED(tables.bands = bands);
    bands[0] = EW_FRONTEND_TABLES.bands[1] + 1;
    REFUSED(tables.bands = bands);
    memcpy(bands, EW_FRONTEND_TABLES.bands, sizeof(bands));
    bands[EW_FRONTEND_CHANNELS + 1] = (uint16_t)(EW_FRONTEND_TABLES.fft_size / 2 + 1);
    REFUSED(tables.bands = bands);
    free(memory);
}

int main(void) {
    every_chunk_size_gives_the_reference_after_each_reset();
    interleaved_frontends_share_no_state();
    run_gives_all_frames_or_changes_nothing();
    wrong_arguments_are_refused();
    wrong_tables_are_refused();
    return 0;
}
