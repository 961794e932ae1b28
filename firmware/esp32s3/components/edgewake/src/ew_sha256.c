/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 of FIPS 180-4, in any chunking. */
#include "ew_sha256.h"

#include <string.h>

static const uint32_t ROUNDS[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static inline uint32_t rotate(uint32_t x, uint32_t bits) {
    return x >> bits | x << (32 - bits);
}

static void take_block(uint32_t *state, const uint8_t *block) {
    uint32_t words[64];
    for (uint32_t i = 0; i < 16; ++i) {
        words[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8 |
                   block[4 * i + 3];
    }
    for (uint32_t i = 16; i < 64; ++i) {
        const uint32_t a = words[i - 15], b = words[i - 2];
        words[i] = words[i - 16] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) + words[i - 7] +
                   (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
    }
    uint32_t v[8];
    memcpy(v, state, sizeof v);
    for (uint32_t i = 0; i < 64; ++i) {
        const uint32_t first = v[7] + (rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25)) +
                               ((v[4] & v[5]) ^ (~v[4] & v[6])) + ROUNDS[i] + words[i];
        const uint32_t second =
            (rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22)) + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += first;
        v[0] = first + second;
    }
    for (uint32_t i = 0; i < 8; ++i) {
        state[i] += v[i];
    }
}

void ew_sha256_init(ew_sha256_t *hash) {
    static const uint32_t START[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(hash->state, START, sizeof START);
    hash->bytes = 0;
}

void ew_sha256_update(ew_sha256_t *hash, const uint8_t *data, size_t n) {
    while (n > 0) {
        const size_t used = (size_t)(hash->bytes % sizeof hash->block), room = sizeof hash->block - used;
        const size_t taken = n < room ? n : room;
        memcpy(hash->block + used, data, taken);
        hash->bytes += taken;
        data += taken;
        n -= taken;
        if (taken == room) {
            take_block(hash->state, hash->block);
        }
    }
}

void ew_sha256_finish(ew_sha256_t *hash, uint8_t *digest) {
    static const uint8_t PADDING[64] = {0x80};
    const uint64_t bits = 8 * hash->bytes;
    uint8_t length[8];
    for (uint32_t i = 0; i < 8; ++i) {
        length[i] = (uint8_t)(bits >> (56 - 8 * i));
    }
    ew_sha256_update(hash, PADDING, 1 + (size_t)((119 - hash->bytes % 64) % 64));
    ew_sha256_update(hash, length, sizeof length);
    for (uint32_t i = 0; i < 32; ++i) {
        digest[i] = (uint8_t)(hash->state[i / 4] >> (24 - 8 * (i % 4)));
    }
}
