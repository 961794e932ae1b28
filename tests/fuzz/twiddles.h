/* SPDX-License-Identifier: Apache-2.0 */
/* Constants of a transform from a fuzzer's bytes, as many as the transform reads and within their documented ranges. */
#ifndef EDGEWAKE_FUZZ_TWIDDLES_H
#define EDGEWAKE_FUZZ_TWIDDLES_H

#include "fuzz.h"

static inline int16_t *take_factors(input_t *input, size_t count) {
    int16_t *values = filled(input, count * sizeof *values, 48);
    for (size_t i = 0; i < count; ++i) {
        values[i] = values[i] == INT16_MIN ? -INT16_MAX : values[i];
    }
    return values;
}

/* For a transform of 2 half samples: for each radix-4 stage but the first, three powers of each moment or frequency. */
static inline int16_t *take_twiddles(input_t *input, size_t half) {
    size_t m = (half & 0x55555555u) != 0 ? 4 : 2, rest = half / m, count = 0;
    for (; rest > 16; rest /= 4, m *= 4) {
        count += 6 * m * (rest / 4);
    }
    for (; m < half; m *= 4) {
        count += 6 * m;
    }
    return take_factors(input, count);
}

/* uint16[half/16]: an element of each is a frequency. */
static inline uint16_t *take_order(input_t *input, size_t half) {
    const size_t count = half / 16;
    uint16_t *order = filled(input, count * sizeof *order, 128);
    for (size_t i = 0; i < count; ++i) {
        order[i] = (uint16_t)(order[i] % count);
    }
    return order;
}

#endif /* EDGEWAKE_FUZZ_TWIDDLES_H */
