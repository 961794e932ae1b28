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

/** Constants of one transform size; the toolchain computes them. */
typedef struct {
    uint32_t size;                /**< Samples, a power of two, 64 to 2048. */
    const uint16_t *order;        /**< uint16[size/32]: frequency of each block when 16 moments are left in it. */
    const int16_t *twiddles;      /**< int16, Q15, in the order of use: for each radix-4 stage but the first,
                                       blocks of [3 powers][re, im][n]. */
    const int16_t *real_twiddles; /**< int16[2][size/4], Q15, re then im: bin k is recombined with element k - 1. */
} ew_fft_tables_t;

/**
 * @brief Energies of the bins of a real signal.
 *
 * The output is re^2 + im^2 of the transform divided by `size`, below 2^31.
 *
 * @param[in]     tables  constants of the transform; not checked
 * @param[in,out] work    int16[2 size], full range: the even samples, then the odd samples, then size values of
 *                        scratch; all of it is overwritten
 * @param[out]    energy  uint32[size/2 + 1]; only the elements `first` to `last` are written
 * @param[in]     first   first bin, at least 1
 * @param[in]     last    last bin, included, first to size/2 - 1
 */
void ew_fft_energy(const ew_fft_tables_t *tables, int16_t *work, uint32_t *energy, uint32_t first, uint32_t last);

#ifdef __cplusplus
}
#endif

#endif /* EW_FFT_H */
