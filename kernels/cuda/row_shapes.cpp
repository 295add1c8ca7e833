// Workspace of the operations on rows and flat arrays.
#include "kernels/cuda/column_shapes.h"
#include "kernels/cuda/device_profile.h"
#include "kernels/cuda/embedding_shapes.h"

namespace lathe::cuda {

int64_t workspace_bytes(const BiasBackward& op, const DeviceProfile& device) {
    const DType compute = op.d_y.dtype();
    const int64_t columns = op.d_y.columns();
    return 4 * num_column_chunks(compute, op.d_y.rows(), columns, device) *
           partial_columns(compute, columns);
}

int64_t workspace_bytes(const NormBackward& op, const DeviceProfile& device) {
    const DType compute = op.x.dtype();
    const int64_t columns = op.x.columns();
    // Alignment, which shapes do not tell, decides which of the two is used.
    const int64_t chunks = std::max(num_norm_chunks(op.x.rows(), device),
                                    num_column_chunks(compute, op.x.rows(), columns, device));
    return 4 * 2 * chunks * partial_columns(compute, columns);
}

int64_t workspace_bytes(const EmbeddingBackward& op, const DeviceProfile&) {
    const int64_t count = op.tokens.size();
    return 4 * (2 * num_windows(count) * op.d_y.columns() + op.d_token_table.rows()) +
           sort_workspace_bytes(count);
}

// Nothing: they read their arguments once, and keep what they need in registers.
int64_t workspace_bytes(const Gelu&, const DeviceProfile&) { return 0; }
int64_t workspace_bytes(const GeluBackward&, const DeviceProfile&) { return 0; }
int64_t workspace_bytes(const Swiglu&, const DeviceProfile&) { return 0; }
int64_t workspace_bytes(const SwigluBackward&, const DeviceProfile&) { return 0; }
int64_t workspace_bytes(const Cast&, const DeviceProfile&) { return 0; }
int64_t workspace_bytes(const CrossEntropy&, const DeviceProfile&) { return 0; }
int64_t workspace_bytes(const Embedding&, const DeviceProfile&) { return 0; }
int64_t workspace_bytes(const Norm&, const DeviceProfile&) { return 0; }
int64_t workspace_bytes(const AdamW&, const DeviceProfile&) { return 0; }
int64_t workspace_bytes(const Accumulate&, const DeviceProfile&) { return 0; }
int64_t workspace_bytes(const SquaredNorm&, const DeviceProfile&) { return 0; }
int64_t workspace_bytes(const Rotary&, const DeviceProfile&) { return 0; }

}  // namespace lathe::cuda
