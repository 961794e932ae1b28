/* SPDX-License-Identifier: Apache-2.0 */
/* Any multiplier, shift and zero point are refused or give the formula's value of any features. */
#include "ew_pipeline.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input_t input = {data, size};
    ew_quantizer_t quantizer;
    quantizer.multiplier = take_word(&input);
    quantizer.shift = take_near(&input, 1, EW_QUANTIZER_MAX_SHIFT);
    quantizer.zero_point = (int32_t)(take_near(&input, 0, 255) - 128u);
    CHECK(ew_quantizer_check(NULL) == EW_ERROR_NULL);
    const bool good = quantizer.shift >= 1 && quantizer.shift <= EW_QUANTIZER_MAX_SHIFT &&
                      quantizer.zero_point >= -128 && quantizer.zero_point <= 127;
    CHECK(ew_quantizer_check(&quantizer) == (good ? EW_OK : EW_ERROR_ARGUMENT));
    const size_t n = good ? input.left / 2 : 0;
    uint16_t *features = block(n * sizeof *features);
    int8_t *output = block(n);
    take(&input, features, n * sizeof *features);
    if (good) {
        ew_quantizer_apply(&quantizer, features, n, output);
    }
    for (size_t i = 0; i < n; ++i) {
        const uint64_t product = (uint64_t)features[i] * quantizer.multiplier;
        const uint64_t rounded = (product >> quantizer.shift) + ((product >> (quantizer.shift - 1)) & 1);
        const int64_t value = (int64_t)(rounded < 1000 ? rounded : 1000) + quantizer.zero_point;
        CHECK(output[i] == (value > 127 ? 127 : value));
    }
    free(features);
    free(output);
    return 0;
}
