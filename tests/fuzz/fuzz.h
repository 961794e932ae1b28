/* SPDX-License-Identifier: Apache-2.0 */
/* Values from a fuzzer's bytes; past their end all are zero. CHECK fails a run as a sanitizer does. */
#ifndef EDGEWAKE_FUZZ_H
#define EDGEWAKE_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            __builtin_trap();                                                                                          \
        }                                                                                                              \
    } while (0)

typedef struct {
    const uint8_t *bytes;
    size_t left;
} input_t;

static inline void take(input_t *input, void *value, size_t size) {
    const size_t there = size < input->left ? size : input->left;
    memset(value, 0, size);
    if (there > 0) {
        memcpy(value, input->bytes, there);
        input->bytes += there;
        input->left -= there;
    }
}

static inline uint8_t take_byte(input_t *input) {
    uint8_t value;
    take(input, &value, sizeof value);
    return value;
}

static inline uint32_t take_word(input_t *input) {
    uint32_t value;
    take(input, &value, sizeof value);
    return value;
}

/* A number from `first` to `last`, or, for one byte in eight, any. */
static inline uint32_t take_near(input_t *input, uint32_t first, uint32_t last) {
    if (take_byte(input) % 8 == 0) {
        return take_word(input);
    }
    return first + take_word(input) % (last - first + 1);
}

/* A block of exactly this size, so that AddressSanitizer sees the first byte beyond; zero bytes are one that must
 * not be touched. The caller frees it. */
static inline void *block(size_t bytes) {
    void *memory = malloc(bytes);
    CHECK(memory != NULL);
    memset(memory, 0xA5, bytes);
    return memory;
}

/* A block filled with the input's next bytes, again and again from where they began when they end. */
static inline void *filled(input_t *input, size_t bytes, size_t period) {
    uint8_t *memory = block(bytes);
    const size_t there = bytes < period ? bytes : period;
    take(input, memory, there);
    for (size_t i = there; i < bytes; ++i) {
        memory[i] = memory[i - there];
    }
    return memory;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif /* EDGEWAKE_FUZZ_H */
