/* SPDX-License-Identifier: Apache-2.0 */
/* The square root by multiplications equals the one by bits, at every edge and at random. */
#include <stdint.h>

#include "check.h"
#include "ew_internal.h"

/* Digit by digit, base 4: slow, and nothing in common with the code under test. */
static uint32_t by_bits(uint64_t x) {
    uint64_t root = 0, rest = x;
    for (uint64_t bit = UINT64_C(1) << 62; bit != 0; bit >>= 2) {
        if (rest >= root + bit) {
            rest -= root + bit;
            root = (root >> 1) + bit;
        } else {
            root >>= 1;
        }
    }
    const uint64_t limit = (x >> 32) != 0 ? UINT32_MAX : UINT16_MAX;
    return (uint32_t)(root + (rest > root && root != limit ? 1 : 0));
}

static void check(uint64_t x) {
    CHECK(ew_frontend_sqrt(x) == by_bits(x));
}

static void check_around(uint64_t x) {
    for (uint64_t i = 0; i < 5; ++i) {
        check(x + i - 2);
    }
}

int main(void) {
    uint64_t state = 88172645463325252u;
    for (uint64_t x = 0; x < 70000; ++x) {
        check(x);
    }
    for (uint32_t bit = 0; bit < 64; ++bit) {
        check_around(UINT64_C(1) << bit);
        check_around(UINT64_C(3) << bit);
    }
    check_around(0);
    /* Squares, and the halves between them where rounding turns: r (r + 1). */
    for (uint64_t root = 1; root <= UINT32_MAX; root += 1 + root / 3000) {
        check_around(root * root);
        check_around(root * (root + 1));
    }
    for (uint64_t root = UINT32_MAX - 5; root <= UINT32_MAX; ++root) {
        check_around(root * root);
        check_around(root * (root + 1));
    }
    for (int i = 0; i < 1000000; ++i) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        check(state >> (i % 64));
    }
    return 0;
}
