/* SPDX-License-Identifier: Apache-2.0 */
/* A failed check names its expression and place and ends the program with status 1. */
#ifndef EDGEWAKE_TEST_CHECK_H
#define EDGEWAKE_TEST_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);                                    \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

#endif /* EDGEWAKE_TEST_CHECK_H */
