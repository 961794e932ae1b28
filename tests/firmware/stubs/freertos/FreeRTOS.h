/* SPDX-License-Identifier: Apache-2.0 */
/* Types as in ESP-IDF 5.3 for Xtensa: components/freertos/FreeRTOS-Kernel. */
#pragma once

#include <stdint.h>

typedef uint8_t StackType_t;
typedef int BaseType_t;
typedef unsigned int UBaseType_t;
typedef uint32_t TickType_t;
typedef void (*TaskFunction_t)(void *);

/* About the size of the real one. */
typedef struct {
    uint32_t words[88];
} StaticTask_t;

#define configTICK_RATE_HZ 1000
#define portMAX_DELAY ((TickType_t)0xffffffffUL)
#define pdFALSE ((BaseType_t)0)
#define pdTRUE ((BaseType_t)1)
#define pdMS_TO_TICKS(ms) ((TickType_t)(((TickType_t)(ms) * (TickType_t)configTICK_RATE_HZ) / (TickType_t)1000U))
