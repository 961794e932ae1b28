/* SPDX-License-Identifier: Apache-2.0 */
// Signatures as in esp-tflite-micro 1.4.0, tensorflow/lite/micro/micro_allocator.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tflite {

enum class MemoryPlannerType {
    kGreedy,
    kLinear,
};

class MicroAllocator {
  public:
    static MicroAllocator *Create(uint8_t *tensor_arena, size_t arena_size,
                                  MemoryPlannerType memory_planner_type = MemoryPlannerType::kGreedy);
};

} // namespace tflite
