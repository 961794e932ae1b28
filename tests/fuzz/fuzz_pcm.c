/* SPDX-License-Identifier: Apache-2.0 */
/* Microphone words of any bits and count give the samples of the formula, in place too. */
#include "ew_pcm.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input_t input = {data, size};
    const uint32_t gain_shift = take_near(&input, 0, EW_PCM_MAX_GAIN_SHIFT);
    const uint8_t in_place = take_byte(&input);
    const size_t n = input.left / sizeof(int32_t);
    int32_t *words = block(n * sizeof *words), *copy = block(n * sizeof *copy);
    take(&input, words, n * sizeof *words);
    memcpy(copy, words, n * sizeof *copy);
    int16_t *samples = in_place % 2 ? (int16_t *)(void *)words : block(n * sizeof *samples);
    CHECK(ew_pcm_from_words(NULL, n, gain_shift, samples) == EW_ERROR_NULL);
    CHECK(ew_pcm_from_words(words, n, gain_shift, NULL) == EW_ERROR_NULL);
    const ew_status_t status = ew_pcm_from_words(words, n, gain_shift, samples);
    CHECK(status == (gain_shift > EW_PCM_MAX_GAIN_SHIFT ? EW_ERROR_ARGUMENT : EW_OK));
    for (size_t i = 0; i < n && status == EW_OK; ++i) {
        const int64_t scaled = (copy[i] * ((int64_t)1 << gain_shift)) >> 16;
        const int64_t capped = scaled > INT16_MAX ? INT16_MAX : scaled;
        int16_t found;
        memcpy(&found, (const uint8_t *)samples + i * sizeof found, sizeof found);
        CHECK(found == (capped < INT16_MIN ? INT16_MIN : capped));
    }
    if (samples != (int16_t *)(void *)words) {
        free(samples);
    }
    free(words);
    free(copy);
    return 0;
}
