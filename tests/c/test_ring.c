/* SPDX-License-Identifier: Apache-2.0 */
/* Two threads pass a sequence through the ring: nothing is reordered or invented, and every loss is counted. */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "check.h"
#include "ew_ring.h"

enum { CAPACITY = 64, TOTAL = 400000 };

static int16_t storage[CAPACITY];
static ew_ring_t ring;
static int done; /* set by the writer, read by the reader */

static uint32_t next_random(uint32_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* Writes 1, 2, 3, ... in blocks of changing size; what is lost leaves a gap that `ew_ring_lost` counts. */
static void *write_all(void *argument) {
    (void)argument;
    uint32_t state = 1;
    uint32_t value = 0;
    while (value < TOTAL) {
        int16_t block[48];
        const size_t n = next_random(&state) % 48;
        for (size_t i = 0; i < n; ++i) {
            block[i] = (int16_t)(uint16_t)(value + i);
        }
        CHECK(ew_ring_write(&ring, block, n) <= n);
        value += (uint32_t)n;
    }
    __atomic_store_n(&done, (int)value, __ATOMIC_RELEASE);
    return NULL;
}

static void test_two_threads(void) {
    CHECK(ew_ring_init(&ring, storage, CAPACITY) == EW_OK);
    pthread_t writer;
    CHECK(pthread_create(&writer, NULL, write_all, NULL) == 0);
    uint32_t received = 0, skipped = 0, state = 7;
    uint16_t expected = 0;
    for (;;) {
        const int written = __atomic_load_n(&done, __ATOMIC_ACQUIRE);
        int16_t block[40];
        const size_t n = ew_ring_read(&ring, block, 1 + next_random(&state) % 40);
        for (size_t i = 0; i < n; ++i) {
            /* Only forward, and by no more than was lost: the difference is the length of the gap. */
            skipped += (uint16_t)((uint16_t)block[i] - expected);
            expected = (uint16_t)((uint16_t)block[i] + 1);
        }
        received += (uint32_t)n;
        CHECK(received + skipped <= TOTAL + 48);
        if (n == 0 && written != 0) {
            CHECK(received + ew_ring_lost(&ring) == (uint32_t)written);
            CHECK(skipped <= ew_ring_lost(&ring));
            break;
        }
    }
    CHECK(pthread_join(writer, NULL) == 0);
    CHECK(received > 0);
}

static void test_overflow_loses_the_last_samples(void) {
    int16_t block[CAPACITY + 5], back[CAPACITY];
    for (int i = 0; i < CAPACITY + 5; ++i) {
        block[i] = (int16_t)i;
    }
    CHECK(ew_ring_init(&ring, storage, CAPACITY) == EW_OK);
    CHECK(ew_ring_write(&ring, block, CAPACITY + 5) == CAPACITY);
    CHECK(ew_ring_lost(&ring) == 5);
    CHECK(ew_ring_write(&ring, block, 1) == 0);
    CHECK(ew_ring_lost(&ring) == 6);
    CHECK(ew_ring_available(&ring) == CAPACITY);
    CHECK(ew_ring_read(&ring, back, CAPACITY) == CAPACITY);
    CHECK(memcmp(back, block, sizeof back) == 0);
    CHECK(ew_ring_read(&ring, back, CAPACITY) == 0);
}

static void test_positions_wrap_at_32_bits(void) {
    int16_t block[10], back[10];
    CHECK(ew_ring_init(&ring, storage, CAPACITY) == EW_OK);
    ring.written = ring.read = UINT32_MAX - 4;
    for (int round = 0; round < 20; ++round) {
        for (int i = 0; i < 10; ++i) {
            block[i] = (int16_t)(round * 10 + i);
        }
        CHECK(ew_ring_write(&ring, block, 10) == 10);
        CHECK(ew_ring_available(&ring) == 10);
        CHECK(ew_ring_read(&ring, back, 10) == 10);
        CHECK(memcmp(back, block, sizeof back) == 0);
    }
    CHECK(ew_ring_lost(&ring) == 0);
}

static void test_arguments(void) {
    CHECK(ew_ring_init(NULL, storage, CAPACITY) == EW_ERROR_NULL);
    CHECK(ew_ring_init(&ring, NULL, CAPACITY) == EW_ERROR_NULL);
    for (size_t capacity = 0; capacity < 40; ++capacity) {
        const bool good = capacity == 2 || capacity == 4 || capacity == 8 || capacity == 16 || capacity == 32;
        CHECK((ew_ring_init(&ring, storage, capacity) == EW_OK) == good);
    }
}

int main(void) {
    test_arguments();
    test_overflow_loses_the_last_samples();
    test_positions_wrap_at_32_bits();
    test_two_threads();
    return 0;
}
