/* SPDX-License-Identifier: Apache-2.0 */
/* Microphone words of 32 bits become int16 samples: a DC offset removed, a gain by shifting, with saturation. */
#include "ew_pcm.h"

#include <string.h>

ew_status_t ew_pcm_from_words(const int32_t *words, size_t n, uint32_t gain_shift, int16_t *samples) {
    if (words == NULL || samples == NULL) {
        return EW_ERROR_NULL;
    }
    if (gain_shift > EW_PCM_MAX_GAIN_SHIFT) {
        return EW_ERROR_ARGUMENT;
    }
    const uint32_t shift = 16 - gain_shift;
    for (size_t i = 0; i < n; i++) {
        /* Bytes are copied since `samples` may be the same memory: sample i never reaches a word after i. */
        int32_t word;
        memcpy(&word, (const char *)words + i * sizeof word, sizeof word);
        const int32_t shifted = word >> shift;
        const int32_t capped = shifted > INT16_MAX ? INT16_MAX : shifted;
        const int16_t sample = (int16_t)(capped < INT16_MIN ? INT16_MIN : capped);
        memcpy((char *)samples + i * sizeof sample, &sample, sizeof sample);
    }
    return EW_OK;
}

ew_status_t ew_pcm_remove_dc(ew_pcm_dc_t *dc, int32_t *words, size_t n) {
    if (dc == NULL || words == NULL) {
        return EW_ERROR_NULL;
    }
    if (dc->started == 0 && n > 0) {
        dc->offset = (int64_t)words[0] * 256;
        dc->started = 1;
    }
    for (size_t i = 0; i < n; i++) {
        const int64_t rest = words[i] - (dc->offset >> 8);
        const int64_t capped = rest > INT32_MAX ? INT32_MAX : rest;
        dc->offset += rest;
        words[i] = (int32_t)(capped < INT32_MIN ? INT32_MIN : capped);
    }
    return EW_OK;
}
