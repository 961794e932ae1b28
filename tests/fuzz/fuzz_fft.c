/* SPDX-License-Identifier: Apache-2.0 */
/* Any samples and any constants within their documented ranges: no undefined arithmetic, energies below 2^31, and no
 * other element is written. */
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
    int16_t *factors = take_twiddles(&input, n / 2), *real = take_factors(&input, n / 2);
    uint16_t *order = take_order(&input, n / 2);
    int16_t *work = block(2 * n * sizeof *work), *samples = filled(&input, n * sizeof *samples, 2 * n);
    memcpy(work, samples, n * sizeof *work);
    uint32_t *energy = block((n / 2 + 1) * sizeof *energy);
    const ew_fft_tables_t tables = {n, order, factors, real};
    ew_fft_energy(&tables, work, energy, first, last);
    for (uint32_t bin = 0; bin <= n / 2; ++bin) {
        CHECK(bin < first || bin > last ? energy[bin] == 0xA5A5A5A5u : energy[bin] < 1u << 31);
    }
    free(factors);
    free(real);
    free(order);
    free(work);
    free(samples);
    free(energy);
    return 0;
}
