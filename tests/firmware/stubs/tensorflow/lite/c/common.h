/* SPDX-License-Identifier: Apache-2.0 */
/* Types as in esp-tflite-micro 1.4.0, tensorflow/lite/core/c/common.h with TF_LITE_STATIC_MEMORY. */
#pragma once

#include <cstddef>
#include <cstdint>

typedef enum TfLiteStatus {
    kTfLiteOk = 0,
    kTfLiteError = 1,
} TfLiteStatus;

typedef enum {
    kTfLiteNoType = 0,
    kTfLiteFloat32 = 1,
    kTfLiteInt8 = 9,
} TfLiteType;

typedef union TfLitePtrUnion {
    int32_t *i32;
    float *f;
    char *raw;
    uint8_t *uint8;
    int8_t *int8;
    void *data;
} TfLitePtrUnion;

typedef struct TfLiteTensor {
    TfLitePtrUnion data;
    TfLiteType type;
    size_t bytes;
} TfLiteTensor;
