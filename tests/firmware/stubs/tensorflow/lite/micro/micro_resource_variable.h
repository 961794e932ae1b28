/* SPDX-License-Identifier: Apache-2.0 */
// Signatures as in esp-tflite-micro 1.4.0, tensorflow/lite/micro/micro_resource_variable.h.
#pragma once

#include "tensorflow/lite/micro/micro_allocator.h"

namespace tflite {

class MicroResourceVariables {
  public:
    static MicroResourceVariables *Create(MicroAllocator *allocator, int num_variables);
};

} // namespace tflite
