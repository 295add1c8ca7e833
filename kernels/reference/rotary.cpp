// Rotary positions.
#include <vector>

#include "kernels/reference/compute.h"
#include "kernels/reference/values.h"

namespace lathe::reference {

void compute(const Rotary& op) {
    const auto rows = static_cast<size_t>(op.qkv.rows());
    const auto columns = static_cast<size_t>(op.qkv.columns());
    const auto time = static_cast<size_t>(op.qkv.shape()[1]);
    const auto head_size = static_cast<size_t>(op.heads.head_size);
    const auto rotated_heads = static_cast<size_t>(op.heads.heads + op.heads.kv_heads);
    const size_t half = head_size / 2;
    const std::vector<double> table = load(op.table);
    std::vector<double> qkv = load(op.qkv);
    for (size_t row = 0; row < rows; ++row) {
        const size_t position = static_cast<size_t>(op.first_position) + row % time;
        for (size_t h = 0; h < rotated_heads; ++h) {
            double* head = qkv.data() + row * columns + h * head_size;
            for (size_t i = 0; i < half; ++i) {
                const double cosine = table[position * head_size + i];
                const double sine = table[position * head_size + half + i] * (op.inverse ? -1 : 1);
                const double u = head[i];
                const double v = head[i + half];
                head[i] = u * cosine - v * sine;
                head[i + half] = v * cosine + u * sine;
            }
        }
    }
    store(op.qkv, qkv);
}

}  // namespace lathe::reference
