/* SPDX-License-Identifier: Apache-2.0 */
/* The C library of a program in the emulator: input, output, and what compilers call by themselves. */
#include "sim.h"

#include "string.h"

#define CALL_EXIT 1
#define CALL_READ 3
#define CALL_WRITE 4
#define CALL_OPEN 5

#define OPEN_WRITE_CREATE_TRUNCATE (01 | 0100 | 01000) /* of Linux */

/* In start.S. */
int32_t sim_call(int32_t number, intptr_t a, intptr_t b, intptr_t c);

uint32_t sim_products;

int main(void);
void sim_main(void);

/* Of C++, in sim.ld. */
extern void (*const sim_constructors[])(void), (*const sim_constructors_end[])(void);

static int32_t input = -1, output = -1;

static void end(int32_t code) {
    (void)sim_call(CALL_EXIT, code, 0, 0);
}

void sim_main(void) {
    input = sim_call(CALL_OPEN, (intptr_t)"input", 0, 0);
    output = sim_call(CALL_OPEN, (intptr_t)"output", OPEN_WRITE_CREATE_TRUNCATE, 0600);
    if (input < 0 || output < 0) {
        end(121);
    }
    for (void (*const *each)(void) = sim_constructors; each != sim_constructors_end; ++each) {
        (*each)();
    }
    end(main());
}

void sim_read(void *to, size_t n) {
    if (n != 0 && sim_call(CALL_READ, input, (intptr_t)to, (intptr_t)n) != (int32_t)n) {
        end(120);
    }
}

void sim_write(const void *from, size_t n) {
    if (n != 0 && sim_call(CALL_WRITE, output, (intptr_t)from, (intptr_t)n) != (int32_t)n) {
        end(122);
    }
}

/* Four words at a time where both are aligned to them, else bytes, as a C library for this processor copies. */
#define ALIGNED(pointer) (((uintptr_t)(pointer) & 3) == 0)

void *memcpy(void *restrict to, const void *restrict from, size_t n) {
    uint8_t *target = to;
    const uint8_t *source = from;
    if (ALIGNED(target) && ALIGNED(source)) {
        for (; n >= 16; n -= 16, target += 16, source += 16) {
            const uint32_t *in = (const uint32_t *)(const void *)source;
            uint32_t *out = (uint32_t *)(void *)target;
            out[0] = in[0];
            out[1] = in[1];
            out[2] = in[2];
            out[3] = in[3];
        }
    }
    for (; n != 0; --n) {
        *target++ = *source++;
    }
    return to;
}

void *memmove(void *to, const void *from, size_t n) {
    uint8_t *target = to;
    const uint8_t *source = from;
    if (target <= source || target >= source + n) {
        return memcpy(to, from, n);
    }
    while (n-- != 0) {
        target[n] = source[n];
    }
    return to;
}

void *memset(void *to, int value, size_t n) {
    uint8_t *target = to;
    const uint32_t word = (uint8_t)value * 0x01010101u;
    if (ALIGNED(target)) {
        for (; n >= 4; n -= 4, target += 4) {
            *(uint32_t *)(void *)target = word;
        }
    }
    for (; n != 0; --n) {
        *target++ = (uint8_t)value;
    }
    return to;
}

int memcmp(const void *a, const void *b, size_t n) {
    const uint8_t *first = a, *second = b;
    for (; n != 0; --n, ++first, ++second) {
        if (*first != *second) {
            return *first - *second;
        }
    }
    return 0;
}

/* Debian's libgcc for the lx106 lacks it. It takes equally many instructions for all numbers. */
uint64_t __muldi3(uint64_t a, uint64_t b);
uint64_t __muldi3(uint64_t a, uint64_t b) {
    ++sim_products;
    const uint32_t a0 = (uint32_t)a & 0xFFFF, a1 = (uint32_t)a >> 16;
    const uint32_t b0 = (uint32_t)b & 0xFFFF, b1 = (uint32_t)b >> 16;
    const uint32_t low = a0 * b0, middle = a1 * b0 + (low >> 16), other = a0 * b1 + (middle & 0xFFFF);
    const uint32_t high = a1 * b1 + (middle >> 16) + (other >> 16) + (uint32_t)(a >> 32) * (uint32_t)b +
                          (uint32_t)a * (uint32_t)(b >> 32);
    return (uint64_t)high << 32 | (low & 0xFFFF) | other << 16;
}
