/* Features become the model's int8 input by one multiplication: exactly the rounding of the rational number,
 * no float. */
#ifndef EW_QUANTIZER_H
#define EW_QUANTIZER_H

#include <stddef.h>
#include <stdint.h>

#include "ew_status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EW_QUANTIZER_MAX_SHIFT 62

/* q = min(max(((feature * multiplier + 2^(shift-1)) >> shift) + zero_point, -128), 127)
 *
 * The exporter chooses multiplier and shift such that this is clamp(round(feature * 10/256 / scale) +
 * zero_point), ties away from zero, for each of the 65,536 features, and has tried all of them. */
typedef struct {
    uint32_t multiplier;
    uint32_t shift;     /* 1 to EW_QUANTIZER_MAX_SHIFT */
    int32_t zero_point; /* -128 to 127 */
} ew_quantizer_t;

/* Returns EW_OK, EW_ERROR_NULL or EW_ERROR_ARGUMENT. */
ew_status_t ew_quantizer_check(const ew_quantizer_t *quantizer);

/* Quantize n features.
 *   quantizer  one that ew_quantizer_check accepts
 *   features   uint16[n], the whole range
 *   output     int8[n] */
void ew_quantizer_apply(const ew_quantizer_t *quantizer, const uint16_t *features, size_t n, int8_t *output);

#ifdef __cplusplus
}
#endif

#endif /* EW_QUANTIZER_H */
