// Scratch: hands out pieces of a block of memory, one after another.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lathe::cpu {

class Scratch {
  public:
    explicit Scratch(void* memory) : next_(static_cast<std::byte*>(memory)) {}

    /// 64-byte aligned if the block is.
    std::byte* take(int64_t bytes) {
        std::byte* piece = next_;
        next_ += (bytes + 63) / 64 * 64;
        return piece;
    }
    float* take_floats(int64_t count) {
        return reinterpret_cast<float*>(take(count * static_cast<int64_t>(sizeof(float))));
    }

  private:
    std::byte* next_;
};

}  // namespace lathe::cpu
