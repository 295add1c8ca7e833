// Random test data, the same in every run.
#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

namespace lathe::test {

class Random {
  public:
    explicit Random(uint64_t seed) : engine_(seed) {}

    int64_t integer(int64_t low, int64_t high) {
        return std::uniform_int_distribution<int64_t>(low, high)(engine_);
    }
    bool coin() { return integer(0, 1) == 1; }
    std::vector<double> normal(int64_t count, double deviation = 1, double mean = 0) {
        std::normal_distribution<double> distribution(mean, deviation);
        std::vector<double> values(static_cast<size_t>(count));
        for (double& value : values) {
            value = distribution(engine_);
        }
        return values;
    }
    /// Integers from low to high, both possible.
    std::vector<double> integers(int64_t count, int64_t low, int64_t high) {
        std::vector<double> values(static_cast<size_t>(count));
        for (double& value : values) {
            value = static_cast<double>(integer(low, high));
        }
        return values;
    }

  private:
    std::mt19937_64 engine_;
};

}  // namespace lathe::test
