/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 of FIPS 180-4, in any chunking. Private to the sources of the core and to their tests. */
#ifndef EW_SHA256_H
#define EW_SHA256_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint32_t state[8];
    uint64_t bytes;
    uint8_t block[64];
} ew_sha256_t;

void ew_sha256_init(ew_sha256_t *hash);

/* Takes uint8[n]. */
void ew_sha256_update(ew_sha256_t *hash, const uint8_t *data, size_t n);

/* Writes uint8[32]; the hash must be made anew before it takes more. */
void ew_sha256_finish(ew_sha256_t *hash, uint8_t *digest);

#endif /* EW_SHA256_H */
