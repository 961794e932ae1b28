/* Size queries: what a frontend needs follows from its tables alone, and wrong tables have size 0. */
#include "ew_frontend_internal.h"
#include "ew_frontend_layout.h"

static bool complete(const ew_frontend_tables_t *t) {
    return t->window != NULL && t->fft_order != NULL && t->fft_twiddles != NULL && t->real_twiddles != NULL &&
           t->bands != NULL && t->weights != NULL && t->unweights != NULL && t->log_lut != NULL &&
           (t->pcan == 0 || t->gain_lut != NULL);
}

static bool in_range(const ew_frontend_tables_t *t) {
    const uint32_t one = 1u << EW_FRONTEND_NOISE_BITS;
    return t->fft_size >= EW_FRONTEND_MIN_FFT && t->fft_size <= EW_FRONTEND_MAX_FFT &&
           (t->fft_size & (t->fft_size - 1)) == 0 && t->window_samples >= 1 &&
           t->window_samples <= t->fft_size && t->step_samples >= 1 && t->step_samples <= t->window_samples &&
           t->channels >= 1 && t->channels <= EW_FRONTEND_MAX_CHANNELS && t->smoothing_bits < 32 &&
           t->even_smoothing <= one && t->odd_smoothing <= one && t->min_signal_remaining <= one &&
           t->snr_shift < 64 && t->correction_bits < 32 && t->scale_shift <= 10;
}

static bool bands_ascend(const ew_frontend_tables_t *t) {
    for (uint32_t band = 0; band <= t->channels; ++band) {
        if (t->bands[band] > t->bands[band + 1]) {
            return false;
        }
    }
    return t->bands[0] >= 1 && t->bands[t->channels + 1] <= t->fft_size / 2 &&
           t->bands[0] < t->bands[t->channels + 1];
}

size_t ew_frontend_size(const ew_frontend_tables_t *tables) {
    if (tables == NULL || !complete(tables) || !in_range(tables) || !bands_ascend(tables)) {
        return 0;
    }
    return ew_frontend_layout(tables).bytes;
}

size_t ew_frontend_tables_size(void) {
    return sizeof(ew_frontend_tables_t);
}
