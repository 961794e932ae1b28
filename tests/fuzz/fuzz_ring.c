/* SPDX-License-Identifier: Apache-2.0 */
/* Any writes and reads, from any position of the 32-bit counters on: samples come in order, and losses are counted. */
#include "ew_ring.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input_t input = {data, size};
    const uint32_t exponent = take_byte(&input) % 10;
    const size_t capacity = take_byte(&input) % 8 == 0 ? take_word(&input) % 512 : (size_t)2 << exponent;
    int16_t *storage = block(capacity * sizeof *storage);
    ew_ring_t ring;
    memset(&ring, 0xA5, sizeof ring);
    CHECK(ew_ring_init(NULL, storage, capacity) == EW_ERROR_NULL);
    CHECK(ew_ring_init(&ring, NULL, capacity) == EW_ERROR_NULL);
    const ew_status_t status = ew_ring_init(&ring, storage, capacity);
    CHECK((status == EW_OK) == (capacity >= 2 && (capacity & (capacity - 1)) == 0));
    if (status == EW_OK) {
        const uint32_t position = take_word(&input);
        ring.written = ring.read = position;
        ring.lost = take_word(&input);
        uint32_t lost = ring.lost, kept = 0;
        uint16_t next = 0, expected = 0;
        while (input.left > 0) {
            const uint8_t action = take_byte(&input);
            const size_t n = (size_t)take_byte(&input) * (action / 2 % 4 + 1);
            int16_t *samples = block(n * sizeof *samples);
            if (action % 2 == 0) {
                for (size_t i = 0; i < n; ++i) {
                    samples[i] = (int16_t)(uint16_t)(next + i);
                }
                const size_t room = capacity - kept, count = n < room ? n : room;
                CHECK(ew_ring_write(&ring, n == 0 ? NULL : samples, n) == count);
                next = (uint16_t)(next + count); /* what was lost is written again, so that reads are in order */
                kept += (uint32_t)count;
                lost += (uint32_t)(n - count);
            } else {
                const size_t count = n < kept ? n : kept;
                CHECK(ew_ring_read(&ring, samples, n) == count);
                for (size_t i = 0; i < count; ++i) {
                    CHECK((uint16_t)samples[i] == expected++);
                }
                kept -= (uint32_t)count;
            }
            CHECK(ew_ring_available(&ring) == kept && ew_ring_lost(&ring) == lost);
            free(samples);
        }
    }
    free(storage);
    return 0;
}
