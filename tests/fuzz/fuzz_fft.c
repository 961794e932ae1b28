/* SPDX-License-Identifier: Apache-2.0 */
/* Any samples and any constants within their documented ranges: no undefined arithmetic, energies below 2^31, and
 * nothing is written beyond the bins. */
#include "ew_fft.h"
#include "ew_frontend.h"
#include "twiddles.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input_t input = {data, size};
    const uint8_t kind = take_byte(&input);
    /* Small sizes more often: they take less time. */
    const uint32_t n = (uint32_t)EW_FRONTEND_MIN_FFT << (kind % 16 < 12 ? kind % 2 : kind % 16 - 10);
    const uint32_t first = 1 + take_word(&input) % (n / 2 - 1);
    const uint32_t last = first + take_word(&input) % (n / 2 - first);
    const uint32_t shift = take_byte(&input) % 16;
    ew_twiddle_t *twiddles = (void *)take_factors(&input, 2 * 3 * n / 8);
    ew_twiddle_t *real_twiddles = (void *)take_factors(&input, 2 * n / 4);
    int16_t *samples = filled(&input, n * sizeof *samples, 2 * n);
    for (uint32_t i = 0; i < n; ++i) {
        samples[i] = (int16_t)(samples[i] >> shift);
    }
    ew_bin_t *bins = block(n / 2 * sizeof *bins);
    const ew_fft_tables_t tables = {n, twiddles, real_twiddles};
    ew_fft_energy(&tables, samples, shift, bins, first, last);
    for (uint32_t bin = first; bin <= last; ++bin) {
        CHECK(bins[bin].energy < 1u << 31);
    }
    free(twiddles);
    free(real_twiddles);
    free(samples);
    free(bins);
    return 0;
}
