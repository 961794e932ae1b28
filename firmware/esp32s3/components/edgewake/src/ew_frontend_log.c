/* Step 9 of the frontend: integer logarithm with a 128-segment correction table. */
#include "ew_frontend_internal.h"

#define LOG_BITS 16
#define SEGMENT_BITS 7
#define LN2 45426u /* ln(2) in Q16 */

/* ln(x) in Q(scale_shift), x >= 2. log2's fraction is the mantissa plus a correction, interpolated between
 * table entries. */
static uint32_t log_of(uint32_t x, uint32_t scale_shift, const uint16_t *lut) {
    const uint32_t integer = ew_msb32(x) - 1;
    const uint32_t rest = x - (1u << integer);
    const uint32_t mantissa =
        integer < LOG_BITS ? rest << (LOG_BITS - integer) : rest >> (integer - LOG_BITS);
    const uint32_t segment = mantissa >> (LOG_BITS - SEGMENT_BITS);
    const int32_t within = (int32_t)(mantissa & ((1u << (LOG_BITS - SEGMENT_BITS)) - 1));
    const int32_t base = lut[segment];
    const int32_t correction = base + (((lut[segment + 1] - base) * within) >> LOG_BITS);
    const uint32_t log2 = (integer << LOG_BITS) + mantissa + (uint32_t)correction;
    const uint32_t half = 1u << (LOG_BITS - 1);
    const uint32_t natural = (uint32_t)(((uint64_t)LN2 * log2 + half) >> LOG_BITS);
    return ((natural << scale_shift) + half) >> LOG_BITS;
}

void ew_frontend_log(const ew_frontend_tables_t *tables, const uint32_t *signal, uint16_t *features) {
    for (uint32_t channel = 0; channel < tables->channels; ++channel) {
        const uint32_t value = signal[channel] << tables->correction_bits;
        const uint32_t result = value > 1 ? log_of(value, tables->scale_shift, tables->log_lut) : 0;
        features[channel] = (uint16_t)(result < UINT16_MAX ? result : UINT16_MAX);
    }
}
