/* Sums are those of the last W values with zeros before, and events are R steps apart: against a naive count. */
#include <stdbool.h>
#include <stdint.h>

#include "check.h"
#include "ew_smoother.h"

enum { STEPS = 400 };

static uint32_t state = 88172645;

static uint8_t random_value(void) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return (uint8_t)(state >> 11);
}

static void run(ew_smoother_t *smoother, uint32_t window, uint32_t cutoff, uint32_t refractory) {
    uint8_t values[STEPS];
    int64_t last_event = -1;
    for (uint32_t step = 0; step < STEPS; ++step) {
        values[step] = random_value();
        uint32_t expected = 0;
        for (uint32_t back = 0; back < window && back <= step; ++back) {
            expected += values[step - back];
        }
        const bool rested = last_event < 0 || (int64_t)step - last_event >= (int64_t)refractory;
        const bool event = expected >= cutoff && rested;
        uint32_t sum = 12345;
        CHECK(ew_smoother_push(smoother, values[step], &sum) == event);
        CHECK(sum == expected);
        last_event = event ? (int64_t)step : last_event;
    }
}

int main(void) {
    ew_smoother_t smoother;
    const uint32_t refractory[] = {0, 1, 2, 7, 1000, UINT32_MAX};
    for (uint32_t window = 1; window <= EW_SMOOTHER_MAX_WINDOW; ++window) {
        for (size_t r = 0; r < sizeof refractory / sizeof *refractory; ++r) {
            const uint32_t cutoff = window * 128;
            CHECK(ew_smoother_init(&smoother, window, cutoff, refractory[r]) == EW_OK);
            run(&smoother, window, cutoff, refractory[r]);
            ew_smoother_reset(&smoother);
            run(&smoother, window, cutoff, refractory[r]);
        }
    }
    CHECK(ew_smoother_init(&smoother, 0, 1, 1) == EW_ERROR_ARGUMENT);
    CHECK(ew_smoother_init(&smoother, EW_SMOOTHER_MAX_WINDOW + 1, 1, 1) == EW_ERROR_ARGUMENT);
    CHECK(ew_smoother_init(NULL, 1, 1, 1) == EW_ERROR_NULL);
    return 0;
}
