/* SPDX-License-Identifier: Apache-2.0 */
/* Any samples in any chunks: the frames are those of one call, and too little room changes nothing. */
#include "ew_frontend.h"
#include "frontend_tables.h"
#include "fuzz.h"

enum { CHANNELS = EW_FRONTEND_CHANNELS };

static ew_frontend_t *create(void **memory) {
    const size_t bytes = ew_frontend_size(&EW_FRONTEND_TABLES);
    ew_frontend_t *frontend = NULL;
    *memory = block(bytes);
    CHECK(ew_frontend_init(*memory, bytes, &EW_FRONTEND_TABLES, &frontend) == EW_OK);
    return frontend;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input_t input = {data, size};
    const uint8_t chunks[4] = {take_byte(&input), take_byte(&input), take_byte(&input), take_byte(&input)};
    const size_t n = EW_FRONTEND_WINDOW_SAMPLES + take_byte(&input) % 8 * EW_FRONTEND_STEP_SAMPLES + chunks[0] % 3;
    int16_t *samples = filled(&input, n * sizeof *samples, 2 * n);
    const size_t expected = (n - EW_FRONTEND_WINDOW_SAMPLES) / EW_FRONTEND_STEP_SAMPLES + 1;
    void *memory, *other;
    ew_frontend_t *whole = create(&memory), *parts = create(&other);
    uint16_t *frames = block(expected * CHANNELS * sizeof *frames);
    size_t written = 77, done = 0;
    for (int round = 0; round < 2; ++round) {
        CHECK(ew_frontend_run(whole, samples, n, frames, expected - 1, &written) == EW_ERROR_MEMORY && written == 0);
        CHECK(ew_frontend_run(whole, samples, n, frames, expected, &written) == EW_OK && written == expected);
        done = 0;
        for (size_t start = 0, call = 0; start < n; ++call) {
            const size_t left = n - start, some = (size_t)chunks[call % 4] * 3;
            size_t taken = 1;
            bool ready = true;
            uint16_t *frame = block(CHANNELS * sizeof *frame);
            /* An empty chunk may have no samples at all. */
            CHECK(ew_frontend_process(parts, NULL, 0, &taken, frame, &ready) == EW_OK && taken == 0 && !ready);
            CHECK(ew_frontend_process(parts, samples + start, some < 1 || some > left ? left : some, &taken, frame,
                                      &ready) == EW_OK);
            CHECK(taken >= 1 && taken <= left);
            start += taken;
            if (ready) {
                CHECK(memcmp(frame, frames + done * CHANNELS, CHANNELS * sizeof *frame) == 0);
                ++done;
            }
            free(frame);
        }
        CHECK(done == expected);
        CHECK(ew_frontend_reset(whole) == EW_OK && ew_frontend_reset(parts) == EW_OK);
    }
    free(samples);
    free(frames);
    free(memory);
    free(other);
    return 0;
}
