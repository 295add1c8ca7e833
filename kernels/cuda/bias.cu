// Gradient of a bias: the sum of the rows.
#include "kernels/cuda/column_shapes.h"
#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/cuda_backend_impl.h"
#include "kernels/cuda/launch.h"

namespace lathe::cuda {

void CudaBackend::execute(const BiasBackward& op, Stream stream) {
    const DType compute = op.d_y.dtype();
    const int64_t columns = op.d_y.columns();
    if (columns == 0) {
        return;
    }
    const Partials partials = {
        .data = static_cast<float*>(op.workspace.data()),
        .chunks = num_column_chunks(compute, op.d_y.rows(), columns, profile_),
        .stride = partial_columns(compute, columns),
    };
    for_compute_type(compute, [&](auto type) {
        using T = decltype(type);
        const SummedRows<T> rows = {
            .d_y = static_cast<const T*>(op.d_y.data()), .rows = op.d_y.rows(), .columns = columns};
        sum_row_chunks("BiasBackward", rows, partials, this->stream(stream));
    });
    sum_partials("BiasBackward", partials, pack_size(compute), columns, op.d_bias.as<float>(),
                 nullptr, this->stream(stream));
}

}  // namespace lathe::cuda
