/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file ew_pcm.h
 * @brief Microphone words of 32 bits become int16 samples: a DC offset removed, a gain by shifting, with saturation.
 */
#ifndef EW_PCM_H
#define EW_PCM_H

#include <stddef.h>
#include <stdint.h>

#include "ew_status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EW_PCM_MAX_GAIN_SHIFT 16

/**
 * @brief Converts words of a microphone that puts its sample into the upper bits of a 32-bit slot (INMP441,
 *        ICS-43434, SPH0645).
 *
 * samples[i] = saturate(floor(words[i] / 2^(16 - gain_shift)))
 *
 * @param[in]  words       int32[n], full range
 * @param[in]  n           count of words
 * @param[in]  gain_shift  gain in doublings (6 dB each), 0 to EW_PCM_MAX_GAIN_SHIFT
 * @param[out] samples     int16[n], -32768 to 32767; may be the same memory as `words`
 * @return EW_OK; EW_ERROR_NULL; EW_ERROR_ARGUMENT when gain_shift is out of range
 */
ew_status_t ew_pcm_from_words(const int32_t *words, size_t n, uint32_t gain_shift, int16_t *samples);

/** State of ew_pcm_remove_dc(), all zero before the first block. */
typedef struct {
    int64_t offset; /**< In units of 1 / 256. */
    int32_t started;
} ew_pcm_dc_t;

/**
 * @brief Removes a slowly changing offset: a high-pass filter of first order at rate / (2 pi 256), 10 Hz at 16 kHz.
 *
 * words[i] = saturate(words[i] - floor(offset)), then offset += that difference / 256; the first word of all is the
 * first offset, so that nothing settles.
 *
 * @param[in,out] dc     the filter's state
 * @param[in,out] words  int32[n], full range
 * @param[in]     n      count of words
 * @return EW_OK; EW_ERROR_NULL
 */
ew_status_t ew_pcm_remove_dc(ew_pcm_dc_t *dc, int32_t *words, size_t n);

#ifdef __cplusplus
}
#endif

#endif /* EW_PCM_H */
