/* Step 8 of the frontend: per-channel automatic gain control (PCAN). */
#include "ew_frontend_internal.h"

#define SNR_BITS 12
#define OUTPUT_BITS 6
#define FRACTION_BITS 10

/* The gain at noise level x: y0 + a1 t + a2 t^2 within an octave, t in Q10. Intermediate sums wrap at 32
 * bits, the result at 16. */
static uint32_t gain_at(uint32_t x, const int16_t *lut) {
    if (x <= 2) {
        return (uint32_t)lut[x];
    }
    const uint32_t octave = ew_msb32(x);
    const int16_t *entry = lut + 4 * octave - 6;
    const uint32_t t =
        (octave <= FRACTION_BITS ? x << (FRACTION_BITS + 1 - octave) : x >> (octave - FRACTION_BITS - 1)) &
        ((1u << FRACTION_BITS) - 1);
    const int32_t square = (entry[2] * (int32_t)t) >> 5;
    const uint32_t slope = (uint32_t)square + ((uint32_t)entry[1] << 5);
    const int32_t rise = (int32_t)(slope * t + (1u << 14)) >> 15;
    return (uint32_t)(int16_t)(rise + entry[0]);
}

/* Quadratic below an SNR of 2, linear above. */
static uint32_t shrink(uint32_t snr) {
    if (snr < (2u << SNR_BITS)) {
        return (snr * snr) >> (2 + 2 * SNR_BITS - OUTPUT_BITS);
    }
    return (snr >> (SNR_BITS - OUTPUT_BITS)) - (1u << OUTPUT_BITS);
}

void ew_frontend_pcan(const ew_frontend_tables_t *tables, uint32_t *signal, const uint32_t *estimate) {
    for (uint32_t channel = 0; channel < tables->channels; ++channel) {
        const uint32_t gain = gain_at(estimate[channel], tables->gain_lut);
        signal[channel] = shrink((uint32_t)(((uint64_t)signal[channel] * gain) >> tables->snr_shift));
    }
}
