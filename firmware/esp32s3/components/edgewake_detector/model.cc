// SPDX-License-Identifier: Apache-2.0
// TensorFlow Lite Micro as an ew_infer_fn: the model stays in flash, its memory is one static arena.
#include "model.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>

#include "esp_log.h"
#include "tensorflow/lite/micro/micro_allocator.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/micro/micro_resource_variable.h"
#include "tensorflow/lite/schema/schema_generated.h"

#include "ew_model_config.h"
#include "ew_model_operators.h"
#include "memory.h"

namespace {

constexpr char kTag[] = "model";
constexpr size_t kInputBytes = EW_MODEL_FRAMES_PER_STEP * EW_MODEL_CHANNELS;

using Resolver = tflite::MicroMutableOpResolver<EW_MODEL_OPERATOR_COUNT>;

static_assert(sizeof(tflite::MicroInterpreter) + sizeof(Resolver) <= EW_INTERPRETER_BYTES,
              "EW_INTERPRETER_BYTES in memory.h is too small");

// ESP-NN's vector loads ignore the lower address bits, so that the arena and the model must be aligned to 16.
alignas(16) uint8_t arena[EW_MODEL_ARENA_BYTES];
alignas(tflite::MicroInterpreter) uint8_t interpreter_memory[sizeof(tflite::MicroInterpreter)];

Resolver resolver;
const uint8_t *model_data = nullptr;
tflite::MicroInterpreter *interpreter = nullptr;

TfLiteStatus register_operators() {
#define EW_ADD(Add)                                                                                                    \
    if (resolver.Add() != kTfLiteOk) {                                                                                 \
        ESP_LOGE(kTag, #Add "() failed");                                                                              \
        return kTfLiteError;                                                                                           \
    }
    EW_MODEL_OPERATORS(EW_ADD)
#undef EW_ADD
    return kTfLiteOk;
}

bool is_int8_of(const TfLiteTensor *tensor, size_t bytes) {
    return tensor != nullptr && tensor->type == kTfLiteInt8 && tensor->bytes == bytes;
}

} // namespace

ew_status_t model_init(const ew_wakeword_t *wakeword) {
    const tflite::Model *model = tflite::GetModel(wakeword->model);
    if (model->version() != TFLITE_SCHEMA_VERSION) {
        ESP_LOGE(kTag, "schema version %d, this TFLM reads %d", static_cast<int>(model->version()),
                 TFLITE_SCHEMA_VERSION);
        return EW_ERROR_ARGUMENT;
    }
    if (model_data == nullptr && register_operators() != kTfLiteOk) {
        return EW_ERROR_ARGUMENT;
    }
    model_data = wakeword->model;
    return model_reset();
}

ew_status_t model_reset(void) {
    // MicroInterpreter::Reset() sets the state to its zero points, and CALL_ONCE, which sets it to what the model
    // computes from silence, runs once for each interpreter. So a reset makes a new interpreter in the same memory.
    if (interpreter != nullptr) {
        interpreter->~MicroInterpreter();
        interpreter = nullptr;
    }
    tflite::MicroAllocator *allocator = tflite::MicroAllocator::Create(arena, sizeof(arena));
    if (allocator == nullptr) {
        ESP_LOGE(kTag, "no allocator in %u bytes", static_cast<unsigned>(sizeof(arena)));
        return EW_ERROR_MEMORY;
    }
    tflite::MicroResourceVariables *variables = nullptr;
    if (EW_MODEL_VARIABLES > 0) {
        variables = tflite::MicroResourceVariables::Create(allocator, EW_MODEL_VARIABLES);
        if (variables == nullptr) {
            ESP_LOGE(kTag, "no room for %d variables", EW_MODEL_VARIABLES);
            return EW_ERROR_MEMORY;
        }
    }
    auto *created =
        new (interpreter_memory) tflite::MicroInterpreter(tflite::GetModel(model_data), resolver, allocator, variables);
    if (created->AllocateTensors() != kTfLiteOk) {
        ESP_LOGE(kTag, "tensors do not fit into the arena of %u bytes", static_cast<unsigned>(sizeof(arena)));
        created->~MicroInterpreter();
        return EW_ERROR_MEMORY;
    }
    if (!is_int8_of(created->input(0), kInputBytes) || !is_int8_of(created->output(0), 1)) {
        ESP_LOGE(kTag, "input is not int8[%u] or output is not int8[1]", static_cast<unsigned>(kInputBytes));
        created->~MicroInterpreter();
        return EW_ERROR_ARGUMENT;
    }
    interpreter = created;
    return EW_OK;
}

ew_status_t model_infer(void *context, const int8_t *features, int8_t *output) {
    (void)context;
    if (interpreter == nullptr) {
        return EW_ERROR_INFERENCE;
    }
    memcpy(interpreter->input(0)->data.int8, features, kInputBytes);
    if (interpreter->Invoke() != kTfLiteOk) {
        return EW_ERROR_INFERENCE;
    }
    *output = interpreter->output(0)->data.int8[0];
    return EW_OK;
}
