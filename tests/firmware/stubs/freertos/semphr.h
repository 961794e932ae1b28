/* SPDX-License-Identifier: Apache-2.0 */
/* Signatures as in ESP-IDF 5.3: freertos/semphr.h, whose macros are functions here. */
#pragma once

#include "freertos/FreeRTOS.h"

typedef struct QueueDefinition *SemaphoreHandle_t;

/* About the size of the real one. */
typedef struct {
    uint32_t words[21];
} StaticSemaphore_t;

SemaphoreHandle_t xSemaphoreCreateMutexStatic(StaticSemaphore_t *pxMutexBuffer);
BaseType_t xSemaphoreTake(SemaphoreHandle_t xSemaphore, TickType_t xBlockTime);
BaseType_t xSemaphoreGive(SemaphoreHandle_t xSemaphore);
