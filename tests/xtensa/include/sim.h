/* SPDX-License-Identifier: Apache-2.0 */
/* What a program in the emulator has: bytes in, bytes out, and a count of the instructions that it executed. */
#ifndef SIM_H
#define SIM_H

#include <stddef.h>
#include <stdint.h>

/* Takes n bytes of the input; ends the program with exit code 120 where there are fewer. */
void sim_read(void *to, size_t n);

/* Appends n bytes to the output. */
void sim_write(const void *from, size_t n);

/* A time stamp, wrapping at 32 bits; `instructions` of emulator.py makes counts of differences. */
uint32_t sim_now(void);

/* How many products of 64 bits were computed so far: calls here, two instructions (MULL, MULUH) on an ESP32-S3. */
extern uint32_t sim_products;

#endif /* SIM_H */
