/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file ew_fft.h
 * @brief Real FFT of int16 samples, scaled by 1/size, bit for bit kissfft's 16-bit fixed-point transform.
 */
#ifndef EW_FFT_H
#define EW_FFT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A complex number of magnitude 1 in Q15. */
typedef struct {
    int16_t re, im;
} ew_twiddle_t;

/** One frequency: first its value, in the end its energy. */
typedef union {
    struct {
        int16_t re, im;
    } value;
    uint32_t energy;
} ew_bin_t;

/** Constants of one transform size; the toolchain computes them. */
typedef struct {
    uint32_t size;                     /**< Samples, a power of two, 64 to 2048. */
    const ew_twiddle_t *twiddles;      /**< [size/8][3]: of the last stage. Earlier ones take part of them. */
    const ew_twiddle_t *real_twiddles; /**< [size/4]: bin k is recombined with element k - 1. */
} ew_fft_tables_t;

/**
 * @brief Energies of the bins of a real signal.
 *
 * The output is re^2 + im^2 of the transform divided by `size`, below 2^31.
 *
 * @param[in]  tables   constants of the transform; not checked
 * @param[in]  samples  int16[size], -2^(15 - shift) to 2^(15 - shift) - 1
 * @param[in]  shift    each sample is multiplied by 2^shift first; 0 to 15
 * @param[out] bins     [size/2]; the energies of the bins `first` to `last`, the others are scratch
 * @param[in]  first    first bin, at least 1
 * @param[in]  last     last bin, included, first to size/2 - 1
 */
void ew_fft_energy(const ew_fft_tables_t *tables, const int16_t *samples, uint32_t shift, ew_bin_t *bins,
                   uint32_t first, uint32_t last);

#ifdef __cplusplus
}
#endif

#endif /* EW_FFT_H */
