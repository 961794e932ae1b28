/* One frame at a time: features depend only on the samples since reset, never on how they were cut. */
#include <string.h>

#include "ew_fft.h"
#include "ew_frontend_internal.h"

static void frame_features(ew_frontend_t *fe, uint16_t *features) {
    const ew_frontend_tables_t *t = fe->tables;
    int16_t *windowed = fe->work + t->fft_size;
    const uint32_t msb = ew_frontend_window(fe->input, t->window, t->window_samples, windowed);
    const uint32_t shift = 15 - msb;
    ew_frontend_scale(windowed, t->window_samples, shift, t->fft_size, fe->work);
    ew_fft_energy(t->fft_size, t->fft_order, t->fft_twiddles, t->real_twiddles, fe->work, fe->energy,
                  t->bands[0], t->bands[t->channels + 1] - 1u);
    ew_frontend_filterbank(t, fe->energy, fe->power);
    for (uint32_t channel = 0; channel < t->channels; ++channel) {
        fe->signal[channel] = ew_frontend_sqrt(fe->power[channel]) >> shift;
    }
    ew_frontend_noise(t, fe->signal, fe->estimate);
    if (t->pcan != 0) {
        ew_frontend_pcan(t, fe->signal, fe->estimate);
    }
    ew_frontend_log(t, fe->signal, features);
}

ew_status_t ew_frontend_process(ew_frontend_t *frontend, const int16_t *samples, size_t n, size_t *consumed,
                                uint16_t *features, bool *ready) {
    if (frontend == NULL || (samples == NULL && n != 0) || consumed == NULL || features == NULL ||
        ready == NULL) {
        return EW_ERROR_NULL;
    }
    const ew_frontend_tables_t *t = frontend->tables;
    const uint32_t missing = t->window_samples - frontend->used;
    const uint32_t taken = n < missing ? (uint32_t)n : missing;
    if (taken != 0) {
        memcpy(frontend->input + frontend->used, samples, taken * sizeof(*samples));
    }
    frontend->used += taken;
    *consumed = taken;
    *ready = frontend->used == t->window_samples;
    if (*ready) {
        const uint32_t kept = t->window_samples - t->step_samples;
        frame_features(frontend, features);
        memmove(frontend->input, frontend->input + t->step_samples, kept * sizeof(*frontend->input));
        frontend->used = kept;
    }
    return EW_OK;
}
