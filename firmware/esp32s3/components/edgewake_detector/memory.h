/* SPDX-License-Identifier: Apache-2.0 */
/* The size of every static block of RAM: the firmware reserves it, and `edgewake build` adds it up. */
#pragma once

/* Ring buffer between capture and inference: 128 ms, four inference steps for a core that is busy otherwise. */
#define EW_RING_SAMPLES 2048

/* The same for the generated network, whose step takes less than half the time: 64 ms. */
#define EW_NETWORK_RING_SAMPLES 1024

/* Samples that are handled at once on either side of the ring: 10 ms. */
#define EW_BLOCK_SAMPLES 160

/* 40 ms of DMA buffers, allocated by the I2S driver: descriptors of EW_BLOCK_SAMPLES words of 32 bits. */
#define EW_DMA_DESCRIPTORS 4

#define EW_CAPTURE_STACK_BYTES 3072
#define EW_INFERENCE_STACK_BYTES 6144
#define EW_NETWORK_STACK_BYTES 4096 /* inference by the generated network */

/* Upper bounds, asserted where the types are known. */
#define EW_TASK_CONTROL_BYTES 512 /* StaticTask_t */
#define EW_WAKEWORD_BYTES 192     /* the wake word that runs, and its frontend's constants */
#define EW_TIMING_BYTES 64        /* what is measured until the next report */
#define EW_INTERPRETER_BYTES 1024 /* tflite::MicroInterpreter and its operator resolver */
