/* The quantizer keeps to its formula at the edges of every parameter, where 64 bits are just enough. */
#include <stdint.h>

#include "check.h"
#include "ew_quantizer.h"

/* The formula in arithmetic that cannot wrap: with q the quotient and r the remainder of feature * multiplier. */
static int8_t by_formula(const ew_quantizer_t *quantizer, uint16_t feature) {
    const uint64_t product = (uint64_t)feature * quantizer->multiplier;
    const uint64_t quotient = product >> quantizer->shift;
    const uint64_t up = (product >> (quantizer->shift - 1)) & 1;
    const uint64_t rounded = quotient + up;
    const int64_t value = (int64_t)(rounded < 100000 ? rounded : 100000) + quantizer->zero_point;
    return (int8_t)(value > 127 ? 127 : value);
}

static void check_all_features(const ew_quantizer_t *quantizer) {
    CHECK(ew_quantizer_check(quantizer) == EW_OK);
    uint16_t features[256];
    int8_t output[256];
    for (uint32_t start = 0; start < 65536; start += 256) {
        for (uint32_t i = 0; i < 256; ++i) {
            features[i] = (uint16_t)(start + i);
        }
        ew_quantizer_apply(quantizer, features, 256, output);
        for (uint32_t i = 0; i < 256; ++i) {
            CHECK(output[i] == by_formula(quantizer, features[i]));
        }
    }
}

int main(void) {
    const uint32_t multipliers[] = {0, 1, 50215, 0x7fffffffu, 0x80000000u, UINT32_MAX};
    const uint32_t shifts[] = {1, 17, 31, 32, 33, 47, 48, 62};
    const int32_t zero_points[] = {-128, -1, 0, 1, 127};
    for (size_t m = 0; m < sizeof multipliers / sizeof *multipliers; ++m) {
        for (size_t s = 0; s < sizeof shifts / sizeof *shifts; ++s) {
            for (size_t z = 0; z < sizeof zero_points / sizeof *zero_points; ++z) {
                const ew_quantizer_t quantizer = {multipliers[m], shifts[s], zero_points[z]};
                check_all_features(&quantizer);
            }
        }
    }
    const ew_quantizer_t wrong[] = {{1, 0, 0}, {1, 63, 0}, {1, 1, -129}, {1, 1, 128}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; ++i) {
        CHECK(ew_quantizer_check(&wrong[i]) == EW_ERROR_ARGUMENT);
    }
    CHECK(ew_quantizer_check(NULL) == EW_ERROR_NULL);
    return 0;
}
