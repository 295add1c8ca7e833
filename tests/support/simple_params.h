// SimpleParams: the plainest ParamAccess, one process, everything in memory. It is strict: a row
// handed out lives only between acquire and release, and gradients start as NaN, so a tensor that
// nobody assigned shows.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "model/param_access.h"
#include "model/param_layout.h"

namespace lathe {

/// The elements of a floating-point tensor.
inline std::vector<double> to_host(Backend& backend, const Tensor& tensor) {
    const auto size = static_cast<size_t>(tensor.size());
    std::vector<double> values(size);
    if (tensor.dtype() == DType::f64) {
        backend.copy_to_host(values.data(), tensor);
    } else if (tensor.dtype() == DType::f32) {
        std::vector<float> narrow(size);
        backend.copy_to_host(narrow.data(), tensor);
        values.assign(narrow.begin(), narrow.end());
    } else {
        std::vector<bf16> narrow(size);
        backend.copy_to_host(narrow.data(), tensor);
        for (size_t i = 0; i < size; ++i) {
            values[i] = static_cast<double>(static_cast<float>(narrow[i]));
        }
    }
    return values;
}

/// Rounds `values` to the tensor's type and copies them in.
inline void from_host(Backend& backend, const Tensor& tensor, std::span<const double> values) {
    LATHE_CHECK(static_cast<int64_t>(values.size()) == tensor.size(), "{} values for {} elements",
                values.size(), tensor.size());
    if (tensor.dtype() == DType::f64) {
        backend.copy_from_host(tensor, values.data());
    } else if (tensor.dtype() == DType::f32) {
        const std::vector<float> narrow(values.begin(), values.end());
        backend.copy_from_host(tensor, narrow.data());
    } else {
        std::vector<bf16> narrow;
        for (const double value : values) {
            narrow.push_back(bf16(static_cast<float>(value)));
        }
        backend.copy_from_host(tensor, narrow.data());
    }
}

class SimpleParams : public ParamAccess {
  public:
    SimpleParams(const ModelConfig& config, const ParamLayout& layout, Backend& backend,
                 DType compute, uint64_t seed)
        : layout_(layout), backend_(backend), compute_(compute) {
        for (int unit = 0; unit < layout.num_units(); ++unit) {
            std::vector<float> initial(
                static_cast<size_t>(layout.units()[static_cast<size_t>(unit)].size));
            initialize(layout, config, unit, 0, seed, initial);
            values_.emplace_back(initial.begin(), initial.end());
        }
        rows_.resize(values_.size());
        uses_.resize(values_.size());
        gradients_.resize(values_.size());
        ready_.resize(values_.size());
    }

    Tensor acquire(int unit) override {
        const auto u = static_cast<size_t>(unit);
        if (uses_.at(u)++ == 0) {
            rows_[u] = backend_.allocate({static_cast<int64_t>(values_[u].size())}, compute_,
                                         MemoryCategory::parameters);
            from_host(backend_, rows_[u], values_[u]);
        }
        return rows_[u];
    }

    void release(int unit) override {
        const auto u = static_cast<size_t>(unit);
        if (--uses_.at(u) == 0) {
            rows_[u].reset();
        }
    }

    Tensor gradients(int unit) override {
        const auto u = static_cast<size_t>(unit);
        if (!gradients_.at(u) || ready_[u]) {
            const std::vector<double> poison(values_[u].size(),
                                             std::numeric_limits<double>::quiet_NaN());
            gradients_[u] =
                backend_.allocate({static_cast<int64_t>(poison.size())},
                                  accumulation_dtype(compute_), MemoryCategory::gradients);
            from_host(backend_, gradients_[u], poison);
            ready_[u] = false;
        }
        return gradients_[u];
    }

    void gradients_ready(int unit) override {
        LATHE_CHECK(gradients_.at(static_cast<size_t>(unit)) && !ready_[static_cast<size_t>(unit)],
                    "unit {} is announced twice or without a gradient", unit);
        ready_[static_cast<size_t>(unit)] = true;
        ready_order_.push_back(unit);
    }

    /// The values of a unit, padding included: rounded to the compute type when acquired.
    std::vector<double>& values(int unit) { return values_.at(static_cast<size_t>(unit)); }

    /// The values of one tensor.
    std::span<double> values(const ParamTensor& tensor) {
        return std::span(values(tensor.unit))
            .subspan(static_cast<size_t>(tensor.offset), static_cast<size_t>(tensor.shape.size()));
    }

    /// The last micro-batch's gradient of one tensor.
    std::vector<double> gradient(const ParamTensor& tensor) {
        LATHE_CHECK(ready_.at(static_cast<size_t>(tensor.unit)), "no gradient of {} is ready",
                    tensor.name);
        return to_host(backend_, view_of(gradients_[static_cast<size_t>(tensor.unit)], tensor));
    }

    /// The last micro-batch's gradients of all tensors, by name.
    std::map<std::string, std::vector<double>> all_gradients() {
        std::map<std::string, std::vector<double>> all;
        for (const ParamTensor& tensor : layout_.tensors()) {
            all[tensor.name] = gradient(tensor);
        }
        return all;
    }

    /// values -= learning_rate * gradients.
    void descend(double learning_rate) {
        for (const ParamTensor& tensor : layout_.tensors()) {
            const std::vector<double> d = gradient(tensor);
            const std::span<double> v = values(tensor);
            for (size_t i = 0; i < d.size(); ++i) {
                v[i] -= learning_rate * d[i];
            }
        }
    }

    /// Units in the order in which their gradients were announced.
    const std::vector<int>& ready_order() const { return ready_order_; }

    bool all_released() const {
        for (const int uses : uses_) {
            if (uses != 0) {
                return false;
            }
        }
        return true;
    }

  private:
    const ParamLayout& layout_;
    Backend& backend_;
    DType compute_;
    std::vector<std::vector<double>> values_;
    std::vector<Buffer> rows_;
    std::vector<int> uses_;
    std::vector<Buffer> gradients_;
    std::vector<bool> ready_;
    std::vector<int> ready_order_;
};

}  // namespace lathe
