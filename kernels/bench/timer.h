#pragma once

#include <chrono>

namespace lathe::bench {

/// Seconds that `body` takes.
template <typename Body>
double seconds_of(const Body& body) {
    const auto begin = std::chrono::steady_clock::now();
    body();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace lathe::bench
