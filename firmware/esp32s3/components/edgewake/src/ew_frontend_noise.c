/* Step 7 of the frontend: spectral noise estimate and its subtraction. */
#include "ew_frontend_internal.h"

void ew_frontend_noise(const ew_frontend_tables_t *tables, uint32_t *signal, uint32_t *estimate) {
    const uint32_t one = 1u << EW_FRONTEND_NOISE_BITS;
    const uint32_t bits = tables->smoothing_bits;
    const uint32_t smoothing[2] = {tables->even_smoothing, tables->odd_smoothing};
    for (uint32_t channel = 0; channel < tables->channels; ++channel) {
        const uint32_t factor = smoothing[channel & 1];
        const uint32_t value = signal[channel];
        const uint32_t up = value << bits;
        const uint32_t noise =
            (uint32_t)(((uint64_t)up * factor + (uint64_t)estimate[channel] * (one - factor)) >>
                       EW_FRONTEND_NOISE_BITS);
        estimate[channel] = noise;
        if (tables->noise_reduction != 0) {
            const uint32_t floor_value =
                (uint32_t)(((uint64_t)value * tables->min_signal_remaining) >> EW_FRONTEND_NOISE_BITS);
            const uint32_t subtracted = (up - (noise < up ? noise : up)) >> bits;
            signal[channel] = subtracted > floor_value ? subtracted : floor_value;
        }
    }
}
