/* SPDX-License-Identifier: Apache-2.0 */
/* Any window, cutoff, refractory time and probabilities: sums and events are those of a naive count. */
#include "ew_pipeline.h"
#include "fuzz.h"

enum { MOST = 2048 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input_t input = {data, size};
    const uint32_t window = take_near(&input, 1, EW_SMOOTHER_MAX_WINDOW);
    const uint32_t cutoff = take_near(&input, 0, EW_SMOOTHER_MAX_WINDOW * EW_PROBABILITY_ONE);
    const uint32_t refractory = take_near(&input, 0, 40);
    ew_smoother_t smoother;
    memset(&smoother, 0xA5, sizeof smoother);
    CHECK(ew_smoother_init(NULL, window, cutoff, refractory) == EW_ERROR_NULL);
    const ew_status_t status = ew_smoother_init(&smoother, window, cutoff, refractory);
    CHECK((status == EW_OK) == (window >= 1 && window <= EW_SMOOTHER_MAX_WINDOW));
    uint16_t values[MOST];
    const size_t count = input.left / 2 < MOST ? input.left / 2 : MOST;
    for (int round = 0; round < 2 && status == EW_OK; ++round) {
        const uint8_t *bytes = input.bytes;
        int64_t last = -1;
        for (size_t step = 0; step < count; ++step) {
            memcpy(&values[step], bytes + 2 * step, 2);
            uint32_t expected = 0, sum = 1;
            for (size_t back = 0; back < window && back <= step; ++back) {
                expected += values[step - back];
            }
            const bool event = expected >= cutoff && (last < 0 || (int64_t)step - last >= (int64_t)refractory);
            CHECK(ew_smoother_push(&smoother, values[step], &sum) == event && sum == expected);
            last = event ? (int64_t)step : last;
        }
        ew_smoother_reset(&smoother);
    }
    return 0;
}
