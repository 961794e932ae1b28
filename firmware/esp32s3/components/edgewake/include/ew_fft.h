/* Real FFT on int16, scaled by 1/size, bit for bit kissfft's 16-bit fixed-point transform. */
#ifndef EW_FFT_H
#define EW_FFT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Energies of the bins `first` to `last` (both included) of a real signal.
 *   size   samples, a power of two from 64 to 2048
 *   order, twiddles, real_twiddles   as in ew_frontend_tables_t
 *   work   int16[2 size]: in the first half the input, even samples and then odd samples; destroyed
 *   energy uint32[size/2 + 1] out, re^2 + im^2 (below 2^31) in the bins first to last, others untouched
 *   first  1 to last; last at most size/2 - 1 */
void ew_fft_energy(uint32_t size, const uint16_t *order, const int16_t *twiddles,
                   const int16_t *real_twiddles, int16_t *work, uint32_t *energy, uint32_t first,
                   uint32_t last);

#ifdef __cplusplus
}
#endif

#endif /* EW_FFT_H */
