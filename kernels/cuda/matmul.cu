// Matmul: which kernel makes the sums, and what becomes of the parts of a split sum. The kernels
// stand in matmul_bf16.cu, matmul_f32.cu and matmul_few_rows.cu.
#include <algorithm>
#include <limits>

#include "kernels/cuda/cuda_backend_impl.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/matmul_cublas.h"
#include "kernels/cuda/matmul_epilogue.h"

namespace lathe::cuda {
namespace {

constexpr int kThreads = 128;

/// Finishes kCount neighbouring outputs a thread: each the sum of `parts` sums, in order.
template <typename T, typename D, typename Source, int kCount>
__global__ void __launch_bounds__(kThreads)
    finish_kernel(const Source* sums, int64_t parts, const __grid_constant__ Epilogue e) {
    const int64_t groups_of_row = (e.columns + kCount - 1) / kCount;
    const int64_t group = int64_t{blockIdx.x} * kThreads + threadIdx.x;
    const int64_t row = group / groups_of_row;
    const int64_t column = group % groups_of_row * kCount;
    if (row >= e.rows) {
        return;
    }
    const int count = static_cast<int>(min(e.columns - column, int64_t{kCount}));
    const bool whole = e.aligned && count == kCount;
    const int64_t offset = row * e.columns + column;
    float total[kCount];
    load_group(sums + offset, whole, count, total);
    for (int64_t part = 1; part < parts; ++part) {
        add_group<Source>(sums, part * e.rows * e.columns + offset, whole, count, total);
    }
    finish<T, D>(e, row, column, total);
}

template <typename T, typename D, typename Source>
void launch_finish(const void* sums, int64_t parts, Epilogue e, cudaStream_t stream) {
    constexpr int kCount = 16 / sizeof(D);
    e.aligned = e.aligned && are_aligned(sums);
    const int64_t groups = e.rows * divide_up(e.columns, kCount);
    launch("Matmul", finish_kernel<T, D, Source, kCount>,
           {.blocks = dim3(static_cast<unsigned>(divide_up(groups, kThreads))),
            .threads = dim3(kThreads),
            .stream = stream},
           static_cast<const Source*>(sums), parts, e);
}

/// The element at (extent, depth) of an operand of Matmul.
Operand make_operand(const Tensor& tensor, bool depth_first) {
    const int64_t columns = tensor.columns();
    return {.data = tensor.data(),
            .extent = depth_first ? columns : tensor.rows(),
            .extent_stride = depth_first ? 1 : columns,
            .depth_stride = depth_first ? columns : 1,
            .aligned = are_aligned(tensor.data()) && columns * size_of(tensor.dtype()) % 16 == 0};
}

Epilogue make_epilogue(const Matmul& op) {
    return {.d = op.d.data(),
            .rows = op.d.rows(),
            .columns = op.d.columns(),
            .wide = op.d.dtype() == DType::f32,
            .accumulate = op.accumulate,
            .bias = op.bias.data(),
            .activation = op.activation,
            .pre_activation = op.pre_activation.data(),
            .residual = op.residual.data(),
            .aligned = are_aligned(op.d.data(), op.bias.data(), op.pre_activation.data(),
                                   op.residual.data()) &&
                       op.d.columns() * size_of(op.a.dtype()) % 16 == 0};
}

/// The parts' epilogue: plain f32 sums.
Epilogue to_partials(const Epilogue& e, void* partials) {
    return {.d = partials,
            .rows = e.rows,
            .columns = e.columns,
            .wide = true,
            .aligned = are_aligned(partials) && e.columns % 4 == 0};
}

void multiply_native(const Matmul& op, const DeviceProfile& device, cudaStream_t stream) {
    const MatmulPlan plan = plan_matmul(op, device);
    const Product product = {.a = make_operand(op.a, op.transpose_a),
                             .b = make_operand(op.b, !op.transpose_b),
                             .depth = plan.k,
                             .splits = plan.splits,
                             .split_depth = plan.split_depth};
    const Epilogue epilogue = make_epilogue(op);
    const DType compute = op.a.dtype();
    if (plan.kernel == MatmulKernel::few_rows && product.a.aligned && product.b.aligned) {
        multiply_few_rows(compute, product, epilogue, stream);
        return;
    }
    const bool split = plan.splits > 1;
    const Epilogue of_sums = split ? to_partials(epilogue, op.workspace.data()) : epilogue;
    if (compute == DType::bf16) {
        multiply_bf16(product, plan.kernel, of_sums, stream);
    } else {
        multiply_f32(product, plan.kernel, of_sums, stream);
    }
    if (split) {
        finish_partials(compute, static_cast<const float*>(op.workspace.data()), plan.splits,
                        epilogue, stream);
    }
}

/// Through cuBLASLt, which adds the bias and what d is added to. Its GELU is of the value before it
/// is rounded, so that is left to the kernels here, as is a bias or residual narrower than d.
void multiply_cublas(CublasMatmul& library, const Matmul& op, const DeviceProfile& device,
                     cudaStream_t stream) {
    const DType compute = op.a.dtype();
    const int64_t workspace_bytes = cublas_workspace_bytes(device);
    Epilogue rest = make_epilogue(op);
    CublasProduct product = {.a = op.a,
                             .b = op.b,
                             .transpose_a = op.transpose_a,
                             .transpose_b = op.transpose_b,
                             .d = op.d.data(),
                             .d_type = op.d.dtype(),
                             .workspace = op.workspace.data(),
                             .workspace_bytes = workspace_bytes};
    if (op.activation != Activation::none) {
        product.d = needs_cublas_pre_activation(op)
                        ? static_cast<std::byte*>(op.workspace.data()) + workspace_bytes
                        : op.pre_activation.data();
        product.d_type = compute;
        product.bias = op.bias.data();
        library.multiply(product, stream);
        rest.bias = nullptr;
        rest.pre_activation = nullptr;
        finish_rounded(compute, product.d, rest, stream);
        return;
    }
    const bool narrow = op.d.dtype() == compute;
    product.bias = narrow ? op.bias.data() : nullptr;
    product.added = op.accumulate ? op.d.data() : narrow ? op.residual.data() : nullptr;
    library.multiply(product, stream);
    if (!narrow && (op.bias || op.residual)) {
        finish_partials(compute, op.d.as<float>(), 1, rest, stream);
    }
}

}  // namespace

void finish_partials(DType compute, const float* partials, int64_t splits, const Epilogue& e,
                     cudaStream_t stream) {
    if (compute == DType::f32) {
        launch_finish<float, float, float>(partials, splits, e, stream);
    } else if (e.wide) {
        launch_finish<Bf16, float, float>(partials, splits, e, stream);
    } else {
        launch_finish<Bf16, Bf16, float>(partials, splits, e, stream);
    }
}

void finish_rounded(DType compute, const void* sums, const Epilogue& e, cudaStream_t stream) {
    if (compute == DType::f32) {
        launch_finish<float, float, float>(sums, 1, e, stream);
    } else if (e.wide) {
        launch_finish<Bf16, float, Bf16>(sums, 1, e, stream);
    } else {
        launch_finish<Bf16, Bf16, Bf16>(sums, 1, e, stream);
    }
}

void CudaBackend::execute(const Matmul& op, Stream stream) {
    if (op.d.size() == 0) {
        return;
    }
    LATHE_CHECK(op.a.dtype() != DType::f64, "the CUDA backend computes in f32 and bf16, not f64");
    for (const Tensor& tensor : {op.a, op.b}) {
        LATHE_CHECK(std::max(tensor.rows(), tensor.columns()) <= std::numeric_limits<int>::max(),
                    "Matmul: {} is too long for the CUDA kernels", tensor.shape().text());
    }
    const bool is_empty_sum = op.a.size() == 0;  // which cuBLASLt refuses
    if (cublas_ != nullptr && !is_empty_sum) {
        multiply_cublas(*cublas_, op, profile_, this->stream(stream));
    } else {
        multiply_native(op, profile_, this->stream(stream));
    }
}

}  // namespace lathe::cuda
