// Matrix products with their epilogues, and the gradient of a bias.
#include <vector>

#include "kernels/reference/compute.h"
#include "kernels/reference/values.h"

namespace lathe::reference {
namespace {

/// The tensor's elements, row-major, as a matrix; transposed if asked.
std::vector<double> load_matrix(const Tensor& tensor, bool transpose) {
    std::vector<double> values = load(tensor);
    if (!transpose) {
        return values;
    }
    const auto rows = static_cast<size_t>(tensor.rows());
    const auto columns = static_cast<size_t>(tensor.columns());
    std::vector<double> transposed(values.size());
    for (size_t i = 0; i < rows; ++i) {
        for (size_t j = 0; j < columns; ++j) {
            transposed[j * rows + i] = values[i * columns + j];
        }
    }
    return transposed;
}

}  // namespace

void compute(const Matmul& op) {
    const auto m = static_cast<size_t>(op.transpose_a ? op.a.columns() : op.a.rows());
    const auto k = static_cast<size_t>(op.transpose_a ? op.a.rows() : op.a.columns());
    const auto n = static_cast<size_t>(op.transpose_b ? op.b.rows() : op.b.columns());
    const std::vector<double> a = load_matrix(op.a, op.transpose_a);
    const std::vector<double> b = load_matrix(op.b, op.transpose_b);
    const std::vector<double> bias = load(op.bias);
    const std::vector<double> residual = load(op.residual);
    std::vector<double> d = op.accumulate ? load(op.d) : std::vector<double>(m * n);

    for (size_t i = 0; i < m; ++i) {
        double* row = d.data() + i * n;
        for (size_t l = 0; l < k; ++l) {
            const double factor = a[i * k + l];
            for (size_t j = 0; j < n; ++j) {
                row[j] += factor * b[l * n + j];
            }
        }
        for (size_t j = 0; j < n && op.bias; ++j) {
            row[j] += bias[j];
        }
    }
    if (op.activation != Activation::none) {
        for (double& value : d) {
            value = rounded(value, op.a.dtype());
        }
        if (op.pre_activation) {
            store(op.pre_activation, d);
        }
        for (double& value : d) {
            value = activate(op.activation, value);
        }
    }
    for (size_t i = 0; i < d.size() && op.residual; ++i) {
        d[i] += residual[i];
    }
    store(op.d, d);
}

void compute(const BiasBackward& op) {
    const std::vector<double> d_y = load(op.d_y);
    std::vector<double> d_bias(static_cast<size_t>(op.d_y.columns()));
    for (size_t i = 0; i < d_y.size(); ++i) {
        d_bias[i % d_bias.size()] += d_y[i];
    }
    store(op.d_bias, d_bias);
}

}  // namespace lathe::reference
