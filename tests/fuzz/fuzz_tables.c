/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of any numbers are refused, or make a frontend that stays in its memory; what is in the arrays is of any value
 * within its documented range. */
#include "ew_frontend.h"
#include "twiddles.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input_t input = {data, size};
    ew_frontend_tables_t tables;
    memset(&tables, 0, sizeof tables);
    const uint32_t fft = 6 + take_byte(&input) % 3;
    tables.fft_size = take_byte(&input) % 8 == 0 ? take_word(&input) : 1u << fft;
    tables.window_samples = take_near(&input, 1, 1u << fft);
    tables.step_samples = take_near(&input, 1, 64);
    tables.channels = take_near(&input, 1, 8);
    tables.noise_reduction = take_byte(&input) % 2;
    tables.smoothing_bits = take_near(&input, 0, 31);
    tables.even_smoothing = take_near(&input, 0, 1 << EW_FRONTEND_NOISE_BITS);
    tables.odd_smoothing = take_near(&input, 0, 1 << EW_FRONTEND_NOISE_BITS);
    tables.min_signal_remaining = take_near(&input, 0, 1 << EW_FRONTEND_NOISE_BITS);
    tables.pcan = take_byte(&input) % 2;
    tables.snr_shift = take_near(&input, 0, 63);
    tables.correction_bits = take_near(&input, 0, 31);
    tables.scale_shift = take_near(&input, 0, 10);
    /* Arrays as long as the documentation asks for; where the size is refused, one that is never read. */
    const uint32_t n = tables.fft_size <= EW_FRONTEND_MAX_FFT ? tables.fft_size : 64, half = n / 2;
    const size_t window = tables.window_samples <= EW_FRONTEND_MAX_FFT ? tables.window_samples : 1;
    const size_t bands = tables.channels <= EW_FRONTEND_MAX_CHANNELS ? tables.channels + 2 : 2;
    uint16_t *edges = filled(&input, bands * sizeof *edges, 16);
    for (size_t i = 0; i < bands && edges[bands - 1] % 8 != 0; ++i) {
        edges[i] = (uint16_t)((i > 0 ? edges[i - 1] : 1) + edges[i] % (half / bands + 1));
    }
    const bool ordered = edges[bands - 1] > edges[0] && edges[bands - 1] <= half;
    const size_t bins = ordered ? (size_t)edges[bands - 1] - edges[0] : 1;
    int16_t *twiddles = take_twiddles(&input, half), *real = take_factors(&input, half);
    uint16_t *order = take_order(&input, half);
    tables.bands = edges;
    int16_t *shape = filled(&input, window * sizeof *shape, 16);
    for (size_t i = 0; i < window; ++i) {
        shape[i] = (int16_t)(shape[i] / (1 << (15 - EW_FRONTEND_WINDOW_BITS)));
    }
    tables.window = shape;
    tables.fft_order = order;
    tables.fft_twiddles = twiddles;
    tables.real_twiddles = real;
    tables.weights = filled(&input, bins * sizeof(uint16_t), 16);
    tables.unweights = filled(&input, bins * sizeof(uint16_t), 16);
    tables.gain_lut = filled(&input, EW_FRONTEND_GAIN_ENTRIES * sizeof(int16_t), 16);
    tables.log_lut = filled(&input, EW_FRONTEND_LOG_ENTRIES * sizeof(uint16_t), 16);
    CHECK(ew_frontend_tables_size() == sizeof tables && ew_frontend_size(NULL) == 0);
    const size_t bytes = ew_frontend_size(&tables);
    void *memory = block(bytes);
    ew_frontend_t *frontend = NULL;
    const ew_status_t status = ew_frontend_init(memory, bytes, &tables, &frontend);
    CHECK((bytes == 0) == (status == EW_ERROR_ARGUMENT));
    CHECK(ew_frontend_init(NULL, bytes, &tables, &frontend) == EW_ERROR_NULL);
    if (status == EW_OK) {
        ew_frontend_t *none = NULL;
        CHECK(ew_frontend_init(memory, bytes - 1, &tables, &none) == EW_ERROR_MEMORY && none == NULL);
        const size_t count = tables.window_samples + 2 * (size_t)tables.step_samples;
        int16_t *samples = filled(&input, count * sizeof *samples, 64);
        uint16_t *frames = block(3 * tables.channels * sizeof *frames);
        size_t written = 0;
        CHECK(ew_frontend_run(frontend, samples, count, frames, 3, &written) == EW_OK && written == 3);
        free(samples);
        free(frames);
    }
    free(memory);
    free(edges);
    free(twiddles);
    free(real);
    free(order);
    free(shape);
    free((void *)(uintptr_t)tables.weights);
    free((void *)(uintptr_t)tables.unweights);
    free((void *)(uintptr_t)tables.gain_lut);
    free((void *)(uintptr_t)tables.log_lut);
    return 0;
}
