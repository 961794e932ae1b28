/* Features become the model's int8 input by one multiplication: exactly the rounding of the rational number,
 * no float. */
#include "ew_quantizer.h"

ew_status_t ew_quantizer_check(const ew_quantizer_t *quantizer) {
    if (quantizer == NULL) {
        return EW_ERROR_NULL;
    }
    const int32_t zero_point = quantizer->zero_point;
    if (quantizer->shift < 1 || quantizer->shift > EW_QUANTIZER_MAX_SHIFT || zero_point < -128 ||
        zero_point > 127) {
        return EW_ERROR_ARGUMENT;
    }
    return EW_OK;
}

void ew_quantizer_apply(const ew_quantizer_t *quantizer, const uint16_t *features, size_t n, int8_t *output) {
    /* 16 x 32 bits and half a unit stay below 2^63, so that neither the product nor the sum can wrap. */
    const uint64_t half = (uint64_t)1 << (quantizer->shift - 1);
    /* Saturating before the zero point is added keeps the sum in 32 bits for every multiplier. */
    const uint64_t top = (uint64_t)(127 - quantizer->zero_point);
    for (size_t i = 0; i < n; i++) {
        const uint64_t rounded = ((uint64_t)features[i] * quantizer->multiplier + half) >> quantizer->shift;
        output[i] = (int8_t)((int32_t)(rounded < top ? rounded : top) + quantizer->zero_point);
    }
}
