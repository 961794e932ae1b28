/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the sources of the core and to their tests. */
#ifndef EW_INTERNAL_H
#define EW_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

#include "ew_status.h"

/* Before the functions with the hot loops. A host build may define it to compile them for several instruction sets,
 * of which the machine picks one at load time; the bits do not depend on which. */
#ifndef EW_CLONES
#define EW_CLONES
#endif

/* Before a loop whose counting costs as much as its work. */
#if defined(__GNUC__) && !defined(__clang__)
#define EW_UNROLLED _Pragma("GCC unroll 4")
#else
#define EW_UNROLLED
#endif

/* Before each part of a frame, named for a build that measures them (include/sim_parts.h of the emulator's tests). */
#ifndef EW_PART
#define EW_PART(name)
#endif

static inline size_t ew_align(size_t bytes) {
    return (bytes + (EW_ALIGNMENT - 1)) & ~(size_t)(EW_ALIGNMENT - 1);
}

static inline size_t ew_min(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Square root of any uint64, rounded to nearest; of x below 2^32 it saturates at 65535. In ew_frontend.c. */
uint32_t ew_frontend_sqrt(uint64_t x);

#endif /* EW_INTERNAL_H */
