/* Microphone words of 32 bits become int16 samples: a gain by shifting, saturated, never wrapped. */
#ifndef EW_PCM_H
#define EW_PCM_H

#include <stddef.h>
#include <stdint.h>

#include "ew_status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EW_PCM_MAX_GAIN_SHIFT 16

/* Convert n words of a microphone that puts its sample into the upper bits of a 32-bit slot (INMP441,
 * ICS-43434, ...).
 *   words       int32[n]
 *   gain_shift  0 to EW_PCM_MAX_GAIN_SHIFT: a sample is floor(word / 2^(16 - gain_shift)), saturated to int16
 *   samples     int16[n]; may be the same memory as `words`
 * Returns EW_OK, EW_ERROR_NULL or EW_ERROR_ARGUMENT. */
ew_status_t ew_pcm_from_words(const int32_t *words, size_t n, uint32_t gain_shift, int16_t *samples);

#ifdef __cplusplus
}
#endif

#endif /* EW_PCM_H */
